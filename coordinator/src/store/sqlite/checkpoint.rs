//! Checkpoints: pages move from the write-ahead log into the database on a thread of their own, so that no commit waits
//! for it (a commit that did took 20 to 70 ms instead of 0.2).
//!
//! # Invariants
//! - The log is bounded as long as readers end: if writes never pause, the thread can't finish, so the writer itself
//!   checkpoints between two groups once the log is `Settings::log_pages_max` long.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
        mpsc,
    },
};

use rusqlite::{Connection, hooks::Wal, wal::CheckpointMode};

use super::{connection, tx::translate};
use crate::store::{StoreError, signals::Signals};

/// From this length on (4 MiB) the thread is woken.
const WAKE_PAGES: i32 = 1_000;

/// What the thread and the writer share.
pub(super) struct Checkpoints {
    /// One at a time: SQLite would turn the second away.
    turn: Mutex<()>,
    /// The length of the log after the writer's last commit.
    log_pages: AtomicI32,
    signals: Arc<Signals>,
}

impl Checkpoints {
    /// Starts the thread, which lives as long as `writer`, whose commits wake it.
    pub(super) fn start(
        path: &Path,
        writer: &mut Connection,
        signals: Arc<Signals>,
    ) -> Result<Arc<Self>, StoreError> {
        let shared = Arc::new(Self {
            turn: Mutex::new(()),
            log_pages: AtomicI32::new(0),
            signals,
        });
        let connection = connection::open_writer(path)?;
        let (wake, woken) = mpsc::sync_channel(1);
        let checkpoints = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("db-checkpoint".to_owned())
            .spawn(move || {
                while woken.recv().is_ok() {
                    checkpoints.run(&connection);
                }
            })
            .map_err(|error| StoreError::failed(format!("can't start a thread: {error}")))?;
        let checkpoints = Arc::clone(&shared);
        let hook = move |_: &mut Wal, pages| {
            checkpoints.log_pages.store(pages, Ordering::Relaxed);
            if pages >= WAKE_PAGES {
                // a full channel means that it is awake already
                let _ = wake.try_send(());
            }
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(|e| translate(&e))?;
        Ok(shared)
    }

    /// Moves what no reader needs any more, without waiting for readers or writers.
    pub(super) fn run(&self, connection: &Connection) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE);
        drop(turn);
        match moved.map_err(|e| translate(&e)) {
            Ok((log_pages, moved_pages)) => {
                tracing::debug!(
                    wal.pages = log_pages,
                    wal.moved_pages = moved_pages,
                    "checkpoint done"
                );
            }
            Err(StoreError::Busy(_)) => tracing::debug!("another process checkpoints"),
            Err(error) => {
                self.signals.note(&error);
                tracing::warn!(%error, "checkpoint failed");
            }
        }
    }

    /// The length of the log after the writer's last commit, in pages.
    pub(super) fn log_pages(&self) -> i32 {
        self.log_pages.load(Ordering::Relaxed)
    }
}
