//! Files that are whole or absent after a crash.
//!
//! # Invariants
//! - A reader sees the old content or the new, never a part: content goes to a temporary file, is synced, then takes the name.
//! - When a function here returns `Ok`, the file survives a power cut, except for [`replace_unsynced`].
//! - Only one process writes a folder (see [`crate::data_dir`]), so one temporary name per file is enough.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Writes `bytes` under `path`, replacing what is there. `mode` as in `chmod`.
///
/// # Errors
/// The file system refuses.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?.synced()?;
    std::fs::rename(&temporary, path)?;
    sync_folder_of(path)
}

/// As [`replace`] without waiting for the disk: for what is written anew all the time.
///
/// # Errors
/// The file system refuses.
pub(crate) fn replace_unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    std::fs::rename(&temporary.path, path)
}

/// Writes `bytes` under `path`, which must not exist yet.
///
/// # Errors
/// `AlreadyExists`, or the file system refuses.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?.synced()?;
    renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE)?;
    sync_folder_of(path)
}

/// Makes an empty file that only its owner can read. The caller syncs it and the folder.
///
/// # Errors
/// `AlreadyExists`, or the file system refuses.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes the names in the folder that holds `path` durable.
///
/// # Errors
/// The file system refuses.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn synced(self) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        Ok(self.path)
    }
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Temporary> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let temporary = path.with_file_name(name);
    // left over from a crash: its mode may be wrong, so it isn't reused
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    Ok(Temporary {
        path: temporary,
        file,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn content_is_replaced_and_created_once_with_its_mode() {
        let dir = TempDir::new();
        let path = dir.path().join("a");
        create(&path, b"1", 0o600).expect("created");
        assert_eq!(
            create(&path, b"2", 0o600).expect_err("refused").kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&path).expect("read"), b"1");
        replace(&path, b"3", 0o600).expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"3");
        let mode = std::fs::metadata(&path)
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_a_crash_left_behind_does_no_harm() {
        let dir = TempDir::new();
        let path = dir.path().join("a");
        std::fs::write(dir.path().join(".a.new"), b"half").expect("left over");
        replace(&path, b"whole", 0o600).expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"whole");
    }
}
