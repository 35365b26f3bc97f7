//! Enrolment: a one-time token and a new key become a node.
//!
//! # Invariants
//! - The key is on disk before the request goes out, and a retry uses the same key: the coordinator answers the same token and key
//!   with the same node, so a lost answer costs nothing.
//! - The identity is written last. A folder with an identity is enrolled; one without can be tried again.
//! - An enrolled folder isn't enrolled again by accident; `--force` sets its files aside and deletes none, since the old journal
//!   is evidence of what the old node is owed.

use std::{
    io::{self, Read as _},
    path::Path,
};

use anyhow::Context as _;
use shared::{
    PROTOCOL_VERSION,
    clock::Clock,
    resources::Inventory,
    secret::Secret,
    wire::enroll::{DOMAIN, EnrollReply, EnrollRequest},
};

use crate::{
    data_dir::DataDir,
    durable,
    endpoint::BaseUrl,
    http,
    identity::{Identity, Stored, key_or_new},
    journal::Journal,
};

const TOKEN_BYTES_MAX: u64 = 4 * 1024;
/// How folders with an earlier enrolment's files are called.
const RETIRED: &str = "retired-";
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// How to enrol.
#[derive(Debug)]
pub struct Order {
    /// The coordinator.
    pub url: BaseUrl,
    /// The one-time token.
    pub token: Secret<String>,
    /// A name for people; the host's name unless given.
    pub name: Option<String>,
    /// Sets an earlier enrolment aside.
    pub force: bool,
}

/// Reads a token from a file, or from standard input for `-`.
///
/// # Errors
/// The file can't be read, or doesn't hold one token.
pub fn read_token(path: &Path) -> anyhow::Result<Secret<String>> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .take(TOKEN_BYTES_MAX)
            .read_to_string(&mut text)
            .context("the token can't be read from standard input")?;
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
            .with_context(|| format!("the token file {} can't be read", path.display()))?;
    }
    let token = text.trim();
    anyhow::ensure!(
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()),
        "{} doesn't hold an enrolment token: one line of text as the coordinator gave it",
        path.display()
    );
    Ok(Secret::new(token.to_owned()))
}

/// Enrols the machine that `inventory` describes and returns who it is now. The caller holds the folder's lock.
///
/// # Errors
/// It is enrolled already, the coordinator can't be reached or refuses, or a file can't be written.
pub async fn enroll(
    dir: &DataDir,
    order: Order,
    inventory: Inventory,
    clock: &dyn Clock,
) -> anyhow::Result<Identity> {
    if order.force {
        set_aside(dir, clock)?;
    } else if dir.identity().exists() {
        let node = Identity::load(dir)?.node_id;
        anyhow::bail!(
            "this machine is enrolled already, as {node}; run `ramarket-agent run`, or enrol it as a new node with --force"
        );
    }
    let key = key_or_new(dir)?;
    let request = EnrollRequest {
        proof: key.sign(DOMAIN, order.token.expose().as_bytes()),
        token: order.token.expose().clone(),
        public_key: key.public(),
        name: order.name.unwrap_or_else(|| inventory.hostname.clone()),
        inventory,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: PROTOCOL_VERSION,
    };
    let reply = send(&order.url, &request).await?;
    let stored = Stored {
        node_id: reply.node_id,
        url: order.url.as_str().to_owned(),
        public_url: BaseUrl::to_sign(&reply.public_url)
            .context("the coordinator's answer names no usable public URL")?
            .as_str()
            .to_owned(),
        coordinator_key: reply.coordinator_key,
    };
    Journal::create(&dir.journal(), stored.node_id, &key.public())?;
    // stays over enrolments, so that a new node knows the old one's containers and removes them
    match durable::create(&dir.scope(), stored.node_id.to_string().as_bytes(), 0o600) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    durable::replace(&dir.identity(), &serde_json::to_vec_pretty(&stored)?, 0o600)
        .with_context(|| format!("{} can't be written", dir.identity().display()))?;
    Identity::new(&stored, key)
}

async fn send(url: &BaseUrl, request: &EnrollRequest) -> anyhow::Result<EnrollReply> {
    let response = http::client(url)?
        .post(url.enroll())
        .json(request)
        .send()
        .await
        .map_err(|error| http::unreachable(&error))?;
    let body = http::answer(response, REPLY_BYTES_MAX).await?;
    serde_json::from_slice(&body)
        .map_err(|error| http::RequestError::BadAnswer(error.to_string()).into())
}

/// Moves the files of an earlier enrolment into a folder of their own; what belongs to the machine stays.
fn set_aside(dir: &DataDir, clock: &dyn Clock) -> anyhow::Result<()> {
    let stays = [dir.lock_file(), dir.scope()];
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.path())? {
        let entry = entry?;
        let is_retired = entry.file_name().to_string_lossy().starts_with(RETIRED);
        if !is_retired && !stays.contains(&entry.path()) {
            files.push(entry.path());
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    // the identity first: without it the folder counts as not enrolled, whatever else is still there
    files.sort_by_key(|file| *file != dir.identity());
    let name = format!("{RETIRED}{}", clock.now().as_micros());
    let aside = DataDir::new(dir.path().join(name));
    aside.create()?;
    for file in &files {
        let name = file.file_name().unwrap_or_default();
        std::fs::rename(file, aside.path().join(name))
            .with_context(|| format!("{} can't be set aside", file.display()))?;
    }
    durable::sync_folder_of(&dir.identity())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::{clock::ManualClock, time::Timestamp};

    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_token_file_holds_one_token() {
        let temp = TempDir::new();
        let path = temp.path().join("token");
        for (text, good) in [
            ("  ent_abc\n", true),
            ("", false),
            ("two words", false),
            ("\u{0}", false),
        ] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(read_token(&path).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn an_earlier_enrolment_is_set_aside_whole() {
        let temp = TempDir::new();
        let dir = DataDir::new(temp.path());
        let clock = ManualClock::starting_at(Timestamp::from_secs(5));
        set_aside(&dir, &clock).expect("nothing to do");
        std::fs::write(dir.scope(), "nod_1").expect("written");
        for name in ["node.key", "identity.json", "journal.db", "journal.db-wal"] {
            std::fs::write(temp.path().join(name), name).expect("written");
        }
        set_aside(&dir, &clock).expect("set aside");
        let aside = temp.path().join("retired-5000000");
        for name in ["node.key", "identity.json", "journal.db", "journal.db-wal"] {
            assert!(!temp.path().join(name).exists());
            assert_eq!(
                std::fs::read_to_string(aside.join(name)).expect("kept"),
                name
            );
        }
        assert!(dir.scope().exists());
        set_aside(&dir, &clock).expect("nothing left to do");
    }
}
