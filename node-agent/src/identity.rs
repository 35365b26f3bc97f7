//! Who this node is: its private key and what enrolment told it.
//!
//! # Invariants
//! - The key file has mode 0600, is durable before anything is signed with it, and is never overwritten.
//! - A data folder with an identity always has the key that it was enrolled with.

use std::{io, os::unix::fs::PermissionsExt as _, sync::Arc};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::{
    id::NodeId,
    secret::Secret,
    sign::{PublicKey, SigningKey},
};

use crate::{data_dir::DataDir, durable, endpoint::BaseUrl};

/// `identity.json`: what enrolment told this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// This node.
    pub node_id: NodeId,
    /// Where requests go.
    pub url: String,
    /// What signatures are made over.
    pub public_url: String,
    /// With which the coordinator signs acknowledgements.
    pub coordinator_key: PublicKey,
}

/// An enrolled node.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This node.
    pub node_id: NodeId,
    /// Where requests go.
    pub url: BaseUrl,
    /// What signatures are made over.
    pub public_url: BaseUrl,
    /// With which the coordinator signs acknowledgements.
    pub coordinator_key: PublicKey,
    /// With which this node signs.
    pub key: Arc<SigningKey>,
}

impl Identity {
    /// Puts together what is stored and the key; checks both URLs.
    ///
    /// # Errors
    /// A URL is of the wrong form.
    pub fn new(stored: &Stored, key: SigningKey) -> anyhow::Result<Self> {
        Ok(Self {
            node_id: stored.node_id,
            url: BaseUrl::to_connect(&stored.url)?,
            public_url: BaseUrl::to_sign(&stored.public_url)?,
            coordinator_key: stored.coordinator_key,
            key: Arc::new(key),
        })
    }

    /// Reads the identity of an enrolled node.
    ///
    /// # Errors
    /// Not enrolled, or a file is damaged or readable by others.
    pub fn load(dir: &DataDir) -> anyhow::Result<Self> {
        let path = dir.identity();
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => anyhow::bail!(
                "this machine isn't enrolled (no {}); run: ramarket-agent enroll --url https://… --token-file …",
                path.display()
            ),
            other => other.with_context(|| format!("{} can't be read", path.display()))?,
        };
        let stored: Stored = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged; restore it, or enrol anew with --force",
                path.display()
            )
        })?;
        let key = read_key(dir)?.with_context(|| {
            format!(
                "the key {} is missing; restore it, or enrol anew with --force",
                dir.key().display()
            )
        })?;
        Self::new(&stored, key)
    }
}

/// By which label value this machine's containers are known: the id of the first node that it was.
///
/// # Errors
/// The file can't be read.
pub fn container_scope(dir: &DataDir, node_id: NodeId) -> anyhow::Result<String> {
    let path = dir.scope();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .trim()
            .parse::<NodeId>()
            .with_context(|| format!("{} is damaged; it should hold a node id", path.display()))?
            .to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(node_id.to_string()),
        Err(error) => Err(error).with_context(|| format!("{} can't be read", path.display())),
    }
}

/// The key of this folder: the one that is there, or a new one, durable on return.
///
/// # Errors
/// The key can't be read or written.
pub(crate) fn key_or_new(dir: &DataDir) -> anyhow::Result<SigningKey> {
    if let Some(key) = read_key(dir)? {
        return Ok(key);
    }
    let pkcs8 = Secret::new(SigningKey::generate_pkcs8()?);
    durable::create(&dir.key(), pkcs8.expose(), 0o600)
        .with_context(|| format!("the new key can't be written to {}", dir.key().display()))?;
    Ok(SigningKey::from_pkcs8(pkcs8.expose())?)
}

fn read_key(dir: &DataDir) -> anyhow::Result<Option<SigningKey>> {
    let path = dir.key();
    let mode = match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other
            .with_context(|| format!("the key {} can't be read", path.display()))?
            .permissions()
            .mode(),
    };
    anyhow::ensure!(
        mode & 0o077 == 0,
        "the key {} can be read by others (mode {:o}); run chmod 600 on it, and enrol anew with --force if anybody may have copied it",
        path.display(),
        mode & 0o777
    );
    let pkcs8 = Secret::new(
        std::fs::read(&path)
            .with_context(|| format!("the key {} can't be read", path.display()))?,
    );
    let key = SigningKey::from_pkcs8(pkcs8.expose()).with_context(|| {
        format!(
            "the key {} is damaged; restore it, or enrol anew with --force",
            path.display()
        )
    })?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_key_is_made_once_and_kept_to_its_owner() {
        let temp = TempDir::new();
        let dir = DataDir::new(temp.path());
        let key = key_or_new(&dir).expect("made");
        assert_eq!(key_or_new(&dir).expect("kept").public(), key.public());
        let metadata = std::fs::metadata(dir.key()).expect("metadata");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(dir.key(), std::fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(
            key_or_new(&dir)
                .expect_err("refused")
                .to_string()
                .contains("chmod 600")
        );
    }

    #[test]
    fn a_machine_that_is_not_enrolled_is_told_how() {
        let temp = TempDir::new();
        let text = Identity::load(&DataDir::new(temp.path()))
            .expect_err("refused")
            .to_string();
        assert!(text.contains("ramarket-agent enroll"), "{text}");
    }
}
