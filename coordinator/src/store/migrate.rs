//! The schema: migrations embedded in the binary, applied in the order of their versions, each in a transaction.
//!
//! # Invariants
//! - An applied migration is never edited: its checksum is compared at every start.
//! - Coordinators that start at once apply each migration once: a lock is held around it (advisory on PostgreSQL, on
//!   the file's folder with SQLite).

use std::collections::BTreeMap;

use refinery::{Migration, Runner, Target};

use super::{Db, Driver, StoreError, Tx};
use crate::{
    error::{Error, Result},
    params,
};

#[cfg(test)]
mod tests;

mod sqlite {
    refinery::embed_migrations!("../migrations/sqlite");
}

mod postgres {
    refinery::embed_migrations!("../migrations/postgres");
}

const HISTORY_EXISTS_SQLITE: &str = "SELECT name FROM sqlite_schema \
     WHERE type = 'table' AND name = 'refinery_schema_history'";
const HISTORY_EXISTS_POSTGRES: &str =
    "SELECT relname FROM pg_class WHERE oid = to_regclass('refinery_schema_history')";

/// The migrations for SQLite.
fn sqlite_runner() -> Runner {
    strict(sqlite::migrations::runner())
}

/// The migrations for PostgreSQL.
fn postgres_runner() -> Runner {
    strict(postgres::migrations::runner())
}

fn strict(runner: Runner) -> Runner {
    runner.set_abort_divergent(true).set_abort_missing(true)
}

impl Db {
    /// Brings the schema up to this binary's version; does nothing if it is there already. Returns the names of
    /// the migrations that were applied.
    ///
    /// # Errors
    /// The database is newer than this binary, an applied migration was edited, or what the database says.
    pub async fn migrate(&self) -> Result<Vec<String>> {
        let applied = self.apply(Target::Latest).await?;
        if !applied.is_empty() {
            tracing::info!(migrations = applied.join(" "), "schema migrated");
        }
        let id = random_id()?;
        self.write("store.database_id.set", move |tx| {
            let sql = "INSERT INTO store_meta (key, value) VALUES ('database_id', $1) \
                       ON CONFLICT (key) DO NOTHING";
            tx.execute(sql, params![id.as_str()])?;
            Ok(())
        })
        .await?;
        Ok(applied)
    }

    /// Applies what is missing up to `target`.
    async fn apply(&self, target: Target) -> Result<Vec<String>> {
        match &self.inner.driver {
            Driver::Sqlite(driver) => {
                let migrated = driver.exclusively(move |connection| {
                    let report = sqlite_runner().set_target(target).run(connection);
                    report.map(|it| names(&it)).map_err(|e| translate(&e))
                });
                Ok(migrated.await?)
            }
            Driver::Postgres(driver) => {
                let report = driver
                    .migrate(&postgres_runner().set_target(target))
                    .await?;
                Ok(names(&report.map_err(|e| translate(&e))?))
            }
        }
    }

    /// Whether the schema is exactly the one this binary was built for.
    ///
    /// # Errors
    /// It is older, newer or another; the text says which and what to do.
    pub async fn check_schema(&self) -> Result<()> {
        let (exists, runner) = match &self.inner.driver {
            Driver::Sqlite(_) => (HISTORY_EXISTS_SQLITE, sqlite_runner()),
            Driver::Postgres(_) => (HISTORY_EXISTS_POSTGRES, postgres_runner()),
        };
        let applied = self
            .read("store.schema.check", move |tx| applied(tx, exists))
            .await?;
        compare(runner.get_migrations(), &applied).map_err(|why| StoreError::failed(why).into())
    }

    /// The random name this database was given when it was made (32 hexadecimal digits).
    ///
    /// # Errors
    /// The schema was never migrated, or what the database says.
    pub async fn database_id(&self) -> Result<String> {
        self.read("store.database_id.get", |tx| {
            let sql = "SELECT value FROM store_meta WHERE key = 'database_id'";
            let rows = tx.query(sql, &[])?;
            let row = rows
                .first()
                .ok_or_else(|| Error::corrupt("store_meta", "database_id", "value"))?;
            Ok(row.text(0)?.to_owned())
        })
        .await
    }
}

/// Name and checksum by version.
type Applied = BTreeMap<i64, (String, String)>;

fn applied(tx: &mut dyn Tx, history_exists: &str) -> Result<Applied> {
    if tx.query(history_exists, &[])?.is_empty() {
        return Ok(Applied::new());
    }
    let sql = "SELECT version, name, checksum FROM refinery_schema_history";
    let mut applied = Applied::new();
    for row in tx.query(sql, &[])? {
        let facts = (row.text(1)?.to_owned(), row.text(2)?.to_owned());
        applied.insert(row.int(0)?, facts);
    }
    Ok(applied)
}

/// Compares what this binary brings with what the database has.
fn compare(embedded: &[Migration], applied: &Applied) -> Result<(), String> {
    let mut unknown = applied.clone();
    let mut pending = Vec::new();
    for migration in embedded {
        match unknown.remove(&i64::from(migration.version())) {
            None => pending.push(migration.to_string()),
            Some((name, checksum))
                if name != migration.name() || checksum != migration.checksum().to_string() =>
            {
                return Err(format!(
                    "the schema was made by another {migration} than this binary's: use the binary that belongs to the database"
                ));
            }
            Some(_) => {}
        }
    }
    if let Some((version, (name, _))) = unknown.last_key_value() {
        return Err(format!(
            "the schema is newer than this binary (it has V{version}__{name}): install the newer binary"
        ));
    }
    if !pending.is_empty() {
        return Err(format!(
            "the schema is older than this binary ({} missing): run `ramarket-coordinator migrate`",
            pending.join(", ")
        ));
    }
    Ok(())
}

fn names(report: &refinery::Report) -> Vec<String> {
    let applied = report.applied_migrations().iter();
    applied.map(ToString::to_string).collect()
}

fn translate(error: &refinery::Error) -> StoreError {
    let cause = std::error::Error::source(error).map_or_else(String::new, |it| format!(": {it}"));
    StoreError::failed(format!("migrating failed: {error}{cause}"))
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| Error::internal("the system gives no random bytes"))?;
    Ok(hex::encode(bytes))
}
