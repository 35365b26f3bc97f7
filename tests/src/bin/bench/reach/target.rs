//! Where an SSH client goes: to a rental by the gateway, or to an sshd of this machine.
//!
//! # Invariants
//! - Both are reached by the same stock client with the same options, and asked for the same commands.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::{Child, Command};

use crate::machine::until;

/// What the gateway speaks; the machine's own server is measured with it as well as with what it chooses itself.
pub(crate) const CIPHER: &str = "aes128-gcm@openssh.com";
const SSHD: &str = "/usr/sbin/sshd";
/// Where sshd, started by root, wants an empty folder.
const SSHD_EMPTY: &str = "/run/sshd";

/// An SSH server, and whom it lets in.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    destination: String,
    port: u16,
    known_hosts: PathBuf,
    key: PathBuf,
    cipher: Option<&'static str>,
}

impl Target {
    /// A rental, by what `GET /gateway/ssh` says.
    pub(crate) fn rental(
        folder: &Path,
        key: &Path,
        rental_id: &str,
        gateway: &serde_json::Value,
    ) -> Result<Self> {
        let known = gateway["known_hosts"].as_str().context("no known_hosts")?;
        let port = gateway["port"].as_u64().context("no port")?;
        let known_hosts = folder.join("known_hosts.gateway");
        fs::write(&known_hosts, format!("{known}\n"))?;
        let host = gateway["host"].as_str().context("no host")?;
        Ok(Self {
            destination: format!("{rental_id}@{host}"),
            port: u16::try_from(port)?,
            known_hosts,
            key: key.to_owned(),
            cipher: Some(CIPHER),
        })
    }

    /// The same server with the cipher that both sides choose by themselves.
    pub(crate) fn by_choice(&self) -> Self {
        Self {
            cipher: None,
            ..self.clone()
        }
    }

    /// Whether both are one server.
    pub(crate) fn is_where(&self, other: &Self) -> bool {
        (&self.destination, self.port) == (&other.destination, other.port)
    }

    /// The stock client, to run `command` there.
    pub(crate) fn ssh(&self, more: &[&str], command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none"]);
        for option in [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            // newer clients delay keys on purpose
            "IgnoreUnknown=ObscureKeystrokeTiming".to_owned(),
            "ObscureKeystrokeTiming=no".to_owned(),
            format!("UserKnownHostsFile={}", self.known_hosts.display()),
            format!("IdentityFile={}", self.key.display()),
            format!("Port={}", self.port),
        ] {
            ssh.args(["-o", &option]);
        }
        if let Some(cipher) = self.cipher {
            ssh.args(["-c", cipher]);
        }
        ssh.args(more).arg(&self.destination).arg(command);
        ssh.kill_on_drop(true);
        ssh
    }

    /// What a command prints, trimmed.
    pub(crate) async fn says(&self, command: &str, input: Stdio) -> Result<String> {
        let output = self.ssh(&[], command).stdin(input).output().await?;
        ensure!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

/// A key without a passphrase: its file, and the public line.
pub(crate) async fn make_key(folder: &Path, name: &str) -> Result<(PathBuf, String)> {
    let file = folder.join(name);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"]);
    let made = keygen.arg(&file).status().await.context("ssh-keygen")?;
    ensure!(made.success(), "ssh-keygen failed");
    let public = fs::read_to_string(file.with_extension("pub"))?;
    Ok((file, public.trim().to_owned()))
}

/// An sshd on loopback for one key. Killed when dropped.
pub(crate) struct Sshd {
    _process: Child,
    pub(crate) target: Target,
}

impl Sshd {
    /// `None` where there is none to start.
    pub(crate) async fn start(folder: &Path, key: &Path, public: &str) -> Result<Option<Self>> {
        if !Path::new(SSHD).exists() {
            return Ok(None);
        }
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all(SSHD_EMPTY)?;
        }
        let (host_key, host_public) = make_key(folder, "host_key").await?;
        let authorized = folder.join("authorized_keys");
        fs::write(&authorized, format!("{public}\n"))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let settings = folder.join("sshd_config");
        let text = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nPrintMotd no\nPrintLastLog no\n",
            host_key.display(),
            authorized.display()
        );
        fs::write(&settings, text)?;
        let process = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(&settings)
            .stdin(Stdio::null())
            .stderr(File::create(folder.join("sshd.log"))?)
            .kill_on_drop(true)
            .spawn()
            .context(SSHD)?;
        let known_hosts = folder.join("known_hosts.sshd");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {host_public}\n"))?;
        let user = Command::new("id").arg("-un").output().await?;
        let user = String::from_utf8(user.stdout)?;
        let target = Target {
            destination: format!("{}@127.0.0.1", user.trim()),
            port,
            known_hosts,
            key: key.to_owned(),
            cipher: Some(CIPHER),
        };
        until("sshd lets us in", async || {
            Ok(target.says("true", Stdio::null()).await.ok())
        })
        .await
        .with_context(|| format!("see {}", folder.display()))?;
        Ok(Some(Self {
            _process: process,
            target,
        }))
    }
}
