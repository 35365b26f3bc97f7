//! The outside world behind the slices' ports; named only by `app`.

mod body;
pub mod chain_rpc;
pub mod facilitator_http;
pub mod facilitator_sandbox;
mod letter;
pub mod mail_folder;
pub mod mail_smtp;
pub mod rates_fixed;
pub mod rates_http;
pub mod registry_http;
