//! The SQLite driver: one writer thread ([`writer`]), a pool of readers ([`readers`]), checkpoints beside them
//! ([`checkpoint`]).
//!
//! # Invariants
//! - Write-ahead log, `synchronous=FULL`: a commit is on the disk before it is acknowledged.
//! - The file is readable by its owner only.
//! - The file lies on a local disk: the log needs shared memory.

mod backup;
mod checkpoint;
mod connection;
mod readers;
mod tx;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use self::{
    checkpoint::Checkpoints,
    connection::TimeLimit,
    readers::Readers,
    writer::{Job, Writer},
};
use super::{
    StoreError,
    body::{Body, Outcome},
    metrics,
    signals::Signals,
};

/// Bounds of the driver; tests make them small.
#[derive(Debug, Clone)]
struct Settings {
    readers: usize,
    /// Bodies that may wait; the next one is turned away.
    queue: usize,
    /// Bodies that are committed together at most.
    group_max: usize,
    body_limit: Duration,
    /// From this length of the log on the writer shortens it itself.
    log_pages_max: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            readers: 8,
            queue: 1_024,
            group_max: 256,
            body_limit: Duration::from_secs(30),
            // 64 MiB
            log_pages_max: 16_000,
        }
    }
}

/// An open database.
pub(super) struct Sqlite {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    readers: Arc<Readers>,
}

impl Sqlite {
    /// Opens or creates the file at `path`.
    pub(super) async fn open(path: &Path, signals: &Arc<Signals>) -> Result<Self, StoreError> {
        Self::open_with(path, signals, Settings::default()).await
    }

    async fn open_with(
        path: &Path,
        signals: &Arc<Signals>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let (path, signals) = (path.to_owned(), Arc::clone(signals));
        blocking(move || Self::open_blocking(path, &signals, &settings)).await
    }

    fn open_blocking(
        path: PathBuf,
        signals: &Arc<Signals>,
        settings: &Settings,
    ) -> Result<Self, StoreError> {
        connection::check_version()?;
        connection::create_private(&path)?;
        // SQLite gives up at once, busy_timeout or not, if two turn a new file to the write-ahead log
        let lock = connection::lock_folder(&path)?;
        let mut connection = connection::open_writer(&path)?;
        drop(lock);
        connection::sync_folder(&path).map_err(|e| StoreError::failed(e.to_string()))?;
        let limit = TimeLimit::install(&mut connection, settings.body_limit)?;
        let checkpoints = Checkpoints::start(&path, &mut connection, Arc::clone(signals))?;
        let writer = Writer::new(
            connection,
            limit,
            checkpoints,
            Arc::clone(signals),
            settings,
        );
        let (jobs, waiting) = mpsc::channel(settings.queue);
        std::thread::Builder::new()
            .name("db-writer".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| StoreError::failed(format!("can't start a thread: {error}")))?;
        let readers = Readers::new(
            path.clone(),
            settings.readers,
            settings.body_limit,
            Arc::clone(signals),
        );
        Ok(Self {
            path,
            jobs,
            readers: Arc::new(readers),
        })
    }

    /// Queues `body` for the next group and waits until that is durable.
    pub(super) async fn write(&self, body: Body) -> Outcome {
        let name = body.name;
        let (reply, answer) = oneshot::channel();
        self.jobs
            .try_send(Job { body, reply })
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => {
                    metrics::turned_away(name, "too many writes are waiting")
                }
                mpsc::error::TrySendError::Closed(_) => {
                    StoreError::fatal("the writer's thread has stopped")
                }
            })?;
        let dead = |_| StoreError::CommitUnknown("the writer's thread died".to_owned());
        answer.await.map_err(dead)?
    }

    /// Runs `body` on one snapshot.
    pub(super) async fn read(&self, body: Body) -> Outcome {
        self.readers.read(body).await
    }

    /// Writes a consistent copy to `target`.
    pub(super) async fn backup_to(&self, target: &Path) -> Result<(), StoreError> {
        let (path, target) = (self.path.clone(), target.to_owned());
        blocking(move || backup::run(&path, &target)).await
    }

    /// Calls `migrate` with a connection of its own, alone among all processes of this machine.
    pub(super) async fn exclusively<T: Send + 'static>(
        &self,
        migrate: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        blocking(move || {
            let lock = connection::lock_folder(&path)?;
            let migrated = migrate(&mut connection::open_writer(&path)?);
            drop(lock);
            migrated
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::failed(error.to_string()))?
}
