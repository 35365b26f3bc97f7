//! The official x402 client from npm, run by Node: as a payer (`x402-client/pay.mjs`), and as a wallet that comes back
//! (`x402-client/come_back.mjs`).
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
    pay_as(url, body, key_hex, "").await
}

/// The same, signed in by a bearer token.
///
/// # Errors
/// As [`pay`].
pub async fn pay_as(url: &str, body: Option<&Value>, key_hex: &str, token: &str) -> Result<Answer> {
    let folder = npm::installed("x402-client").await?;
    let mut command = Command::new("node");
    command.arg("pay.mjs").arg(url).current_dir(folder);
    command.args(body.map(Value::to_string));
    command.env("X402_PRIVATE_KEY", key_hex);
    if !token.is_empty() {
        command.env("BEARER_TOKEN", token);
    }
    let output = npm::run(command, PAY_TIMEOUT).await?;
    serde_json::from_str(&output).with_context(|| format!("pay.mjs printed {output:?}"))
}

/// Asks as a wallet, under a challenge of its own for each (method, path below `api_url`): (status, body) of each.
///
/// # Errors
/// The client finds fault with what it made, nothing answered, or Node or npm is missing.
pub async fn come_back(
    api_url: &str,
    asked: &[(&str, &str)],
    key_hex: &str,
) -> Result<Vec<(u64, Value)>> {
    let answers = run_come_back(api_url, asked, key_hex, None).await?;
    answers
        .into_iter()
        .map(|mut answer| {
            let status = answer["status"].as_u64().context("a status")?;
            Ok((status, answer["body"].take()))
        })
        .collect()
}

/// What the official checks say of the extensions of decoded v2 terms: `{"bazaar", "errors", "named"}`.
///
/// # Errors
/// As [`come_back`].
pub async fn judge_extensions(terms: &Value) -> Result<Value> {
    let key = format!("0x{}", "01".repeat(32));
    let answers = run_come_back("http://127.0.0.1", &[], &key, Some(terms)).await?;
    answers.into_iter().next().context("a verdict")
}

async fn run_come_back(
    api_url: &str,
    asked: &[(&str, &str)],
    key_hex: &str,
    terms: Option<&Value>,
) -> Result<Vec<Value>> {
    let folder = npm::installed("x402-client").await?;
    let mut command = Command::new("node");
    command
        .arg("come_back.mjs")
        .arg(api_url)
        .current_dir(folder);
    command.args(asked.iter().flat_map(|(method, path)| [*method, *path]));
    command.env("X402_PRIVATE_KEY", key_hex);
    command.envs(terms.map(|terms| ("X402_TERMS", terms.to_string())));
    let output = npm::run(command, PAY_TIMEOUT).await?;
    serde_json::from_str(&output).with_context(|| format!("come_back.mjs printed {output:?}"))
}
