//! The database: one interface, two drivers.
//!
//! # Invariants
//! - SQL is written once, with `$1` parameters, in the portable subset: text, 64-bit integers, byte strings. Aggregates are
//!   cast (`CAST(SUM(x) AS BIGINT)`), a parameter that stands alone too (`CAST($1 AS BIGINT)`).
//! - A transaction body is a synchronous `Fn`: nothing can be awaited in it, and it may run again.
//! - A body that saw a database error returns `Err`: it can run no further statement.
//! - A write is acknowledged only after it is durable.
//! - Capacity, balances and quotas are guarded counters: `UPDATE … SET free = free - $1 WHERE id = $2 AND free >= $1` must hit
//!   exactly one row. A sum computed first and checked later is write skew on PostgreSQL (`READ COMMITTED`).
//! - Triggers use `RAISE(ABORT)`, never `RAISE(ROLLBACK)`, which undoes a whole group; no deferred constraints.

mod body;
mod error;
mod metrics;
mod migrate;
mod postgres;
#[cfg(test)]
mod schema_drift;
mod signals;
mod sqlite;
#[cfg(test)]
mod suite;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tx;
mod url;

use std::{fmt, path::Path, sync::Arc};

use tokio::{sync::watch, time::Instant};

use self::{body::Body, postgres::Postgres, signals::Signals, sqlite::Sqlite};
pub use self::{
    error::StoreError,
    tx::{Row, Tx, Value},
    url::{DatabaseUrl, DatabaseUrlError},
};
use crate::{
    crash::{self, Side},
    error::Result,
};

/// A handle on the database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Driver,
    signals: Arc<Signals>,
}

enum Driver {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.inner.driver {
            Driver::Sqlite(_) => "Db(sqlite)",
            Driver::Postgres(_) => "Db(postgres)",
        })
    }
}

impl Db {
    /// Opens the database; a SQLite file is made if there is none. The schema isn't looked at: see
    /// [`Db::migrate`] and [`Db::check_schema`].
    ///
    /// # Errors
    /// It can't be reached or opened, or is set up such that a commit may be lost.
    pub async fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let signals = Arc::new(Signals::new());
        let driver = match url {
            DatabaseUrl::Sqlite(path) => Driver::Sqlite(Sqlite::open(path, &signals).await?),
            DatabaseUrl::Postgres(config) => {
                Driver::Postgres(Box::new(Postgres::open(config, &signals).await?))
            }
        };
        Ok(Self {
            inner: Arc::new(Inner { driver, signals }),
        })
    }

    /// Runs `body` in a transaction that may write, and commits it durably. `name` shows in metrics and logs.
    /// The body may run several times (conflicts on PostgreSQL, an undone group on SQLite): it must be free of side
    /// effects. If the future is dropped the body may still be committed.
    ///
    /// # Errors
    /// What the body returned (then nothing is changed), or what the database says.
    pub async fn write<T, F>(&self, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + Sync + 'static,
    {
        let started = Instant::now();
        let body = Body::new(name, body);
        crash::point(name, Side::Before).await;
        let outcome = match &self.inner.driver {
            Driver::Sqlite(driver) => driver.write(body).await,
            Driver::Postgres(driver) => driver.write(body).await,
        };
        crash::point(name, Side::After).await;
        metrics::write_took(name, started.elapsed());
        outcome.and_then(body::unpack)
    }

    /// Runs `body` on a consistent snapshot without writing.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn read<T, F>(&self, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + Sync + 'static,
    {
        let started = Instant::now();
        let body = Body::new(name, body);
        let outcome = match &self.inner.driver {
            Driver::Sqlite(driver) => driver.read(body).await,
            Driver::Postgres(driver) => driver.read(body).await,
        };
        metrics::read_took(name, started.elapsed());
        outcome.and_then(body::unpack)
    }

    /// A counter that moves after each commit (or group of commits) of *this process*. It says "look again" and not
    /// what changed; on PostgreSQL other coordinators' commits don't move it.
    #[must_use]
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.inner.signals.committed()
    }

    /// Resolves, with the reason, once the disk or the file turned out to be broken: nothing is written any more and
    /// the process should end. Never resolves otherwise.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.inner.signals.fatal();
        let reason = fatal.wait_for(Option::is_some).await;
        // the sender lives as long as `self`
        reason.map_or_else(|e| e.to_string(), |it| it.clone().unwrap_or_default())
    }

    /// Writes a consistent, checked copy of a SQLite database to the file `target` while work goes on; a file
    /// that was there is replaced once the copy is whole.
    ///
    /// # Errors
    /// The database is on PostgreSQL, the file can't be written, or the copy is broken.
    pub async fn backup_to(&self, target: &Path) -> Result<(), StoreError> {
        match &self.inner.driver {
            Driver::Sqlite(driver) => driver.backup_to(target).await,
            Driver::Postgres(_) => Err(StoreError::failed(
                "this makes copies of SQLite databases only: use pg_dump (or pg_basebackup) for PostgreSQL",
            )),
        }
    }
}
