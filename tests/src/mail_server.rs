//! A real SMTP server as a process: `mail-server/server.mjs`, the npm package `smtp-server`.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{npm, wait};

/// What it lets in: user and password, as they are written in a URL.
pub const LOGIN: &str = "market:a%20relay%20password";

/// A mail that it took.
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// To whom, as the envelope says.
    pub to: Vec<String>,
    /// Head and body.
    pub raw: String,
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct MailServer {
    port: u64,
    mails: Arc<Mutex<Vec<Received>>>,
    // kill_on_drop
    _child: Child,
}

impl MailServer {
    /// `mode` is `plain`, or `starttls` with a certificate that nobody trusts.
    ///
    /// # Panics
    /// If Node or npm is missing, or it doesn't start.
    pub async fn start(mode: &str) -> Self {
        let folder = npm::installed("mail-server").await.expect("npm ci");
        let mut child = Command::new("node")
            .args(["server.mjs", mode])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts: apt-get install nodejs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next_line().await.expect("readable").expect("a line");
        let first: Value = serde_json::from_str(&first).expect("json");
        let mails = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&mails);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mail = serde_json::from_str(&line).expect("a mail");
                taken.lock().expect("no panic").push(mail);
            }
        });
        Self {
            port: first["port"].as_u64().expect("a port"),
            mails,
            _child: child,
        }
    }

    /// The setting `mail.smtp_url` that leads here; `login` is `user:password`, `query` such as `?tls=required`.
    #[must_use]
    pub fn url(&self, login: &str, query: &str) -> String {
        format!("smtp://{login}@127.0.0.1:{}{query}", self.port)
    }

    /// What it took so far.
    ///
    /// # Panics
    /// If the reader of its output panicked.
    #[must_use]
    pub fn mails(&self) -> Vec<Received> {
        self.mails.lock().expect("no panic").clone()
    }

    /// The first mail to `to`, once it is there.
    pub async fn mail_to(&self, to: &str) -> Received {
        wait::until("the mail arrives", async || {
            let mails = self.mails();
            mails
                .into_iter()
                .find(|mail| mail.to.iter().any(|it| it == to))
        })
        .await
    }
}
