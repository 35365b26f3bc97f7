//! Signed statements of how far the log is: `place:hash`, by the coordinator's audit key, as lines of JSON. They are
//! kept outside the database, so that a tail that was removed or a chain that was rewritten shows.

use serde::{Deserialize, Serialize};
use shared::{
    sign::{PublicKey, Signature, SigningKey},
    time::Timestamp,
};

use super::{model::Hash, store};
use crate::{error::Result, store::Tx};

/// What the signature is for.
const DOMAIN: &str = "ramarket-audit-checkpoint-v1";

/// The end of the log at one moment. Its signature was made or checked by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last place.
    pub seq: i64,
    /// The hash of the row there.
    pub hash: Hash,
}

/// A checkpoint as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: i64,
    hash: String,
    at: Timestamp,
    signature: Signature,
}

impl Line {
    fn message(seq: i64, hash: &str, at: Timestamp) -> Vec<u8> {
        format!("{seq}:{hash}:{}", at.as_micros()).into_bytes()
    }
}

impl Checkpoint {
    /// The end of the log now; nothing while it is empty.
    ///
    /// # Errors
    /// What the database says.
    pub fn now(tx: &mut dyn Tx) -> Result<Option<Self>> {
        let (seq, hash) = store::head(tx)?;
        Ok((seq > 0).then_some(Self { seq, hash }))
    }

    /// The line to keep, without its line end.
    ///
    /// # Errors
    /// Never in practice: it can't be written as JSON.
    pub fn to_line(&self, at: Timestamp, key: &SigningKey) -> serde_json::Result<String> {
        let hash = hex::encode(self.hash);
        let signature = key.sign(DOMAIN, &Line::message(self.seq, &hash, at));
        serde_json::to_string(&Line {
            seq: self.seq,
            hash,
            at,
            signature,
        })
    }

    /// Reads a line and checks its signature.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_line(text: &str, key: &PublicKey) -> Result<Self, &'static str> {
        let line: Line = serde_json::from_str(text).map_err(|_| "it isn't a checkpoint")?;
        let message = Line::message(line.seq, &line.hash, line.at);
        key.verify(DOMAIN, &message, &line.signature)
            .map_err(|_| "it isn't signed by this coordinator's audit key")?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&line.hash, &mut hash).map_err(|_| "its hash isn't one")?;
        Ok(Self {
            seq: line.seq,
            hash,
        })
    }
}
