//! The agent's folder: which file is what, and that only one process uses it.
//!
//! # Invariants
//! - The folder is readable by its owner only (0700).
//! - Whoever writes in it holds its [`Lock`], which the kernel releases when the process dies, however it dies.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// The agent's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// The right to write in a [`DataDir`], for as long as it lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl DataDir {
    /// A folder that may not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The private key, PKCS#8.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.0.join("node.key")
    }

    /// Who this node is, once it is enrolled.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity.json")
    }

    /// The usage journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.db")
    }

    /// What rentals wrote that are over.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// What rentals used.
    #[must_use]
    pub fn samples(&self) -> PathBuf {
        self.0.join("samples")
    }

    /// How the agent was doing at its last beat.
    #[must_use]
    pub fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    /// What the market is to be told.
    #[must_use]
    pub fn orders(&self) -> PathBuf {
        self.0.join("orders.json")
    }

    /// Where the running agent is asked, unless the settings say otherwise.
    #[must_use]
    pub fn operator_socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// By which label value this machine's containers are known.
    #[must_use]
    pub fn scope(&self) -> PathBuf {
        self.0.join("scope")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Makes the folder, readable by its owner only, unless it exists.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn create(&self) -> anyhow::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .with_context(|| {
                format!(
                    "the data folder {} can't be made; make it, or choose another with --data-dir",
                    self.0.display()
                )
            })
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// Another process has it, or the file system refuses.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.lock_file();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("the lock file {} can't be opened", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => anyhow::bail!(
                "another agent (process {}) uses the data folder {}; stop it first, or choose another folder with --data-dir",
                holder(&mut file),
                self.0.display()
            ),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the lock file {} can't be locked", path.display()));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Lock(file))
    }

    /// Whether an agent runs on this folder now.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        File::open(self.lock_file()).is_ok_and(|file| {
            flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        })
    }
}

/// The process id that the holder wrote into the lock file, for the error text only.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(16).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => text.trim().to_owned(),
        _ => "of unknown id".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn one_holder_at_a_time_and_the_refusal_names_it() {
        let temp = TempDir::new();
        let dir = DataDir::new(temp.path().join("data"));
        dir.create().expect("folder");
        assert!(!dir.is_locked());
        let lock = dir.lock().expect("first");
        assert!(dir.is_locked());
        let refusal = dir.lock().expect_err("second").to_string();
        assert!(
            refusal.contains(&format!("process {}", std::process::id())),
            "{refusal}"
        );
        drop(lock);
        assert!(!dir.is_locked());
        dir.lock().expect("free again");
    }
}
