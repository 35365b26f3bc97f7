//! One small value on disk that is either whole or known to be broken.
//!
//! # Invariants
//! - [`SealedFile::save`] returns after the new content survives a power cut: spare file, fdatasync, exchange of the names, fsync of the
//!   folder. The spare is the file of the save before, written over in place: a new one would cost a commit of the file system's journal,
//!   which is most of what saving takes, and a rental's start waits for it.
//! - A file that was torn, edited or written by something else is never read as a value: its first line is the SHA-256 of the rest.
//!   It is kept aside as `NAME.corrupt` for the operator, and the caller is told.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};

/// A file is read up to this size; nothing that is kept here comes near it.
const BYTES_MAX: u64 = 64 << 20;
/// Hexadecimal digits of the checksum line.
const CHECKSUM_CHARS: usize = 64;
/// Content is padded to a multiple of this, so that a file seldom changes its length.
const BLOCK_BYTES: usize = 4_096;
const OWNER_ONLY: u32 = 0o600;

/// Where a value is kept.
#[derive(Debug, Clone)]
pub struct SealedFile {
    folder: PathBuf,
    name: &'static str,
}

/// What was found on disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Loaded<T> {
    /// There is no such file.
    Absent,
    /// The value as it was saved.
    Whole(T),
    /// The file can't be trusted and was moved aside.
    Corrupt {
        /// Where it is kept now.
        kept_at: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl SealedFile {
    /// The file `name` in `folder`, which must exist when it is saved.
    #[must_use]
    pub fn new(folder: &Path, name: &'static str) -> Self {
        Self {
            folder: folder.to_owned(),
            name,
        }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}{suffix}", self.name))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// The file is there but can't be read, or can't be moved aside.
    pub fn load<T: DeserializeOwned>(&self) -> io::Result<Loaded<T>> {
        let file = match File::open(self.path("")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Absent),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        match open_seal(&bytes) {
            Ok(value) => Ok(Loaded::Whole(value)),
            Err(why) => {
                let kept_at = self.path(".corrupt");
                std::fs::rename(self.path(""), &kept_at)?;
                Ok(Loaded::Corrupt { kept_at, why })
            }
        }
    }

    /// Replaces the value; durable when this returns. Blocks for one fdatasync of the file and one fsync of the folder.
    ///
    /// # Errors
    /// The disk refused; the old value is still in place.
    pub fn save<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let json = serde_json::to_vec(value).map_err(io::Error::other)?;
        let spare = self.path(".spare");
        write_over(&spare, &sealed(json))?;
        self.exchange(&spare)?;
        File::open(&self.folder)?.sync_all().inspect_err(|_| {
            // it isn't known which of the two the name stands for on disk: neither may be written over
            drop(std::fs::remove_file(&spare));
        })
    }

    /// Gives the spare file the name, and its old file to the next save.
    fn exchange(&self, spare: &Path) -> io::Result<()> {
        let path = self.path("");
        match renameat_with(CWD, spare, CWD, &path, RenameFlags::EXCHANGE) {
            // the first save, or a file system that can't exchange: the next save makes a new spare
            Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => std::fs::rename(spare, &path),
            exchanged => Ok(exchanged?),
        }
    }
}

/// Writes the whole content of a file that may be there already; its data are durable when this returns.
fn write_over(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(OWNER_ONLY)
        .open(path)?;
    let found = file.metadata()?;
    if found.permissions().mode() & 0o7777 != OWNER_ONLY {
        file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    }
    file.write_all(content)?;
    let length = u64::try_from(content.len()).map_err(io::Error::other)?;
    if found.len() != length {
        file.set_len(length)?;
    }
    file.sync_data()
}

/// The checksum line, then the value, then spaces up to whole blocks.
fn sealed(mut json: Vec<u8>) -> Vec<u8> {
    let length = CHECKSUM_CHARS + 1 + json.len();
    json.resize(
        json.len() + length.next_multiple_of(BLOCK_BYTES) - length,
        b' ',
    );
    let mut content = checksum(&json).into_bytes();
    content.push(b'\n');
    content.extend_from_slice(&json);
    content
}

fn checksum(json: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, json))
}

fn open_seal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() <= CHECKSUM_CHARS || bytes[CHECKSUM_CHARS] != b'\n' {
        return Err("it has no checksum line".to_owned());
    }
    let json = &bytes[CHECKSUM_CHARS + 1..];
    if checksum(json).as_bytes() != &bytes[..CHECKSUM_CHARS] {
        return Err("its checksum doesn't match its content".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| format!("its content isn't understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_value_comes_back_and_only_its_owner_may_read_it() {
        let folder = TempDir::new();
        let file = SealedFile::new(folder.path(), "value.json");
        assert_eq!(file.load::<Vec<i64>>().expect("readable"), Loaded::Absent);
        file.save(&vec![1, 2, 3]).expect("saved");
        assert_eq!(
            file.load::<Vec<i64>>().expect("readable"),
            Loaded::Whole(vec![1, 2, 3])
        );
        let mode = std::fs::metadata(folder.path().join("value.json"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_cut_off_or_changed_at_any_byte_is_kept_aside() {
        let folder = TempDir::new();
        let file = SealedFile::new(folder.path(), "value.json");
        let path = folder.path().join("value.json");
        file.save(&vec![10, 20]).expect("saved");
        let whole = std::fs::read(&path).expect("readable");
        for cut in (0..200).chain((200..whole.len()).step_by(97)) {
            let mut flipped = whole.clone();
            flipped[cut] ^= 1;
            for broken in [&whole[..cut], &flipped] {
                std::fs::write(&path, broken).expect("written");
                let loaded = file.load::<Vec<i64>>().expect("readable");
                assert!(matches!(loaded, Loaded::Corrupt { .. }), "{loaded:?}");
                assert!(!path.exists());
                assert_eq!(
                    std::fs::read(folder.path().join("value.json.corrupt")).expect("kept"),
                    broken
                );
            }
        }
    }

    #[test]
    fn a_spare_file_in_any_state_changes_nothing() {
        let folder = TempDir::new();
        let file = SealedFile::new(folder.path(), "value.json");
        let spare = folder.path().join("value.json.spare");
        file.save(&1_i64).expect("saved");
        for left_over in [Vec::new(), b"half".to_vec(), vec![b'x'; 3 * BLOCK_BYTES]] {
            std::fs::write(&spare, left_over).expect("written");
            std::fs::set_permissions(&spare, Permissions::from_mode(0o644)).expect("changed");
            assert_eq!(file.load::<i64>().expect("readable"), Loaded::Whole(1));
            file.save(&2_i64).expect("saved");
            assert_eq!(file.load::<i64>().expect("readable"), Loaded::Whole(2));
            let saved = std::fs::metadata(folder.path().join("value.json")).expect("there");
            assert_eq!(saved.permissions().mode() & 0o777, OWNER_ONLY);
            file.save(&1_i64).expect("saved");
        }
    }

    #[test]
    fn values_that_grow_and_shrink_come_back() {
        let folder = TempDir::new();
        let file = SealedFile::new(folder.path(), "value.json");
        for length in [0, 1, 2_000, 9_000, 5, 4_031, 4_032, 4_033, 0] {
            let value = "v".repeat(length);
            file.save(&value).expect("saved");
            assert_eq!(
                file.load::<String>().expect("readable"),
                Loaded::Whole(value)
            );
        }
    }
}
