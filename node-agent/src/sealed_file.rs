//! One small value on disk that is either whole or known to be broken.
//!
//! # Invariants
//! - [`SealedFile::save`] returns after the new content survives a power cut: temporary file, fsync, rename, fsync of the folder.
//! - A file that was torn, edited or written by something else is never read as a value: its first line is the SHA-256 of the rest.
//!   It is kept aside as `NAME.corrupt` for the operator, and the caller is told.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// A file is read up to this size; nothing that is kept here comes near it.
const BYTES_MAX: u64 = 64 << 20;
/// Hexadecimal digits of the checksum line.
const CHECKSUM_CHARS: usize = 64;

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

    /// Replaces the value; durable when this returns. Blocks for one fsync of the file and one of the folder.
    ///
    /// # Errors
    /// The disk refused; the old value is still in place.
    pub fn save<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let json = serde_json::to_vec(value).map_err(io::Error::other)?;
        let temporary = self.path(".tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let mut content = checksum(&json).into_bytes();
        content.push(b'\n');
        content.extend_from_slice(&json);
        file.write_all(&content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.path(""))?;
        File::open(&self.folder)?.sync_all()
    }
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::test_folder::TestFolder;

    #[test]
    fn a_value_comes_back_and_only_its_owner_may_read_it() {
        let folder = TestFolder::new("sealed-file-whole");
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
        let folder = TestFolder::new("sealed-file-torn");
        let file = SealedFile::new(folder.path(), "value.json");
        let path = folder.path().join("value.json");
        file.save(&vec![10, 20]).expect("saved");
        let whole = std::fs::read(&path).expect("readable");
        for cut in 0..whole.len() {
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
    fn a_left_over_temporary_file_changes_nothing() {
        let folder = TestFolder::new("sealed-file-temporary");
        let file = SealedFile::new(folder.path(), "value.json");
        file.save(&1_i64).expect("saved");
        std::fs::write(folder.path().join("value.json.tmp"), b"half").expect("written");
        assert_eq!(file.load::<i64>().expect("readable"), Loaded::Whole(1));
        file.save(&2_i64).expect("saved");
        assert_eq!(file.load::<i64>().expect("readable"), Loaded::Whole(2));
    }
}
