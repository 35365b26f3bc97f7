//! What rentals wrote, kept after their containers are gone: so that whoever rented can see why it ended.
//!
//! # Invariants
//! - A log is whole under its name or not there: it is written anew, synced, then takes the name. To keep it again changes nothing.
//! - Each is bounded ([`LOG_BYTES_MAX`], and never more than all may have: its end), all together are, and each goes after its time; to make room the oldest go first.
//! - A disk that is full costs the log, never the removal of the container.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use shared::{
    clock::Clock,
    id::RentalId,
    link::open::{Entry, LogsQuery},
};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt as _, BufReader, Lines},
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    durable,
    runtime::{ContainerRuntime, RuntimeError, logs},
};

/// Bytes of a kept log: its last ones.
pub const LOG_BYTES_MAX: usize = 16 << 20;
/// How long an engine may take to tell a log; what came by then is kept.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// How often an engine that doesn't answer is asked for one container's log.
const TRIES_MAX: u32 = 3;
/// The same while the engine isn't even asked, for others keep it busy: longer than a tenant could gain by that.
const BUSY_TRIES_MAX: u32 = 100;
/// Containers whose tries are counted.
const COUNTED_MAX: usize = 1_024;
/// How often old ones are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
const MODE: u32 = 0o600;
const SUFFIX: &str = "log";

/// How much is kept and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of all logs together; 0 keeps none.
    pub bytes: i64,
    /// Of each, milliseconds.
    pub keep_ms: i64,
}

/// The logs in a folder.
#[derive(Debug)]
pub struct KeptLogs {
    folder: PathBuf,
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// One at a time: each is held in memory while it is written.
    keeping: tokio::sync::Mutex<()>,
    tries: Mutex<HashMap<String, Tries>>,
}

/// How often a container's log was asked for in vain.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    unanswered: u32,
    busy: u32,
}

/// A file of the folder.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    bytes: u64,
    /// Milliseconds since 1970.
    changed_ms: i64,
}

impl KeptLogs {
    /// In this folder, which is made if it isn't there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(folder: PathBuf, limits: Limits, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
        Ok(Self {
            folder,
            limits,
            clock,
            keeping: tokio::sync::Mutex::default(),
            tries: Mutex::default(),
        })
    }

    fn path(&self, rental_id: RentalId) -> PathBuf {
        self.folder.join(format!("{rental_id}.{SUFFIX}"))
    }

    /// Removes what is too old, now and from time to time.
    pub async fn sweep(self: Arc<Self>, shutdown: CancellationToken) {
        let mut due = interval(SWEEP_EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = due.tick() => {}
            }
            let _turn = self.keeping.lock().await;
            let kept = Arc::clone(&self);
            let swept = tokio::task::spawn_blocking(move || kept.make_room(0)).await;
            if let Ok(Err(error)) = swept {
                tracing::warn!(%error, "old logs can't be removed");
            }
        }
    }

    /// Keeps what a container wrote, before it is removed. When this returns `Ok`, it is durable or given up.
    ///
    /// # Errors
    /// The engine didn't answer, and may yet.
    pub async fn keep(
        self: &Arc<Self>,
        runtime: &dyn ContainerRuntime,
        rental_id: RentalId,
        container_id: &str,
    ) -> Result<(), RuntimeError> {
        if self.limits.bytes <= 0 {
            return Ok(());
        }
        let _turn = self.keeping.lock().await;
        let text = match told(runtime, container_id, self.log_bytes_max()).await {
            Err(error) if self.may_try_again(container_id, &error) => return Err(error),
            Err(error) => {
                tracing::warn!(rental.id = %rental_id, %error, "the rental's log can't be read, and isn't kept");
                return Ok(());
            }
            Ok(text) => text,
        };
        if text.is_empty() {
            return Ok(());
        }
        let (kept, path) = (Arc::clone(self), self.path(rental_id));
        let written = tokio::task::spawn_blocking(move || {
            kept.make_room(text.len())?;
            durable::replace(&path, &text, MODE)
        });
        let written = written.await.map_err(io::Error::other).flatten();
        if let Err(error) = written {
            tracing::warn!(rental.id = %rental_id, %error, "the rental's log can't be written, and isn't kept; check the space of the agent's folder");
        }
        Ok(())
    }

    /// Of one log; no more than all together may take.
    fn log_bytes_max(&self) -> usize {
        let all = usize::try_from(self.limits.bytes).unwrap_or_default();
        all.min(LOG_BYTES_MAX)
    }

    /// Counts a try; false when it was the last.
    fn may_try_again(&self, container_id: &str, error: &RuntimeError) -> bool {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= COUNTED_MAX {
            tries.clear();
        }
        let tries = tries.entry(container_id.to_owned()).or_default();
        let (count, most) = match error {
            RuntimeError::Unavailable(_) => (&mut tries.unanswered, TRIES_MAX),
            RuntimeError::Busy(_) => (&mut tries.busy, BUSY_TRIES_MAX),
            RuntimeError::Refused { .. } => return false,
        };
        *count = count.saturating_add(1);
        *count < most
    }

    /// Removes the oldest until `bytes` more fit, and all whose time is over.
    fn make_room(&self, bytes: usize) -> io::Result<()> {
        let mut found = self.found()?;
        found.sort_by_key(|log| log.changed_ms);
        let oldest_ms = self.clock.now().as_micros() / 1_000 - self.limits.keep_ms;
        let limit = u64::try_from(self.limits.bytes).unwrap_or_default();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut all: u64 = found.iter().map(|log| log.bytes).sum();
        for log in found {
            if log.changed_ms >= oldest_ms && all.saturating_add(bytes) <= limit {
                break;
            }
            match std::fs::remove_file(&log.path) {
                // somebody else's doing, and as good
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
            all = all.saturating_sub(log.bytes);
        }
        Ok(())
    }

    fn found(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                facts => facts?,
            };
            let changed = facts.modified()?.duration_since(UNIX_EPOCH);
            let changed_ms = changed.map_or(0, |since| since.as_millis());
            found.push(Found {
                path: entry.path(),
                bytes: facts.len(),
                changed_ms: i64::try_from(changed_ms).unwrap_or(i64::MAX),
            });
        }
        Ok(found)
    }

    /// Whether a rental's log is kept.
    #[must_use]
    pub fn has(&self, rental_id: RentalId) -> bool {
        self.path(rental_id).is_file()
    }

    /// What a rental wrote, as [`ContainerRuntime::logs`] would tell it; nothing follows.
    #[must_use]
    pub fn logs(
        &self,
        rental_id: RentalId,
        query: LogsQuery,
    ) -> BoxStream<'static, Result<Entry, RuntimeError>> {
        logs::pick(query, read(self.path(rental_id)))
    }
}

