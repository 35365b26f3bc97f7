//! How much is in a folder: the kernel's own count of blocks, and how many files, counted no further than a limit.
//!
//! # Invariants
//! - What is looked at belongs to a stranger who may change it meanwhile: links aren't followed, nothing in it is opened but folders,
//!   and whatever can't be read makes the count larger, never smaller.
//! - It ends: at the limit, or when all was seen. Nobody can keep it busy by making more than they may have.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Space, Writable};

/// Growth of the engine's disk that is worth a look at who it was.
const GROWN_BYTES: i64 = 64 << 20;
const GROWN_INODES: i64 = 4_096;
/// A look is due after this anyway: what one removed may hide what another wrote.
const LOOK_EVERY_MS: i64 = 300_000;

/// When everything was looked at last, and how full the disk was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// How full.
    pub space: Space,
    /// By the clock that doesn't stop.
    pub boot_ms: i64,
}

/// Whether somebody may have written too much since the last look.
#[must_use]
pub fn is_due(last: Option<Looked>, now: Looked) -> bool {
    let Some(last) = last else { return true };
    last.space.free_bytes - now.space.free_bytes >= GROWN_BYTES
        || last.space.free_inodes - now.space.free_inodes >= GROWN_INODES
        || now.boot_ms - last.boot_ms >= LOOK_EVERY_MS
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Blocks taken.
    pub bytes: i64,
    /// Files, folders and whatever else has a name.
    pub inodes: i64,
    /// Whether a folder lay so deep that it can't be named: nobody needs that but to hide something.
    pub too_deep: bool,
}

impl Usage {
    /// What is wrong with it, in words for the rental's owner; `None` while it is within `limit`.
    #[must_use]
    pub fn beyond(&self, limit: &Writable) -> Option<String> {
        if self.too_deep {
            return Some("its folders lie deeper in each other than the node can look".to_owned());
        }
        if self.bytes > limit.bytes {
            let may = limit.bytes >> 20;
            return Some(format!("it wrote more than the {may} MiB that it may"));
        }
        let may = limit.inodes;
        (self.inodes > limit.inodes)
            .then(|| format!("it made more than the {may} files that it may"))
    }
}

/// Counts what is below `folder`, and stops when it is more than `limit`. Blocks for as long as that takes.
///
/// # Errors
/// The folder itself can't be read; what is below it and can't is counted as one.
pub fn count(folder: &Path, limit: &Writable) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut entries = std::fs::read_dir(folder)?;
    loop {
        for entry in entries.by_ref() {
            usage.inodes += 1;
            if usage.beyond(limit).is_some() {
                return Ok(usage);
            }
            let Ok(entry) = entry else { continue };
            // of the entry itself, links not followed
            let Ok(metadata) = entry.metadata() else {
                usage.too_deep |= is_too_long(&entry.path());
                continue;
            };
            // a file with several names is counted once for each: that is never too little
            usage.bytes = usage
                .bytes
                .saturating_add(i64::try_from(metadata.blocks()).unwrap_or(i64::MAX) * 512);
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
        entries = loop {
            let Some(next) = folders.pop() else {
                return Ok(usage);
            };
            match std::fs::read_dir(&next) {
                Ok(entries) => break entries,
                // removed meanwhile
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => usage.too_deep |= is_too_long(&next),
            }
        };
    }
}

/// Whether a path is longer than the kernel takes.
fn is_too_long(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::InvalidFilename)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    const LARGE: Writable = Writable {
        bytes: 1 << 30,
        inodes: 10_000,
    };

    #[test]
    fn blocks_and_names_are_counted_and_links_not_followed() {
        let dir = TempDir::new();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).expect("made");
        std::fs::write(inner.join("c"), vec![1; 100_000]).expect("written");
        std::os::unix::fs::symlink("/usr", dir.path().join("out")).expect("linked");
        let usage = count(dir.path(), &LARGE).expect("counted");
        assert_eq!(usage.inodes, 4);
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
        assert_eq!(usage.beyond(&LARGE), None);
        // a file that only says that it is large takes nothing
        let sparse = std::fs::File::create(inner.join("sparse")).expect("made");
        sparse.set_len(1 << 40).expect("set");
        assert!(count(dir.path(), &LARGE).expect("counted").bytes < 200_000);
    }

    #[test]
    fn an_idle_disk_is_seldom_looked_at() {
        let at = |free_mib: i64, free_inodes: i64, boot_ms: i64| Looked {
            space: Space {
                free_bytes: free_mib << 20,
                free_inodes,
                ..Space::default()
            },
            boot_ms,
        };
        let last = Some(at(1_000, 50_000, 0));
        assert!(is_due(None, at(1_000, 50_000, 0)));
        assert!(!is_due(last, at(950, 49_000, 10_000)));
        assert!(is_due(last, at(936, 50_000, 10_000)), "64 MiB");
        assert!(is_due(last, at(1_000, 45_904, 10_000)), "4096 files");
        assert!(is_due(last, at(1_000, 50_000, 300_000)), "anyway");
    }

    #[test]
    fn counting_stops_at_the_limit() {
        let dir = TempDir::new();
        for name in 0..50 {
            std::fs::write(dir.path().join(name.to_string()), "").expect("written");
        }
        let few = Writable {
            inodes: 10,
            ..LARGE
        };
        let usage = count(dir.path(), &few).expect("counted");
        assert_eq!(usage.inodes, 11);
        assert!(usage.beyond(&few).expect("beyond").contains("10 files"));
        std::fs::write(dir.path().join("large"), vec![1; 1 << 20]).expect("written");
        let little = Writable {
            bytes: 1 << 19,
            ..LARGE
        };
        let usage = count(dir.path(), &little).expect("counted");
        assert!(usage.beyond(&little).is_some());
    }

    #[test]
    fn what_lies_too_deep_to_be_named_is_noticed() {
        let dir = TempDir::new();
        let name = "d".repeat(200);
        let mut at = rustix::fs::open(
            dir.path(),
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .expect("opened");
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, name.as_str(), rustix::fs::Mode::RWXU).expect("made");
            at = rustix::fs::openat(
                &at,
                name.as_str(),
                rustix::fs::OFlags::DIRECTORY,
                rustix::fs::Mode::empty(),
            )
            .expect("opened");
        }
        let usage = count(dir.path(), &LARGE).expect("counted");
        assert!(
            usage.too_deep && usage.beyond(&LARGE).is_some(),
            "{usage:?}"
        );
    }
}
