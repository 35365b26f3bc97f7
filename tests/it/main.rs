//! One binary for all system tests; each module says what it proves.

mod agent_report;
mod docker_runtime;
mod faults_agent;
mod faults_coordinator;
mod faults_cut_off;
mod faults_docker;
mod faults_enrol;
mod faults_lease;
mod faults_support;
mod journey_backup;
mod journey_capacity;
mod journey_client;
mod journey_ends;
mod journey_enrol;
mod journey_events;
mod journey_four_steps;
mod journey_not_supported;
mod journey_oom;
mod journey_races;
mod journey_rent_and_pay;
mod mail_by_smtp;
mod systemd_units;
mod tidy;
mod x402_stock_client;
