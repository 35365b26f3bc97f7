//! Databases for tests: real ones, fresh for each test.

mod postgres;
#[cfg(test)]
pub(crate) mod statements;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

pub use self::postgres::{postgres, postgres_url};
use super::{DatabaseUrl, Db};

/// A folder that is removed with its contents when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes an empty folder that nobody else uses.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Makes one in memory if this machine has such a place: nothing in it outlives a crash of the machine, and nothing waits for a disk.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            Self::below(memory)
        } else {
            Self::new()
        }
    }

    fn below(parent: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ramarket-test-{}-{number}", std::process::id());
        let path = parent.join(name);
        // left by a killed process that had our id
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A migrated SQLite database in a folder of its own; keep the folder as long as the database.
///
/// # Panics
/// If that fails.
pub async fn sqlite() -> (Db, TempDir) {
    let folder = TempDir::new();
    let db = sqlite_at(&folder.path().join("market.db")).await;
    (db, folder)
}

/// Opens (or makes) and migrates the SQLite database at `path`.
///
/// # Panics
/// If that fails.
pub async fn sqlite_at(path: &Path) -> Db {
    let db = Db::open(&DatabaseUrl::Sqlite(path.to_owned())).await;
    let db = db.expect("a SQLite database can be opened");
    db.migrate().await.expect("its schema can be migrated");
    db
}