/// The end of what a container wrote, as lines of JSON.
async fn told(
    runtime: &dyn ContainerRuntime,
    container_id: &str,
    bytes_max: usize,
) -> Result<Vec<u8>, RuntimeError> {
    let mut entries = runtime.logs(container_id, LogsQuery::default());
    let (mut lines, mut bytes) = (VecDeque::<Vec<u8>>::new(), 0);
    let reading = async {
        while let Some(entry) = entries.next().await {
            let Ok(mut line) = serde_json::to_vec(&entry?) else {
                continue;
            };
            line.push(b'\n');
            bytes += line.len();
            lines.push_back(line);
            while bytes > bytes_max {
                bytes -= lines.pop_front().map_or(bytes, |line| line.len());
            }
        }
        Ok::<(), RuntimeError>(())
    };
    if let Ok(failed) = timeout(TOLD_WITHIN, reading).await {
        failed?;
    }
    Ok(Vec::from(lines).concat())
}

fn read(path: PathBuf) -> BoxStream<'static, Result<Entry, RuntimeError>> {
    stream::once(async move { open(&path).await })
        .flat_map(|opened| match opened {
            Ok(lines) => stream::unfold(Some(lines), next).boxed(),
            Err(error) => stream::iter([Err(unreadable(&error))]).boxed(),
        })
        .boxed()
}

async fn open(path: &Path) -> io::Result<Lines<BufReader<File>>> {
    Ok(BufReader::new(File::open(path).await?).lines())
}

type Reading = Option<Lines<BufReader<File>>>;

async fn next(lines: Reading) -> Option<(Result<Entry, RuntimeError>, Reading)> {
    let mut lines = lines?;
    let line = match lines.next_line().await {
        Ok(line) => line?,
        Err(error) => return Some((Err(unreadable(&error)), None)),
    };
    match serde_json::from_str(&line) {
        Ok(entry) => Some((Ok(entry), Some(lines))),
        Err(error) => Some((Err(unreadable(&error)), None)),
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> RuntimeError {
    RuntimeError::Unavailable(format!("the kept log can't be read: {error}"))
}

#[cfg(test)]
mod tests;
