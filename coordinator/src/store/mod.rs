//! The database: one interface, two drivers.
//!
//! # Invariants
//! - SQL is written once, with `$1` parameters, in the portable subset: text, 64-bit integers, byte strings.
//! - A transaction body is a synchronous `Fn`: nothing can be awaited in it, and it may run again.
//! - A body that saw a database error returns `Err`.
//! - A write is acknowledged only after it is durable.

mod tx;

use std::sync::Arc;

pub use tx::{Row, Tx, Value};

use crate::error::Result;

/// Why the database refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A UNIQUE or PRIMARY KEY constraint was hit; `0` names the constraint or the columns.
    #[error("unique constraint {0}")]
    Unique(String),
    /// A CHECK or FOREIGN KEY constraint or a trigger refused.
    #[error("constraint refused: {0}")]
    Constraint(String),
    /// Locked, conflicting with another transaction, or too many waiting: nothing was done; it may be tried again.
    #[error("database busy: {0}")]
    Busy(String),
    /// Whether the commit happened isn't known.
    #[error("commit outcome unknown: {0}")]
    CommitUnknown(String),
    /// A column has another type than the code expects, or is missing.
    #[error("unexpected column {column} of type {found}")]
    Column {
        /// Its position.
        column: usize,
        /// What it holds.
        found: &'static str,
    },
    /// Everything else; the process should not go on writing when `fatal`.
    #[error("database failed: {message}")]
    Failed {
        /// The driver's words.
        message: String,
        /// I/O error or corruption.
        fatal: bool,
    },
}

/// A handle on the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    _inner: Arc<()>,
}

impl Db {
    /// Runs `body` in a transaction that may write, and commits it durably. `name` shows in metrics and logs.
    /// The body may run several times (conflicts on PostgreSQL): it must be free of side effects.
    ///
    /// # Errors
    /// What the body returned (then nothing is changed), or what the database says.
    pub async fn write<T, F>(&self, name: &'static str, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + Sync + 'static,
    {
        let _ = (name, body);
        unimplemented_store().await
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
        let _ = (name, body);
        unimplemented_store().await
    }
}

async fn unimplemented_store<T>() -> Result<T> {
    Err(crate::error::Error::internal("no driver"))
}
