//! [`StoreError`]: why a database refused, in words that are the same for both drivers.

/// Why the database refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A UNIQUE or PRIMARY KEY constraint was hit. PostgreSQL names the constraint (`users_email_key`),
    /// SQLite the columns (`users.email`, or `holds.rental_id, holds.seq`): don't decide by this text.
    #[error("unique constraint {0}")]
    Unique(String),
    /// A CHECK, NOT NULL or FOREIGN KEY constraint or a trigger refused.
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

impl StoreError {
    /// Whether a UNIQUE or PRIMARY KEY constraint was hit.
    #[must_use]
    pub const fn is_unique(&self) -> bool {
        matches!(self, Self::Unique(_))
    }

    /// Whether the disk or the file is broken.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Failed { fatal: true, .. })
    }

    /// A failure that says nothing about the disk.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            fatal: false,
        }
    }

    /// A failure after which nothing should be written any more.
    pub(super) fn fatal(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            fatal: true,
        }
    }
}
