//! A file in the making: beside its place, and there when it is whole.
//!
//! # Invariants
//! - What isn't whole is removed, however its copy ends; only a process that is killed leaves it, until the next copy of that file.
//! - Nobody else can read it before it has its permissions.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::{fs::File, io::AsyncWriteExt as _};

/// While it is written.
pub(super) const MODE: u32 = 0o600;

/// The file; removed when this is dropped.
pub(super) struct Part {
    /// Where it is written.
    pub(super) path: PathBuf,
    /// What is written to.
    pub(super) file: File,
}

impl Part {
    /// Where what becomes `to` is written.
    pub(super) fn path_for(to: &Path) -> PathBuf {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".ramarket-part");
        to.with_file_name(name)
    }

    /// A new one. Nothing waits in here: what is made is always held.
    pub(super) fn begin(path: PathBuf) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&path)?;
        let file = File::from_std(file);
        Ok(Self { path, file })
    }

    /// It has everything, and may be used as `mode` says.
    pub(super) async fn finish(&mut self, mode: u32) -> io::Result<()> {
        self.file.flush().await?;
        let mode = fs::Permissions::from_mode(mode);
        self.file.set_permissions(mode).await
    }

    /// Puts it in its place.
    pub(super) fn keep(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        // nothing is left to remove
        self.path.clear();
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // half a file is no file
            drop(fs::remove_file(&self.path));
        }
    }
}

/// The permissions that this process's new files don't have; they are only told to who sets them.
pub(super) fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    mask.as_raw_mode()
}
