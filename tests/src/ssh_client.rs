//! The stock OpenSSH client, with a key and a list of known hosts of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use coordinator::store::testing::TempDir;
use serde_json::json;

use crate::{api::Api, payer::Rented};

/// A client's folder: its key, and the gateway that it knows.
#[derive(Debug)]
pub struct SshClient {
    folder: TempDir,
    host: String,
    port: String,
}

impl SshClient {
    /// Makes a key, and learns from the market whom it will meet.
    ///
    /// # Panics
    /// If the market offers no SSH, or there is no OpenSSH.
    pub async fn of(market: &Api) -> Self {
        let folder = TempDir::new();
        let gateway = market.get("/gateway/ssh").await.is(200);
        let known = gateway["known_hosts"].as_str().expect("a line");
        fs::write(folder.path().join("known_hosts"), format!("{known}\n")).expect("written");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f"]);
        let made = keygen.arg(folder.path().join("key")).status();
        assert!(made.expect("ssh-keygen runs").success());
        Self {
            folder,
            host: gateway["host"].as_str().expect("a host").to_owned(),
            port: gateway["port"].to_string(),
        }
    }

    /// A file of the client's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The line that opens a rental to this client.
    ///
    /// # Panics
    /// If it can't be read.
    #[must_use]
    pub fn public_key(&self) -> String {
        let line = fs::read_to_string(self.path("key.pub")).expect("a key");
        line.trim().to_owned()
    }

    /// Lets the client into a rental, and nobody else.
    pub async fn let_into(&self, rented: &Rented) {
        let path = format!("/rentals/{}/ssh-keys", rented.id);
        let body = json!({"ssh_keys": [self.public_key()]});
        let request = rented.api.request("PUT", &path).json(&body);
        crate::api::send(request).await.is(200);
    }

    /// The words that make a client of OpenSSH use this folder and nothing of whoever runs it.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let set = [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", self.path("known_hosts").display()),
            format!("IdentityFile={}", self.path("key").display()),
            format!("Port={}", self.port),
        ];
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        options.extend(set.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        options
    }

    /// `rnt_…@host`.
    #[must_use]
    pub fn target(&self, rental: &str) -> String {
        format!("{rental}@{}", self.host)
    }

    /// A program of OpenSSH with the client's options and these words, with nothing to read.
    #[must_use]
    pub fn command(&self, program: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(self.options()).args(more).stdin(Stdio::null());
        command
    }

    /// Runs a command in a rental, with these words before where it is.
    ///
    /// # Panics
    /// If there is no ssh.
    #[must_use]
    pub fn ssh(&self, rental: &str, more: &[&str], command: &str) -> Output {
        let mut ssh = self.command("ssh", more);
        ssh.arg(self.target(rental)).arg(command);
        ssh.output().expect("ssh runs")
    }

    /// What a command in a rental writes.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn says(&self, rental: &str, command: &str) -> String {
        let output = self.ssh(rental, &[], command);
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Forwards (`-L`, `-D`) until it is dropped; `what` as ssh has it.
    ///
    /// # Panics
    /// If there is no ssh.
    #[must_use]
    pub fn forward(&self, rental: &str, what: &[&str]) -> Forward {
        let mut ssh = self.command("ssh", &["-N", "-o", "ExitOnForwardFailure=yes"]);
        let child = ssh.args(what).arg(self.target(rental)).spawn();
        Forward(child.expect("it starts"))
    }
}

/// A client that only forwards, ended when dropped.
#[derive(Debug)]
pub struct Forward(Child);

impl Drop for Forward {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Writes a file of bytes that nothing repeats by chance.
///
/// # Panics
/// If it can't.
pub fn noise(path: &Path, bytes: u64) {
    use std::io::Read as _;
    let mut random = fs::File::open("/dev/urandom")
        .expect("a source")
        .take(bytes);
    let mut file = fs::File::create(path).expect("a file");
    std::io::copy(&mut random, &mut file).expect("copied");
}

/// A file's SHA-256, in hex.
///
/// # Panics
/// If it can't be read.
#[must_use]
pub fn sha256(path: &Path) -> String {
    use std::io::Read as _;
    let mut file = fs::File::open(path).expect("a file");
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut bytes = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut bytes).expect("bytes");
        if read == 0 {
            return hex::encode(hash.finish());
        }
        hash.update(&bytes[..read]);
    }
}
