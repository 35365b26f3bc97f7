//! One binary for all system tests; each module says what it proves.

mod systemd_units;
mod tidy;
mod x402_stock_client;
