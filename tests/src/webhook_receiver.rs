//! Somebody's server for webhooks: `webhook-receiver/receive.mjs`, which checks them with the npm package `standardwebhooks`.

use std::process::Stdio;

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{npm, wait};

/// What the library said of a request.
#[derive(Debug, Clone, Deserialize)]
pub struct Checked {
    /// Whether signature and time hold.
    pub ok: bool,
    /// `webhook-id`.
    pub id: Option<String>,
    /// Of the body, if it holds.
    pub r#type: Option<String>,
    /// Why it doesn't.
    pub why: Option<String>,
}

/// A running receiver, ended when dropped.
#[derive(Debug)]
pub struct WebhookReceiver {
    url: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    // ends with its standard input, or by being dropped
    _child: Child,
}

impl WebhookReceiver {
    /// On a free port of loopback.
    ///
    /// # Panics
    /// If Node or npm is missing, or it doesn't start.
    pub async fn start() -> Self {
        let folder = npm::installed("webhook-receiver").await.expect("npm ci");
        let mut child = Command::new("node")
            .arg("receive.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts: apt-get install nodejs");
        let output = child.stdout.take().expect("its output");
        let mut receiver = Self {
            url: String::new(),
            input: child.stdin.take().expect("its input"),
            output: BufReader::new(output).lines(),
            _child: child,
        };
        let port: u16 = receiver.line().await.parse().expect("a port");
        receiver.url = format!("http://127.0.0.1:{port}/hook");
        receiver
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Checks with this secret from now on.
    ///
    /// # Panics
    /// If it has ended.
    pub async fn use_secret(&mut self, secret: &str) {
        let line = format!("{secret}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.expect("it reads");
        assert_eq!(self.line().await, "ready");
    }

    /// The next request that it checks.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn next(&mut self) -> Checked {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("it printed {line:?}"))
    }

    async fn line(&mut self) -> String {
        let line = timeout(wait::PATIENCE, self.output.next_line()).await;
        let line = line.expect("a line in time").expect("text");
        line.expect("the receiver has ended")
    }
}
