//! What was gathered, on disk until it is sent.
//!
//! # Invariants
//! - A file has no name once it is open: whatever becomes of this process, nothing of a rental stays behind.
//! - It is no longer than its limit.

use std::{
    fs::{File, OpenOptions, remove_file},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::io::{AsyncWriteExt as _, BufWriter};

const BUFFER_BYTES: usize = 64 * 1_024;
const MODE: u32 = 0o600;
/// Names that were tried because something had them.
const TRIES_MAX: u32 = 16;

/// A file that grows.
#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<tokio::fs::File>,
    bytes: u64,
    limit: u64,
}

impl Spool {
    /// An empty one of at most `limit` bytes, in this folder.
    pub(super) fn new(folder: &Path, limit: u64) -> io::Result<Self> {
        let file = tokio::fs::File::from_std(nameless(folder)?);
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            bytes: 0,
            limit,
        })
    }

    /// Adds to it; false, and nothing is added, where that would be too long.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let after = self.bytes.saturating_add(length);
        if after > self.limit {
            return Ok(false);
        }
        self.file.write_all(bytes).await?;
        self.bytes = after;
        Ok(true)
    }

    /// Lets it grow by this much more: for what closes it.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.limit = self.limit.saturating_add(bytes);
    }

    /// The file, and its length.
    pub(super) async fn done(mut self) -> io::Result<(File, u64)> {
        self.file.flush().await?;
        let file = self.file.into_inner().into_std().await;
        Ok((file, self.bytes))
    }
}

/// A new file in a folder, without a name.
pub(super) fn nameless(folder: &Path) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = std::process::id();
    let mut tries = 0;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".spool-{process}-{count}"));
        let mut options = OpenOptions::new();
        let opened = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&path);
        match opened {
            Ok(file) => {
                remove_file(&path)?;
                return Ok(file);
            }
            // of a process of before that died between both
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES_MAX => {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;
    use crate::store::testing::TempDir;

    #[tokio::test]
    async fn it_holds_what_fits_and_leaves_no_name() {
        let folder = TempDir::new();
        let mut spool = Spool::new(folder.path(), 8).expect("made");
        assert!(spool.push(b"12345").await.expect("written"));
        assert!(!spool.push(b"6789").await.expect("refused"));
        assert!(spool.push(b"678").await.expect("written"));
        spool.allow(1);
        assert!(spool.push(b"9").await.expect("written"));
        let (mut file, bytes) = spool.done().await.expect("done");
        let mut text = String::new();
        file.rewind().expect("rewound");
        file.read_to_string(&mut text).expect("read");
        assert_eq!((text.as_str(), bytes), ("123456789", 9));
        let names = std::fs::read_dir(folder.path()).expect("a folder");
        assert_eq!(names.count(), 0);
    }
}
