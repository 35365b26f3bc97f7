//! Disk space of rentals: what keeps each within its share, and how much there is.
//!
//! | file | what |
//! |---|---|
//! | `volumes` | the folder of files that are rentals' disks: from nothing to a loop device, to the grace, to nothing |
//! | `pass` | looks at that folder, by which everything comes to where it belongs |
//! | `names` | what a file in that folder says by its name |
//! | `tools` | the programs that make file systems and loop devices |
//! | `usage` | how much a rental wrote besides: a bounded look at a folder |
//!
//! # Invariants
//! - What is decided here is pure: facts about engine and machine go in, a means or a number of bytes comes out.
//! - A rental's id and a number of bytes are all that comes from the market. No path does.
//! - What is promised is there: [`total`] leaves out what other things took, and what is kept after a rental's end.

use std::path::PathBuf;

use anyhow::ensure;
use shared::resources::QuotaMeans;

pub(crate) mod names;
pub mod pass;
mod tools;
pub mod usage;
pub mod volumes;

pub use volumes::Volumes;

/// The size that an engine is asked for to see whether it can.
pub(crate) const TRIAL_SIZE: &str = "64M";
/// Where a rental finds its disk in its container, where it is a file system of its own.
pub const PATH: &str = "/data";
/// Of a file system, for each so many bytes one file or folder.
pub(crate) const BYTES_PER_INODE: i64 = 16 << 10;
/// Files and folders that a rental may make outside its disk, for each so many bytes of what it may write there; at least
/// [`WRITABLE_INODES_MIN`].
const WRITABLE_BYTES_PER_INODE: i64 = 32 << 10;
const WRITABLE_INODES_MIN: i64 = 16 << 10;
/// Of a machine's disk, what stays free: this, and a tenth.
const FLOOR_BYTES: i64 = 5 << 30;
/// Inventories are told in steps of this, so that a log line isn't news.
const STEP_BYTES: i64 = 1 << 30;
/// The longest that data is kept: a year.
const GRACE_S_MAX: u32 = 366 * 86_400;

/// What the machine's owner decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the files that are rentals' disks lie.
    pub folder: PathBuf,
    /// The most that rentals' disks take together; 0 for all that there is above the floor.
    pub total_bytes: i64,
    /// What rentals' disks leave free of the machine's disk; 0 for a tenth and 5 GiB. With less than a quarter of it nothing new is begun.
    pub floor_bytes: i64,
    /// How long a rental's disk is kept after its end.
    pub grace_s: u32,
    /// What a rental may write outside its disk.
    pub writable_bytes: i64,
}

impl Settings {
    /// With the defaults, for files in `folder`.
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            total_bytes: 0,
            floor_bytes: 0,
            grace_s: 86_400,
            writable_bytes: 10 << 30,
        }
    }

    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// One is out of bounds.
    pub fn check(&self) -> anyhow::Result<()> {
        for (name, bytes) in [
            ("disk_bytes", self.total_bytes),
            ("disk_floor_bytes", self.floor_bytes),
        ] {
            ensure!(bytes >= 0, "{name} is {bytes}; it may not be negative");
        }
        ensure!(
            self.writable_bytes >= 1 << 20,
            "writable_bytes is {}; containers need 1 MiB at least",
            self.writable_bytes
        );
        ensure!(
            self.grace_s <= GRACE_S_MAX,
            "volume_grace_s is {}; it may be 0 to {GRACE_S_MAX}",
            self.grace_s
        );
        Ok(())
    }

    /// What a rental may write outside a disk of its own, `disk_bytes` being part of it where it has none.
    #[must_use]
    pub fn writable(&self, means: Option<QuotaMeans>, disk_bytes: i64) -> Writable {
        let own = means == Some(QuotaMeans::Loopback);
        let bytes = self
            .writable_bytes
            .saturating_add(if own { 0 } else { disk_bytes.max(0) });
        Writable {
            bytes,
            inodes: (bytes / WRITABLE_BYTES_PER_INODE).max(WRITABLE_INODES_MIN),
        }
    }
}

/// What may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writable {
    /// Of the disk, as it is taken and not as files say.
    pub bytes: i64,
    /// Files and folders.
    pub inodes: i64,
}

