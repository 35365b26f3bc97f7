//! The PostgreSQL driver: a pool of connections, each body on a thread that may block.
//!
//! # Invariants
//! - Bodies run in `spawn_blocking` and wait for each statement with `Handle::block_on`; never on the runtime's own threads.
//! - Not more bodies at once than connections, so that nobody holds a thread while he waits for a connection.
//! - Writes are READ COMMITTED, reads REPEATABLE READ READ ONLY (one snapshot).
//! - A conflict is tried again; a commit whose outcome isn't known never is.

mod errors;
mod tx;

#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use deadpool_postgres::{
    Client, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime, Transaction,
};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_postgres::{Config, IsolationLevel, NoTls};

use self::tx::{NoReply, PgTx, wait};
use super::{
    StoreError,
    body::{Attempt, Body, Outcome},
    metrics,
    signals::Signals,
};
use crate::error::Error;

const CONNECTIONS: usize = 16;
const WAIT_MAX: Duration = Duration::from_secs(5);
const RUNS_MAX: u32 = 20;
/// What the server is told; a longer statement or pause is an error there.
const SESSION_OPTIONS: &str =
    "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000";
const OLDEST_SERVER: i32 = 130_000;
/// Held while the schema is migrated ("ramarket" in ASCII).
const MIGRATION_LOCK: i64 = 0x7261_6d61_726b_6574;

/// A pool of connections to a server.
pub(super) struct Postgres {
    config: Config,
    pool: Pool,
    permits: Arc<Semaphore>,
    signals: Arc<Signals>,
}

/// What a transaction may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// What came of one run.
enum Verdict {
    Done(Outcome),
    /// Nothing was done; a run on newer rows may end better.
    Conflict(StoreError),
    /// As `Conflict`, but one more run tells: the body looked first and didn't see what came in between, or it really is
    /// a duplicate.
    Duplicate(Error),
}

impl Postgres {
    /// Connects, and refuses a server on which a commit may be lost.
    pub(super) async fn open(config: &Config, signals: &Arc<Signals>) -> Result<Self, StoreError> {
        let mut config = config.clone();
        let options = match config.get_options() {
            Some(own) => format!("{own} {SESSION_OPTIONS}"),
            None => SESSION_OPTIONS.to_owned(),
        };
        config.options(options);
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_config(config.clone(), NoTls, manager))
            .max_size(CONNECTIONS)
            .create_timeout(Some(WAIT_MAX))
            .wait_timeout(Some(WAIT_MAX))
            .recycle_timeout(Some(WAIT_MAX))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::failed(error.to_string()))?;
        let opened = Self {
            config,
            pool,
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            signals: Arc::clone(signals),
        };
        opened.check_server().await?;
        Ok(opened)
    }

    async fn check_server(&self) -> Result<(), StoreError> {
        let client = self.connection().await?;
        let sql = "SELECT current_setting('server_version_num', true), current_setting('server_encoding', true), \
                   current_setting('fsync', true), current_setting('synchronous_commit', true)";
        let row = client.query_one(sql, &[]).await;
        let row = row.map_err(|error| errors::translate(&error))?;
        let setting = |column| -> Result<Option<String>, StoreError> {
            row.try_get(column).map_err(|e| errors::translate(&e))
        };
        // an engine that only speaks the protocol may lack a setting
        let refuse = |why: &str| Err(StoreError::failed(format!("this PostgreSQL server {why}")));
        if let Some(version) = setting(0)?.and_then(|it| it.parse::<i32>().ok())
            && version < OLDEST_SERVER
        {
            return refuse("is too old: version 13 or later is needed");
        }
        if setting(1)?.is_some_and(|it| it != "UTF8") {
            return refuse("keeps this database in another encoding than UTF8: create it anew");
        }
        if setting(2)?.is_some_and(|it| it == "off") {
            return refuse("runs with fsync=off and may lose commits: set fsync=on");
        }
        if setting(3)?.is_some_and(|it| it == "off") {
            return refuse(
                "runs with synchronous_commit=off and may lose commits: set it to on for this database or user",
            );
        }
        Ok(())
    }

    /// Runs `body` until it is committed, refused, or has met too many conflicts.
    pub(super) async fn write(&self, body: Body) -> Outcome {
        if let Some(error) = self.signals.broken() {
            return Err(error.into());
        }
        self.run(body, Access::Write).await
    }

    /// Runs `body` on one snapshot.
    pub(super) async fn read(&self, body: Body) -> Outcome {
        self.run(body, Access::Read).await
    }

    async fn run(&self, body: Body, access: Access) -> Outcome {
        let name = body.name;
        let mut duplicate_seen = false;
        let mut conflicts = 0;
        loop {
            match self.run_once(body.clone(), access).await? {
                Verdict::Done(outcome) => return outcome,
                Verdict::Conflict(error) => {
                    conflicts += 1;
                    if conflicts == RUNS_MAX {
                        return Err(metrics::turned_away(name, &error.to_string()).into());
                    }
                    metrics::retried(name, "conflict");
                    tracing::debug!(db.body = name, db.conflicts = conflicts, %error, "running again");
                    sleep(pause(conflicts)).await;
                }
                Verdict::Duplicate(error) if duplicate_seen => return Err(error),
                Verdict::Duplicate(_) => {
                    metrics::retried(name, "duplicate");
                    duplicate_seen = true;
                }
            }
        }
    }

    async fn run_once(&self, body: Body, access: Access) -> Result<Verdict, Error> {
        let permit = timeout(WAIT_MAX, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| metrics::turned_away(body.name, "all connections are in use"))?
            .map_err(Error::internal)?;
        let mut client = self.connection().await?;
        let (handle, signals) = (Handle::current(), Arc::clone(&self.signals));
        let ran = tokio::task::spawn_blocking(move || {
            let (verdict, lost) = transaction(&handle, &signals, &mut client, &body, access);
            if lost {
                // closed instead of going back to the pool
                drop(Client::take(client));
            }
            drop(permit);
            verdict
        });
        ran.await.map_err(Error::internal)
    }

    async fn connection(&self) -> Result<Client, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => {
                let cause = errors::translate(&error).to_string();
                StoreError::Busy(format!("can't connect: {cause}"))
            }
            other => StoreError::Busy(format!("no connection: {other}")),
        })
    }

    /// Applies what is missing of `runner`'s migrations, alone among all coordinators.
    pub(super) async fn migrate(
        &self,
        runner: &refinery::Runner,
    ) -> Result<Result<refinery::Report, refinery::Error>, StoreError> {
        let translate = |error| errors::translate(&error);
        let (mut client, connection) = self.config.connect(NoTls).await.map_err(translate)?;
        let connection = tokio::spawn(connection);
        // waiting for another coordinator, or for a big table, takes its time
        let settings = "SET statement_timeout = 0";
        client.batch_execute(settings).await.map_err(translate)?;
        let lock = "SELECT pg_advisory_lock($1)";
        let locked = client.execute(lock, &[&MIGRATION_LOCK]).await;
        locked.map_err(translate)?;
        let migrated = Box::pin(runner.run_async(&mut client)).await;
        // ends the session and with it the lock
        drop(client);
        match connection.await {
            Ok(Err(error)) => tracing::warn!(%error, "the connection that migrated broke"),
            Err(error) => tracing::warn!(%error, "the connection that migrated broke"),
            Ok(Ok(())) => {}
        }
        Ok(migrated)
    }
}

