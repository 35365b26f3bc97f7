//! Readers of a SQLite database: a bounded pool of connections that can't write, each body on one snapshot.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    connection::{self, TimeLimit},
    tx::{SqliteTx, translate},
};
use crate::{
    error::Error,
    store::{
        StoreError,
        body::{Attempt, Body, Outcome},
        metrics,
        signals::Signals,
    },
};

const WAIT_MAX: Duration = Duration::from_secs(5);

/// The pool.
pub(super) struct Readers {
    path: PathBuf,
    body_limit: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Reader>>,
    signals: Arc<Signals>,
}

struct Reader {
    connection: Connection,
    limit: TimeLimit,
}

impl Readers {
    pub(super) fn new(
        path: PathBuf,
        count: usize,
        body_limit: Duration,
        signals: Arc<Signals>,
    ) -> Self {
        Self {
            path,
            body_limit,
            permits: Arc::new(Semaphore::new(count)),
            idle: Mutex::new(Vec::new()),
            signals,
        }
    }

    /// Runs `body` on one snapshot.
    pub(super) async fn read(self: &Arc<Self>, body: Body) -> Outcome {
        let permit = timeout(WAIT_MAX, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| metrics::turned_away(body.name, "all readers are in use"))?
            .map_err(Error::internal)?;
        let readers = Arc::clone(self);
        let ran = tokio::task::spawn_blocking(move || {
            let outcome = readers.run(&body);
            drop(permit);
            outcome
        });
        ran.await.map_err(Error::internal)?
    }

    fn run(&self, body: &Body) -> Outcome {
        let idle = self.idle().pop();
        let reader = idle.map_or_else(|| self.open(), Ok)?;
        let attempt = reader.run(body).inspect_err(|e| self.signals.note(e))?;
        if let Some(error) = &attempt.failure {
            self.signals.note(error);
        }
        if reader.connection.is_autocommit() {
            self.idle().push(reader);
        }
        attempt.outcome
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<Reader, StoreError> {
        let mut connection = connection::open_reader(&self.path)?;
        let limit = TimeLimit::install(&mut connection, self.body_limit)?;
        Ok(Reader { connection, limit })
    }
}

impl Reader {
    fn run(&self, body: &Body) -> Result<Attempt, StoreError> {
        self.statement("BEGIN DEFERRED")?;
        self.limit.arm();
        let attempt = body.run(&mut SqliteTx::new(&self.connection));
        self.limit.disarm();
        if !self.connection.is_autocommit()
            && let Err(error) = self.statement("ROLLBACK")
        {
            // the connection isn't used again; what was read stays true
            tracing::warn!(%error, "can't end a read");
        }
        Ok(attempt)
    }

    fn statement(&self, sql: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.raw_execute())
            .map(drop)
            .map_err(|e| translate(&e))
    }
}
