//! What can be wrong with a journal, in words for the person who has to mend it.

use shared::{id::NodeId, journal::ChainError};

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is no file.
    #[error(
        "the usage journal {path} is missing; starting a new one would use its numbers twice, which counts as fraud: \
         restore the file if it was moved, or else enrol this machine anew with `ramarket-agent enroll --force …`"
    )]
    Missing {
        /// Where it should be.
        path: String,
    },
    /// It can't be read, or doesn't hold together.
    #[error(
        "the usage journal is damaged ({detail}); nothing more is metered with it: keep the file for support, and enrol \
         this machine anew with `ramarket-agent enroll --force …`"
    )]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// It holds other records than the key's owner would have made.
    #[error(
        "the usage journal is damaged: {0}; keep the file for support, and enrol this machine anew with `ramarket-agent enroll --force …`"
    )]
    Chain(#[from] ChainError),
    /// It belongs to another node.
    #[error(
        "the usage journal is that of node {found}, but this machine is {expected}; put each node's files back together, or \
         enrol anew with `ramarket-agent enroll --force …`"
    )]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Whose it should be.
        expected: NodeId,
    },
    /// The coordinator has records that this file hasn't.
    #[error(
        "the coordinator acknowledged record {acked}, but the usage journal ends at {head}: an old copy of the journal was \
         restored. Going on would use numbers twice, which counts as fraud: enrol this machine anew with \
         `ramarket-agent enroll --force …`"
    )]
    RolledBack {
        /// What the coordinator has.
        acked: i64,
        /// What is here.
        head: i64,
    },
    /// Records that the coordinator needs again were deleted after their time.
    #[error(
        "the coordinator needs record {wanted} again, but the journal begins at {oldest}; enrol this machine anew with \
         `ramarket-agent enroll --force …`"
    )]
    Forgotten {
        /// What it needs.
        wanted: i64,
        /// The oldest one here; 0 if there is none.
        oldest: i64,
    },
    /// A receipt without a valid signature.
    #[error("the receipt for record {seq} isn't signed by the coordinator's key")]
    AckNotSigned {
        /// For which record.
        seq: i64,
    },
    /// A receipt for another record of that number.
    #[error("the receipt for record {seq} is for another record than the one in the journal")]
    AckOtherHash {
        /// For which record.
        seq: i64,
    },
    /// SQLite or the disk fails.
    #[error("the usage journal can't be read or written: {0}")]
    Database(#[from] rusqlite::Error),
    /// The file system fails.
    #[error("the usage journal can't be made: {0}")]
    File(#[from] std::io::Error),
    /// A record can't be put into JSON.
    #[error("a record can't be written as JSON: {0}")]
    Encode(serde_json::Error),
}

impl JournalError {
    pub(super) fn damaged(detail: impl std::fmt::Display) -> Self {
        Self::Damaged {
            detail: detail.to_string(),
        }
    }

    /// Whether the disk has no room for it.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            _ => false,
        }
    }

    /// Whether only a person can mend it: the agent must not go on numbering records.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Damaged { .. }
                | Self::Chain(_)
                | Self::OtherNode { .. }
                | Self::RolledBack { .. }
        )
    }
}
