//! Running `ramarket` with a folder of its own.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

/// A person at a terminal: a configuration folder and a market.
pub(crate) struct Person {
    pub(crate) folder: PathBuf,
    url: String,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Person {
    pub(crate) fn new(url: &str) -> Self {
        let name = hex::encode(client::random::bytes::<8>().unwrap());
        Self {
            folder: std::env::temp_dir().join(format!("ramarket-it-{name}")),
            url: url.to_owned(),
        }
    }

    /// With a fresh wallet.
    pub(crate) async fn with_wallet(url: &str) -> Self {
        let person = Self::new(url);
        assert_eq!(person.run("wallet new --plain").await.code, 0);
        person
    }

    pub(crate) async fn run(&self, line: &str) -> Ended {
        self.run_with_input(line, "").await
    }

    pub(crate) async fn run_with_input(&self, line: &str, input: &str) -> Ended {
        let mut child = self.command(line).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        ended(child.wait_with_output().await.unwrap())
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ramarket"));
        command
            .args(["--url", &self.url, "--config-dir"])
            .arg(&self.folder)
            .args(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Sends it a signal, as `-TERM`.
pub(crate) async fn kill(child: &Child, signal: &str) {
    let id = child.id().unwrap().to_string();
    let killed = Command::new("kill").args([signal, &id]).status().await;
    assert!(killed.unwrap().success());
}

/// Sends it a signal again and again, as anybody does who sees that nothing happens; its exit code.
pub(crate) async fn kill_until_it_ends(child: &mut Child, signal: &str) -> Option<i32> {
    let ended = async {
        loop {
            kill(child, signal).await;
            if let Ok(ended) = timeout(Duration::from_secs(2), child.wait()).await {
                return ended.unwrap();
            }
        }
    };
    let ended = timeout(Duration::from_secs(60), ended).await;
    ended.expect("it ends").code()
}

fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().expect("it exits"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