/// A file system, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// All of it.
    pub total_bytes: i64,
    /// What can still be written by anybody.
    pub free_bytes: i64,
    /// Files and folders that it can hold; 0 where there is no such limit.
    pub total_inodes: i64,
    /// Of these, those that can still be made.
    pub free_inodes: i64,
}

impl Space {
    /// Of the file system that holds `path`.
    ///
    /// # Errors
    /// The kernel doesn't say.
    pub fn of(path: &std::path::Path) -> std::io::Result<Self> {
        let of = rustix::fs::statvfs(path)?;
        let bytes =
            |blocks: u64| i64::try_from(blocks.saturating_mul(of.f_frsize)).unwrap_or(i64::MAX);
        let count = |inodes: u64| i64::try_from(inodes).unwrap_or(i64::MAX);
        Ok(Self {
            total_bytes: bytes(of.f_blocks),
            free_bytes: bytes(of.f_bavail),
            total_inodes: count(of.f_files),
            free_inodes: count(of.f_favail),
        })
    }

    /// What must stay free of it.
    #[must_use]
    pub fn floor_bytes(&self, settings: &Settings) -> i64 {
        match settings.floor_bytes {
            0 => (self.total_bytes / 10).saturating_add(FLOOR_BYTES),
            set => set,
        }
    }

    /// Why nothing new is begun on this disk, less than a quarter of the floor being free; `None` while there is room. `is_full`: whether that was so before: it ends only when a fifth
    /// more than that is free, so that it doesn't come and go.
    #[must_use]
    pub fn shortage(&self, settings: &Settings, is_full: bool) -> Option<String> {
        let more = |least: i64| least.saturating_add(if is_full { least / 5 } else { 0 });
        let floor = more(self.floor_bytes(settings) / 4);
        if self.free_bytes < floor {
            return Some(format!(
                "its disk is nearly full: {} MiB are free, and {} MiB have to stay free",
                self.free_bytes >> 20,
                floor >> 20
            ));
        }
        let floor = more(self.total_inodes / 50);
        (self.free_inodes < floor).then(|| {
            format!(
                "its disk can hold only {} more files, and {floor} have to stay free",
                self.free_inodes
            )
        })
    }
}

/// What decides how rentals are kept within their disk space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The engine's storage driver.
    pub driver: String,
    /// What it lies on, as the engine says: `extfs`, `xfs`, …
    pub backing: String,
    /// Whether the engine made a container with a size when it was tried; only tried where [`Facts::may_have_quota`].
    pub took_size: bool,
    /// Why no file can be made a disk; `None` if it worked when it was tried.
    pub no_loopback: Option<String>,
}

impl Facts {
    /// Whether it is worth trying the engine's own quota.
    #[must_use]
    pub fn may_have_quota(&self) -> bool {
        match self.driver.as_str() {
            "overlay2" => self.backing == "xfs",
            "btrfs" | "zfs" => true,
            _ => false,
        }
    }

    /// The best means that there is.
    #[must_use]
    pub fn decide(&self) -> QuotaMeans {
        if self.may_have_quota() && self.took_size {
            QuotaMeans::Engine
        } else if self.no_loopback.is_none() {
            QuotaMeans::Loopback
        } else {
            QuotaMeans::Policed
        }
    }
}

/// All that rentals' disks may take on `space`, what live ones take already included. Files of loopback disks are there in full
/// from the beginning, so `kept_bytes`, what is kept after rentals' ends, isn't free on the disk either: it is only taken off what the owner
/// set.
#[must_use]
pub fn total(space: &Space, settings: &Settings, live_bytes: i64, kept_bytes: i64) -> i64 {
    let above = space
        .free_bytes
        .saturating_sub(space.floor_bytes(settings))
        .saturating_add(live_bytes);
    let most = match settings.total_bytes {
        0 => above,
        set => above.min(set.saturating_sub(kept_bytes)),
    };
    // what is held is held
    (most.max(live_bytes).max(0) / STEP_BYTES * STEP_BYTES).max(live_bytes)
}

#[cfg(test)]
mod tests;
