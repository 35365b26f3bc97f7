//! The error body of every endpoint: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words, the same for each occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what to do.
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// To quote when asking for help.
    pub request_id: String,
    /// What is wrong with which field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Only in answers to agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recover: Option<super::heartbeat::Recover>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON pointer.
    pub pointer: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Codes of refused beats; all 401 except where noted.
pub mod agent_codes {
    /// Headers missing or malformed.
    pub const SIGNATURE_MALFORMED: &str = "signature_malformed";
    /// The body isn't what was signed.
    pub const DIGEST_MISMATCH: &str = "digest_mismatch";
    /// The signature doesn't match the node's key.
    pub const SIGNATURE_INVALID: &str = "signature_invalid";
    /// `created` is too far from the coordinator's clock.
    pub const SIGNATURE_STALE: &str = "signature_stale";
    /// No member node has this id.
    pub const NODE_UNKNOWN: &str = "node_unknown";
    /// An administrator threw the node out.
    pub const NODE_BANNED: &str = "node_banned";
    /// The node was retired by its owner.
    pub const NODE_REVOKED: &str = "node_revoked";
    /// This beat, or a later one, was accepted before.
    pub const BEAT_REPLAYED: &str = "beat_replayed";
    /// The beacon isn't of this coordinator's run, or is too old.
    pub const BEACON_STALE: &str = "beacon_stale";
    /// Another process beats with the same key.
    pub const KEY_IN_USE_TWICE: &str = "key_in_use_twice";
    /// The journal forks: two different records with one number (409).
    pub const JOURNAL_FORKED: &str = "journal_forked";
    /// The journal has a gap (409).
    pub const JOURNAL_GAP: &str = "journal_gap";
}
