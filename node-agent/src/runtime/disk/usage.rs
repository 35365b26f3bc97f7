//! How much is in a folder: the kernel's own count of blocks, and how many files, counted no further than a limit.
//!
//! # Invariants
//! - What is looked at belongs to a stranger who may change it meanwhile: folders are opened from the folder that they are in, by a name
//!   that is no link, and nothing else is opened. So a look never leaves the folder, whatever takes whose name.
//! - What has another name by the time it is looked at is looked for again; what went on to somewhere else makes a second look at all of it,
//!   and the larger count holds. What never lies still is beyond, and what can't be read is an error: never is too little counted for that.
//! - It ends: at the limit, or when all was seen. Nobody can keep it busy by making more than they may have.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};

use super::{Space, Writable};

/// Growth of the engine's disk that is worth a look at who it was.
const GROWN_BYTES: i64 = 64 << 20;
const GROWN_INODES: i64 = 4_096;
/// A look is due after this anyway: what one removed may hide what another wrote.
const LOOK_EVERY_MS: i64 = 300_000;
/// Folders within each other: each is open while those below it are looked at.
const DEPTH_MAX: usize = 512;
/// How often what is still in a folder, and has another name each time, is looked for.
const ROUNDS_MAX: u32 = 8;
/// Looks at everything when something went on to somewhere else.
const LOOKS_MAX: usize = 3;

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
    /// Whether folders lay so deep in each other that the look ended: nobody needs that but to hide something.
    pub too_deep: bool,
    /// Whether something had another name whenever it was to be looked at: the same.
    pub restless: bool,
}

impl Usage {
    /// What is wrong with it, in words for the rental's owner; `None` while it is within `limit`.
    #[must_use]
    pub fn beyond(&self, limit: &Writable) -> Option<String> {
        if self.too_deep {
            return Some("its folders lie deeper in each other than the node can look".to_owned());
        }
        if self.restless {
            return Some("its files change their names faster than the node can look".to_owned());
        }
        if self.bytes > limit.bytes {
            let may = limit.bytes >> 20;
            return Some(format!("it wrote more than the {may} MiB that it may"));
        }
        let may = limit.inodes;
        (self.inodes > limit.inodes)
            .then(|| format!("it made more than the {may} files that it may"))
    }

    fn larger(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            inodes: self.inodes.max(other.inodes),
            too_deep: self.too_deep || other.too_deep,
            restless: self.restless || other.restless,
        }
    }
}

/// Counts what is below `folder`, and stops when it is more than `limit`. Blocks for as long as that takes.
///
/// # Errors
/// The folder, or something below it that is there, can't be read.
pub fn count(folder: &Path, limit: &Writable) -> io::Result<Usage> {
    let mut most = Usage::default();
    for _ in 0..LOOKS_MAX {
        let mut look = Look::begin(folder, limit)?;
        while look.step()? {}
        most = most.larger(look.usage);
        if !look.lost || most.beyond(limit).is_some() {
            break;
        }
    }
    Ok(most)
}

