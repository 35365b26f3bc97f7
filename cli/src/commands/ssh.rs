//! `ssh`: the stock client, with a key of ours that the rental knows and host keys that the market published.
//!
//! # Invariants
//! - The key is made once, in the configuration folder; other keys of the rental stay.
//! - A host key that isn't the published one is refused: nobody is asked to believe one.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::Desk;
use crate::{
    api::{Auth, Request},
    args::reach::Ssh,
    failure::{Failure, Result},
    private_file,
};

/// Replaces this process by ssh.
pub(super) async fn ssh(desk: &Desk, wanted: &Ssh) -> Result<()> {
    let id = wanted.rental.to_string();
    let gateway = Request::get("/api/v1/gateway/ssh").auth(Auth::Anonymous);
    let gateway = desk.api.send(&gateway).await?.ok()?;
    let key = key(&desk.settings.folder)?;
    register(desk, &id, &key.with_extension("pub")).await?;
    let part = |name: &str| {
        let part = gateway.get(name).and_then(Value::as_str);
        part.ok_or_else(|| Failure::failed(format!("the market's answer has no {name}")))
    };
    let host = part("host")?;
    let known = desk.settings.folder.join(format!("known_hosts.{id}"));
    private_file::replace(&known, &format!("{}\n", part("known_hosts")?.trim_end()))?;
    let port = gateway["port"].as_u64().unwrap_or(22).to_string();
    let option = |name: &str, value: &Path| format!("{name}={}", value.display());
    let failed = Command::new("ssh")
        .args(["-p", &port, "-i"])
        .arg(&key)
        .args([
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
        ])
        .arg(option("UserKnownHostsFile", &known))
        .args(["-o", "GlobalKnownHostsFile=/dev/null"])
        .arg(format!("{id}@{host}"))
        .args(&wanted.args)
        .exec();
    Err(Failure::usage(format!(
        "ssh can't be run ({failed}): install OpenSSH's client"
    )))
}

/// Our key, made if there is none yet.
fn key(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("ssh_ed25519");
    if private_file::read(&path)?.is_some() {
        return Ok(path);
    }
    private_file::make_folder(&path)?;
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "ramarket", "-f"])
        .arg(&path)
        .stdin(Stdio::null())
        .status();
    match made {
        Ok(status) if status.success() => Ok(path),
        Ok(status) => Err(Failure::failed(format!("ssh-keygen ended with {status}"))),
        Err(error) => Err(Failure::usage(format!(
            "ssh-keygen can't be run ({error}): install OpenSSH's client"
        ))),
    }
}

/// Adds our key to those that open the rental.
async fn register(desk: &Desk, id: &str, public: &Path) -> Result<()> {
    let ours = fs::read_to_string(public)
        .map_err(|error| Failure::usage(format!("{}: {error}", public.display())))?;
    let ours = ours.trim().to_owned();
    let path = format!("/api/v1/rentals/{id}/ssh-keys");
    let auth = desk.auth_for(id)?;
    let there = Request::get(&path).auth(auth.clone());
    let there = desk.api.send(&there).await?.ok()?;
    let lines = there["items"].as_array().into_iter().flatten();
    let mut keys: Vec<String> = lines
        .filter_map(|key| key["public_key"].as_str().map(str::to_owned))
        .collect();
    if keys.iter().any(|key| is_same(key, &ours)) {
        return Ok(());
    }
    keys.push(ours);
    let all = Request::put(&path, json!({"ssh_keys": keys})).auth(auth);
    desk.api.send(&all).await?.ok().map(drop)
}

/// Whether two lines are of one key, whatever their comments.
fn is_same(one: &str, other: &str) -> bool {
    let key = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        words.join(" ")
    };
    key(one) == key(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_make_no_other_key() {
        assert!(is_same("ssh-ed25519 AAAA a@b", "ssh-ed25519 AAAA"));
        assert!(!is_same("ssh-ed25519 AAAA a@b", "ssh-ed25519 AAAB a@b"));
    }
}
