//! Space on the disk that only the journal uses: when the disk is full, it is given up, and metering goes on.
//!
//! # Invariants
//! - Its blocks are there, not only its length.
//! - It is made again once there is room for twice as much, so that a full disk isn't filled by it.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FallocateFlags;

/// The file beside the journal, and how large it is.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub(super) fn beside(journal: &Path, bytes: u64) -> Self {
        Self {
            path: journal.with_extension("reserve"),
            bytes,
        }
    }

    /// Makes it, if it isn't whole and there is room; whether it is there.
    pub(super) fn keep(&self) -> bool {
        let whole = |found: std::fs::Metadata| found.blocks().saturating_mul(512) >= self.bytes;
        if std::fs::metadata(&self.path).is_ok_and(whole) {
            return true;
        }
        match self.make() {
            Ok(made) => made,
            Err(error) => {
                tracing::debug!(%error, "the journal's reserve can't be made now");
                false
            }
        }
    }

    fn make(&self) -> io::Result<bool> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let space = rustix::fs::statvfs(folder)?;
        if space.f_bavail.saturating_mul(space.f_frsize) < self.bytes.saturating_mul(2) {
            return Ok(false);
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        let made = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes);
        if let Err(error) = made {
            self.give_up();
            return Err(error.into());
        }
        Ok(true)
    }

    /// Gives the space to whoever writes next, which is the journal; whether there was any.
    pub(super) fn give_up(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }
}