/// Blocks of single files that a stranger may write to; one that isn't there has none.
///
/// # Errors
/// One is there and can't be looked at.
pub fn count_files(files: &[PathBuf]) -> io::Result<i64> {
    let mut bytes = 0_i64;
    for file in files {
        match std::fs::symlink_metadata(file) {
            Ok(found) => bytes = bytes.saturating_add(bytes_of(found.blocks())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

fn bytes_of(blocks: u64) -> i64 {
    i64::try_from(blocks)
        .unwrap_or(i64::MAX)
        .saturating_mul(512)
}

/// A folder that is being looked at.
struct Frame {
    folder: OwnedFd,
    /// Folders in it that weren't looked at yet: their number and their name.
    todo: Vec<(u64, CString)>,
    /// Numbers of what was listed and not to be found under its name.
    missed: HashSet<u64>,
    rounds: u32,
}

/// One look at everything below a folder.
struct Look<'a> {
    limit: &'a Writable,
    usage: Usage,
    frames: Vec<Frame>,
    /// Whether something isn't any more where it was: removed, or gone on to where this look had been already.
    lost: bool,
    /// Whether the file system lists the numbers that it tells of a file.
    numbered: bool,
}

impl<'a> Look<'a> {
    fn begin(folder: &Path, limit: &'a Writable) -> io::Result<Self> {
        // the path is the engine's own
        let folder = openat(
            CWD,
            folder,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut look = Self {
            limit,
            usage: Usage::default(),
            frames: Vec::new(),
            lost: false,
            numbered: is_numbered(&folder)?,
        };
        look.enter(folder)?;
        Ok(look)
    }

    /// Looks a little further; false at the end.
    fn step(&mut self) -> io::Result<bool> {
        if self.usage.beyond(self.limit).is_some() {
            return Ok(false);
        }
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else {
            return Ok(false);
        };
        if let Some((number, name)) = frame.todo.pop() {
            match open(&frame.folder, &name, number)? {
                None => drop(frame.missed.insert(number)),
                Some(_) if depth >= DEPTH_MAX => self.usage.too_deep = true,
                Some(inner) => self.enter(inner)?,
            }
        } else if frame.missed.is_empty() {
            self.frames.pop();
        } else if frame.rounds == ROUNDS_MAX {
            self.usage.restless = true;
        } else {
            frame.rounds += 1;
            self.search()?;
        }
        Ok(true)
    }

    /// Counts what is in a folder, and notes which folders are.
    fn enter(&mut self, folder: OwnedFd) -> io::Result<()> {
        let entries = Dir::read_from(&folder)?;
        let mut frame = Frame {
            folder,
            todo: Vec::new(),
            missed: HashSet::new(),
            rounds: 0,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if is_itself(name) {
                continue;
            }
            self.usage.inodes += 1;
            if self.usage.beyond(self.limit).is_some() {
                return Ok(());
            }
            match self.found(&frame.folder, name, entry.ino())? {
                Some(stat) => self.note(&mut frame, name, &stat),
                None => drop(frame.missed.insert(entry.ino())),
            }
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Looks in the same folder, under any name, for what was missed there.
    fn search(&mut self) -> io::Result<()> {
        let Some(mut frame) = self.frames.pop() else {
            return Ok(());
        };
        let mut missed = std::mem::take(&mut frame.missed);
        let mut listed = 0;
        for entry in Dir::read_from(&frame.folder)? {
            let entry = entry?;
            let (name, number) = (entry.file_name(), entry.ino());
            listed += 1;
            self.usage.inodes = self.usage.inodes.max(listed - 2);
            if self.usage.beyond(self.limit).is_some() {
                break;
            }
            if is_itself(name) || (self.numbered && !missed.contains(&number)) {
                continue;
            }
            match self.found(&frame.folder, name, number)? {
                Some(stat) if missed.remove(&number) | missed.remove(&stat.st_ino) => {
                    self.note(&mut frame, name, &stat);
                }
                None if missed.remove(&number) => drop(frame.missed.insert(number)),
                Some(_) | None => {}
            }
        }
        self.lost |= !missed.is_empty();
        self.frames.push(frame);
        Ok(())
    }

    /// What has this name, if it is what was listed.
    fn found(&self, folder: &OwnedFd, name: &CStr, number: u64) -> io::Result<Option<Stat>> {
        match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat).filter(|stat| !self.numbered || stat.st_ino == number)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn note(&mut self, frame: &mut Frame, name: &CStr, stat: &Stat) {
        // a file with several names is counted once for each: that is never too little
        let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
        self.usage.bytes = self.usage.bytes.saturating_add(bytes_of(blocks));
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            frame.todo.push((stat.st_ino, name.to_owned()));
        }
    }
}

/// Opens a folder, if that is still what has this name.
fn open(folder: &OwnedFd, name: &CStr, number: u64) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(inner) => Ok((fstat(&inner)?.st_ino == number).then_some(inner)),
        // removed, or something else took its name
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Whether a file system lists numbers as it tells them; some that lie over others don't.
fn is_numbered(folder: &OwnedFd) -> io::Result<bool> {
    let number = fstat(folder)?.st_ino;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name().to_bytes() == b"." {
            return Ok(entry.ino() == number);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
