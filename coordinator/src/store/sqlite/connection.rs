//! SQLite connections: their settings, and the clock that stops a body which runs for too long.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tokio::time::Instant;

use super::tx::translate;
use crate::store::StoreError;

/// The WAL had a bug that could corrupt the database before this version.
const OLDEST_SQLITE: i32 = 3_051_003;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const CACHED_STATEMENTS: usize = 512;
/// The file of the WAL is cut back to this size when it is used from its start again.
const WAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;
/// Steps of SQLite's machine between two looks at the clock.
const STEPS_PER_LOOK: i32 = 10_000;

/// Refuses a SQLite that is too old.
pub(super) fn check_version() -> Result<(), StoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StoreError::failed(format!(
            "SQLite {} is too old: build with 3.51.3 or later",
            rusqlite::version()
        )));
    }
    Ok(())
}

/// Makes an empty file that only its owner can read, if there is none.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::failed(format!(
            "can't create {}: {error}; does its folder exist, and may this user write there?",
            path.display()
        ))),
    }
}

/// Opens a connection that may write.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    open(path, |connection| {
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            let refused = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            let text = format!("the write-ahead log can't be used here (journal mode {mode})");
            return Err(rusqlite::Error::SqliteFailure(refused, Some(text)));
        }
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    })
}

/// Opens a connection that can only read.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    open(path, |connection| {
        connection.pragma_update(None, "query_only", true)
    })
}

fn open(
    path: &Path,
    settle: impl Fn(&Connection) -> rusqlite::Result<()>,
) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        // the undo log of a body's savepoint stays in memory: on disk each longer body would make and drop a file
        connection.pragma_update(None, "temp_store", "memory")?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        settle(&connection)?;
        Ok(connection)
    });
    opened.map_err(|error| match translate(&error) {
        StoreError::Failed { message, fatal } => StoreError::Failed {
            message: format!("can't open {}: {message}", path.display()),
            fatal,
        },
        other => other,
    })
}

/// Makes a renamed or new file in `path`'s folder survive a power failure.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    fs::File::open(folder(path))?.sync_all()
}

/// Waits until no other process of ours sets up or migrates a database in `path`'s folder; until the file is dropped
/// none does. A lock on the folder and not on the database: closing a second handle of that would drop SQLite's own locks.
pub(super) fn lock_folder(path: &Path) -> Result<fs::File, StoreError> {
    fs::File::open(folder(path))
        .and_then(|folder| folder.lock().map(|()| folder))
        .map_err(|e| StoreError::failed(format!("can't lock {}: {e}", folder(path).display())))
}

/// The folder `path` lies in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Stops what runs on a connection for too long.
pub(super) struct TimeLimit {
    limit: Duration,
    start: Instant,
    /// Milliseconds after `start`.
    deadline_ms: Arc<AtomicU64>,
}

impl TimeLimit {
    /// Watches over `connection`; nothing is stopped before [`TimeLimit::arm`].
    pub(super) fn install(
        connection: &mut Connection,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let start = Instant::now();
        let deadline_ms = Arc::new(AtomicU64::new(u64::MAX));
        let seen = Arc::clone(&deadline_ms);
        let late = move || millis(start.elapsed()) > seen.load(Ordering::Relaxed);
        connection
            .progress_handler(STEPS_PER_LOOK, Some(late))
            .map_err(|e| translate(&e))?;
        Ok(Self {
            limit,
            start,
            deadline_ms,
        })
    }

    /// What runs from now on must end within the limit.
    pub(super) fn arm(&self) {
        let deadline = self.start.elapsed().saturating_add(self.limit);
        self.deadline_ms.store(millis(deadline), Ordering::Relaxed);
    }

    /// What runs from now on may take as long as it takes.
    pub(super) fn disarm(&self) {
        self.deadline_ms.store(u64::MAX, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
