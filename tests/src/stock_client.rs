//! The official x402 client from npm as a payer: `x402-client/pay.mjs`, run by Node.
//!
//! # Invariants
//! - The client's packages are those of the committed lock file, installed once by `npm ci`.
//! - Nothing of it is configured but the key: default spend limits hold.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::npm;

const PAY_TIMEOUT: Duration = Duration::from_secs(60);

/// What the client got in the end.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// HTTP status of the last response.
    pub status: u16,
    /// Its body: JSON, or a string if it isn't.
    pub body: Value,
    /// The decoded receipt; null without one.
    pub receipt: Value,
    /// The address that belongs to the key.
    pub payer: String,
}

/// Requests `url` and pays if asked to: `POST` with a JSON body, `GET` without one. `key_hex` is the private key, `0x…`.
///
/// # Errors
/// The client refused to pay (its words are in the error), nothing answered, or Node or npm is missing.
pub async fn pay(url: &str, body: Option<&Value>, key_hex: &str) -> Result<Answer> {
    let folder = npm::installed("x402-client").await?;
    let mut command = Command::new("node");
    command.arg("pay.mjs").arg(url).current_dir(folder);
    command.args(body.map(Value::to_string));
    command.env("X402_PRIVATE_KEY", key_hex);
    let output = npm::run(command, PAY_TIMEOUT).await?;
    serde_json::from_str(&output).with_context(|| format!("pay.mjs printed {output:?}"))
}