/// One transaction from begin to end; the second value says that the connection is of no more use.
fn transaction(
    handle: &Handle,
    signals: &Signals,
    client: &mut Client,
    body: &Body,
    access: Access,
) -> (Verdict, bool) {
    let isolation = match access {
        Access::Read => IsolationLevel::RepeatableRead,
        Access::Write => IsolationLevel::ReadCommitted,
    };
    let begin = client
        .build_transaction()
        .isolation_level(isolation)
        .read_only(access == Access::Read);
    let tx = match wait(handle, begin.start()) {
        Ok(tx) => tx,
        Err(no_reply) => return (give_up(no_reply.into()), true),
    };
    let mut inside = PgTx::new(handle, &tx);
    let Attempt { outcome, failure } = body.run(&mut inside);
    let lost = inside.lost();
    if let Some(error) = &failure {
        signals.note(error);
    }
    match outcome {
        Ok(value) if access == Access::Write => match commit(handle, tx) {
            Ok(()) => {
                // here and not where the caller waits: he may have gone
                signals.commit_done();
                (Verdict::Done(Ok(value)), false)
            }
            Err((error, lost)) => {
                if matches!(error, StoreError::CommitUnknown(_)) {
                    // perhaps; to look again does no harm
                    signals.commit_done();
                }
                (give_up(error), lost)
            }
        },
        Ok(value) => (Verdict::Done(Ok(value)), roll_back(handle, tx)),
        Err(error) => {
            let lost = lost || roll_back(handle, tx);
            let verdict = match failure {
                Some(conflict @ StoreError::Busy(_)) => Verdict::Conflict(conflict),
                Some(StoreError::Unique(_)) => Verdict::Duplicate(error),
                Some(_) => Verdict::Done(Err(error)),
                None => match overtaken(&error) {
                    Some(conflict) => Verdict::Conflict(conflict),
                    None => Verdict::Done(Err(error)),
                },
            };
            (verdict, lost)
        }
    }
}

/// What a body says that found its guarded row written meanwhile: on a fresh snapshot it may go through.
fn overtaken(error: &Error) -> Option<StoreError> {
    let source = std::error::Error::source(error)?.downcast_ref::<StoreError>()?;
    matches!(source, StoreError::Busy(_)).then(|| source.clone())
}

fn give_up(error: StoreError) -> Verdict {
    match error {
        StoreError::Busy(_) => Verdict::Conflict(error),
        other => Verdict::Done(Err(other.into())),
    }
}

fn commit(handle: &Handle, tx: Transaction<'_>) -> Result<(), (StoreError, bool)> {
    wait(handle, tx.commit()).map_err(|no_reply| match no_reply {
        NoReply::Refused(error) => (errors::translate_commit(&error), false),
        NoReply::Lost(error) => (errors::translate_commit(&error), true),
        late @ NoReply::Late => {
            let text = StoreError::from(late).to_string();
            (StoreError::CommitUnknown(text), true)
        }
    })
}

/// Whether the connection is of no more use.
fn roll_back(handle: &Handle, tx: Transaction<'_>) -> bool {
    wait(handle, tx.rollback()).is_err()
}

/// Longer with each conflict, up to a quarter of a second, and never the same for two that met.
fn pause(conflicts: u32) -> Duration {
    let longest_us = 2_000_u64 << conflicts.min(7);
    // a new RandomState is random, and needs no generator
    let random = RandomState::new().hash_one(conflicts);
    Duration::from_micros(longest_us / 2 + random % (longest_us / 2))
}
