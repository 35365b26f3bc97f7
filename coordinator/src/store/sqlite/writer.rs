//! The one writer of a SQLite database: a thread that commits what waits together.
//!
//! # Invariants
//! - One group = one `BEGIN IMMEDIATE` … `COMMIT`; each body runs in its own savepoint, so that a refused one leaves
//!   nothing behind and doesn't hurt the others.
//! - Nobody is answered before the outer commit: neither "done", nor an error that was decided on uncommitted rows.
//! - If the transaction is gone after a body (a trigger with `RAISE(ROLLBACK)`, an interrupt), the whole group is undone
//!   and each of its bodies runs again alone.
//! - After a fatal error nothing is written; whoever asks is refused.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    Settings,
    checkpoint::Checkpoints,
    connection::TimeLimit,
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

/// A body that waits, and who waits for it.
pub(super) struct Job {
    pub(super) body: Body,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// The thread's state.
pub(super) struct Writer {
    connection: Connection,
    limit: TimeLimit,
    group_max: usize,
    log_pages_max: i32,
    signals: Arc<Signals>,
    checkpoints: Arc<Checkpoints>,
}

/// Why a group came to nothing.
enum Broken {
    /// The transaction vanished under a body, which returned this.
    Vanished(Outcome),
    /// For all members.
    Failed(StoreError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        limit: TimeLimit,
        checkpoints: Arc<Checkpoints>,
        signals: Arc<Signals>,
        settings: &Settings,
    ) -> Self {
        Self {
            connection,
            limit,
            group_max: settings.group_max,
            log_pages_max: settings.log_pages_max,
            signals,
            checkpoints,
        }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut checkpointed_at = 0;
        while let Some(first) = jobs.blocking_recv() {
            let mut group = vec![first];
            while group.len() < self.group_max {
                match jobs.try_recv() {
                    Ok(job) => group.push(job),
                    Err(_) => break,
                }
            }
            self.commit_group(group);
            checkpointed_at = self.bound_log(checkpointed_at);
        }
    }

    /// Checkpoints here if the log is too long and has grown since the last time.
    fn bound_log(&self, checkpointed_at: i32) -> i32 {
        let pages = self.checkpoints.log_pages();
        if pages < self.log_pages_max {
            return 0;
        }
        if pages < checkpointed_at.saturating_add(self.log_pages_max / 16) {
            return checkpointed_at;
        }
        self.checkpoints.run(&self.connection);
        pages
    }

    fn commit_group(&self, group: Vec<Job>) {
        let outcomes = match self.attempt(&group) {
            Ok(outcomes) => outcomes,
            Err(Broken::Vanished(outcome)) if group.len() == 1 => {
                let vanished = || Error::internal("the transaction ended before its body did");
                vec![outcome.and_then(|_| Err(vanished()))]
            }
            Err(Broken::Vanished(_)) => {
                for job in group {
                    metrics::retried(job.body.name, "group_undone");
                    self.commit_group(vec![job]);
                }
                return;
            }
            Err(Broken::Failed(error)) => {
                self.signals.note(&error);
                let refused = group.iter().map(|_| Err(error.clone().into()));
                refused.collect()
            }
        };
        for (job, outcome) in group.into_iter().zip(outcomes) {
            // who no longer waits doesn't hear it; what is committed stays
            drop(job.reply.send(outcome));
        }
    }

    fn attempt(&self, group: &[Job]) -> Result<Vec<Outcome>, Broken> {
        if let Some(error) = self.signals.broken() {
            return Err(error.into());
        }
        self.statement("BEGIN IMMEDIATE")?;
        let outcomes = group
            .iter()
            .map(|job| self.member(&job.body))
            .collect::<Result<Vec<_>, _>>();
        match outcomes {
            Ok(outcomes) if outcomes.iter().any(Result::is_ok) => {
                self.commit()?;
                metrics::group_committed(group.len());
                Ok(outcomes)
            }
            nothing_to_keep => {
                self.roll_back();
                nothing_to_keep
            }
        }
    }

    /// Runs one body in its savepoint.
    fn member(&self, body: &Body) -> Result<Outcome, Broken> {
        self.statement("SAVEPOINT body")?;
        self.limit.arm();
        let Attempt { outcome, failure } = body.run(&mut SqliteTx::new(&self.connection));
        self.limit.disarm();
        if let Some(error) = failure.filter(StoreError::is_fatal) {
            return Err(error.into());
        }
        if self.connection.is_autocommit() {
            return Err(Broken::Vanished(outcome));
        }
        if outcome.is_err() {
            self.statement("ROLLBACK TO body")?;
        }
        self.statement("RELEASE body")?;
        Ok(outcome)
    }

    fn commit(&self) -> Result<(), StoreError> {
        match self.statement("COMMIT") {
            Ok(()) => {
                self.signals.commit_done();
                Ok(())
            }
            Err(error) => {
                self.roll_back();
                if error.is_fatal() {
                    // the record of the commit may or may not have reached the disk
                    self.signals.note(&error);
                    return Err(StoreError::CommitUnknown(error.to_string()));
                }
                Err(error)
            }
        }
    }

    fn roll_back(&self) {
        if self.connection.is_autocommit() {
            return;
        }
        if let Err(error) = self.statement("ROLLBACK") {
            self.signals
                .break_down(&format!("can't roll back: {error}"));
        }
    }

    fn statement(&self, sql: &str) -> Result<(), StoreError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.raw_execute())
            .map(drop)
            .map_err(|e| translate(&e))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.signals.break_down("the writer's thread panicked");
        }
    }
}
