//! One binary for all system tests; each module says what it proves.

mod agent_report;
mod docker_runtime;
mod systemd_units;
mod tidy;
mod x402_stock_client;
