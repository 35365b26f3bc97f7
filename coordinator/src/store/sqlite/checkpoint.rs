//! Checkpoints: pages move from the write-ahead log into the database on a thread of their own, so that no commit waits
//! for it (a commit that did took 20 to 70 ms instead of 0.2).
//!
//! # Invariants
//! - The log is bounded as long as readers end: if writes never pause, the thread can't finish, so the writer itself
//!   checkpoints between two groups once the log is [`PAGES_HARD`] long.

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use rusqlite::{Connection, wal::CheckpointMode};

use super::{connection, tx::translate};
use crate::store::{StoreError, signals::Signals};

/// From this length on (4 MiB) the thread is woken.
const PAGES_SOFT: i32 = 1_000;
/// From this length on (64 MiB) the writer does it.
pub(super) const PAGES_HARD: i32 = 16_000;

/// Starts the thread; it ends when the sender is dropped.
pub(super) fn start(
    path: &Path,
    signals: Arc<Signals>,
) -> Result<mpsc::SyncSender<()>, StoreError> {
    let connection = connection::open_writer(path)?;
    let (wake, woken) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("db-checkpoint".to_owned())
        .spawn(move || {
            while woken.recv().is_ok() {
                run(&connection, &signals);
            }
        })
        .map_err(|error| StoreError::failed(format!("can't start a thread: {error}")))?;
    Ok(wake)
}

/// Moves what no reader needs any more, without waiting for anybody.
pub(super) fn run(connection: &Connection, signals: &Signals) {
    match connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE) {
        Ok((log_pages, moved_pages)) => {
            tracing::debug!(
                wal.pages = log_pages,
                wal.moved_pages = moved_pages,
                "checkpoint done"
            );
        }
        Err(error) => {
            let error = translate(&error);
            signals.note(&error);
            tracing::warn!(%error, "checkpoint failed");
        }
    }
}

/// The length of the log after the writer's last commit, in pages.
#[derive(Debug, Default, Clone)]
pub(super) struct LogLength(Arc<std::sync::atomic::AtomicI32>);

impl LogLength {
    /// Keeps `self` up to date with every commit of `connection`, and wakes the thread.
    pub(super) fn watch(
        &self,
        connection: &mut Connection,
        wake: mpsc::SyncSender<()>,
    ) -> Result<(), StoreError> {
        let length = Arc::clone(&self.0);
        let hook = move |_: &mut rusqlite::hooks::Wal, pages| {
            length.store(pages, std::sync::atomic::Ordering::Relaxed);
            if pages >= PAGES_SOFT {
                // a full channel means that it is already awake
                let _ = wake.try_send(());
            }
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(|e| translate(&e))
    }

    pub(super) fn pages(&self) -> i32 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
