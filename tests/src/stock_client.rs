//! The official x402 client from npm as a payer: `x402-client/pay.mjs`, run by Node.
//!
//! # Invariants
//! - The client's packages are those of the committed lock file, installed once by `npm ci`.
//! - Nothing of it is configured but the key: default spend limits hold.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

const PAY_TIMEOUT: Duration = Duration::from_secs(60);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

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
    let folder = installed().await?;
    let mut command = Command::new("node");
    command.arg("pay.mjs").arg(url).current_dir(folder);
    command.args(body.map(Value::to_string));
    command.env("X402_PRIVATE_KEY", key_hex);
    let output = run(command, PAY_TIMEOUT).await?;
    serde_json::from_str(&output).with_context(|| format!("pay.mjs printed {output:?}"))
}

/// Installs the client's packages unless they are those of the lock file. Returns its folder.
async fn installed() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("x402-client");
    tokio::task::spawn_blocking(move || {
        // tests are several processes: one installs, the others wait
        let lock = File::open(folder.join("package-lock.json"))?;
        lock.lock()?;
        let wanted = std::fs::read(folder.join("package-lock.json"))?;
        let stamp = folder.join("node_modules/.installed-lock.json");
        let runtime = tokio::runtime::Handle::current();
        if !std::fs::read(&stamp).is_ok_and(|found| found == wanted) {
            let mut command = Command::new("npm");
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            command.current_dir(&folder);
            runtime.block_on(run(command, INSTALL_TIMEOUT))?;
            std::fs::write(&stamp, wanted)?;
        }
        Ok(folder)
    })
    .await?
}

async fn run(mut command: Command, timeout: Duration) -> Result<String> {
    let shown = format!("{:?}", command.as_std().get_program());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(timeout, command.output())
        .await
        .with_context(|| format!("{shown} took longer than {timeout:?}"))?
        .with_context(|| format!("{shown} can't be started: apt-get install nodejs npm"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{shown} failed ({}): {}", output.status, errors.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
