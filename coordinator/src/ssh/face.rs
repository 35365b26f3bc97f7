//! How the gateway is known: where it is, and its host key.
//!
//! # Invariants
//! - The key is made once and stays; several coordinators that are reached under one name need the same file.

use anyhow::Context as _;
use russh::keys::{
    HashAlg, PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use shared::id::RentalId;

use crate::{config::Config, keys};

/// Where the gateway is, and by which key it is known.
#[derive(Debug)]
pub struct Face {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its host key.
    pub key: PrivateKey,
    /// The public half: type and base64.
    pub public_key: String,
    /// `SHA256:…`
    pub fingerprint: String,
}

impl Face {
    /// Of the settings; `None` where they don't offer SSH.
    ///
    /// # Errors
    /// The host key can't be read or made.
    pub fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(listen) = config.ssh.listen else {
            return Ok(None);
        };
        let given = config.ssh.host_key_file.as_deref();
        let dir = config.data_dir.join("keys");
        let pem = keys::open(given, &dir, "ssh_host_ed25519", new_key)?;
        let key = PrivateKey::from_openssh(&pem)
            .context("SSH host key: not a private key as ssh-keygen -t ed25519 writes it")?;
        let mut public = key.public_key().clone();
        public.set_comment("");
        Ok(Some(Self {
            host: config.ssh_host(),
            port: config.ssh.public_port.unwrap_or(listen.port()),
            public_key: public.to_openssh().context("SSH host key")?,
            fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
            key,
        }))
    }

    /// The line that makes a client know this gateway.
    #[must_use]
    pub fn known_hosts(&self) -> String {
        let name = match self.port {
            22 => self.host.clone(),
            port => format!("[{}]:{port}", self.host),
        };
        format!("{name} {}", self.public_key)
    }

    /// The command that opens a rental.
    #[must_use]
    pub fn command(&self, rental: RentalId) -> String {
        format!("ssh -p {} {rental}@{}", self.port, self.host)
    }
}

fn new_key() -> anyhow::Result<Vec<u8>> {
    let seed: [u8; 32] = keys::random_32()?
        .try_into()
        .map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment("ramarket");
    let pem = key.to_openssh(LineEnding::LF).context("make a host key")?;
    Ok(pem.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::TempDir;

    #[test]
    fn the_key_stays_and_is_known_by_its_fingerprint() {
        let folder = TempDir::new();
        let mut config = Config {
            data_dir: folder.path().to_owned(),
            ..Config::default()
        };
        assert!(Face::open(&config).expect("fine").is_none(), "not offered");
        config.ssh.listen = Some(([127, 0, 0, 1], 2222).into());
        let first = Face::open(&config).expect("fine").expect("a face");
        let second = Face::open(&config).expect("fine").expect("a face");
        assert_eq!(first.public_key, second.public_key);
        assert!(first.fingerprint.starts_with("SHA256:"));
        assert_eq!(
            first.known_hosts(),
            format!("[127.0.0.1]:2222 {}", first.public_key)
        );
        // another coordinator that is given the same file
        config.ssh.host_key_file = Some(folder.path().join("keys/ssh_host_ed25519"));
        config.data_dir = folder.path().join("other");
        let given = Face::open(&config).expect("fine").expect("a face");
        assert_eq!(given.fingerprint, first.fingerprint);
    }
}
