//! The client `ramarket` as a process, with a configuration folder of its own.

use std::process::Output;

use coordinator::store::testing::TempDir;
use serde_json::Value;

use crate::program;

/// Somebody at a terminal.
#[derive(Debug)]
pub struct Client {
    url: String,
    folder: TempDir,
}

impl Client {
    /// Of the market at `url`, with nothing configured.
    #[must_use]
    pub fn of(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            folder: TempDir::new(),
        }
    }

    /// The command line that runs a command: the program and its arguments.
    #[must_use]
    pub fn line(&self, arguments: &[&str]) -> Vec<std::ffi::OsString> {
        let program = program::command("ramarket");
        let folder = self.folder.path().join("config");
        let mut line = vec![
            program.get_program().to_owned(),
            "--url".into(),
            self.url.clone().into(),
            "--config-dir".into(),
            folder.into(),
        ];
        line.extend(arguments.iter().map(Into::into));
        line
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it can't be started.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(program::command("ramarket"));
        command
            .args(["--url", &self.url, "--config-dir"])
            .arg(self.folder.path().join("config"))
            .args(arguments);
        command.output().await.expect("it can be started")
    }

    /// Runs a command with `--json` and returns what it printed.
    ///
    /// # Panics
    /// If it fails or prints something else.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["--json"], arguments].concat()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }

    /// Runs a command that fails with this exit code; returns what it complained.
    ///
    /// # Panics
    /// If it ends otherwise.
    pub async fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.trim().is_empty(), "{arguments:?} says why");
        said
    }
}
