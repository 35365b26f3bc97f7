//! Checks that what is on disk is one chain, signed by this node's key.

use std::path::Path;

use rusqlite::Connection;
use shared::{
    journal::{ChainError, Hash, SignedRecord, verify_chain},
    sign::PublicKey,
    wire::heartbeat::JournalHead,
};

use super::{JournalError, store};

/// What a check of a whole journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose journal.
    pub node_id: shared::id::NodeId,
    /// The oldest record that is kept; 0 when there is none.
    pub first_seq: i64,
    /// The newest record.
    pub head: JournalHead,
    /// How many records were checked.
    pub records: i64,
    /// The last one that the coordinator acknowledged.
    pub acked_seq: i64,
}

/// Checks every record of the journal in `path` against `key`; the agent may go on running.
///
/// # Errors
/// The journal is missing or damaged; the text names the first record that is wrong.
pub fn verify_file(path: &Path, key: &PublicKey) -> Result<Verified, JournalError> {
    let mut db = store::open(path)?;
    // one snapshot: a running agent goes on appending
    let snapshot = db.transaction()?;
    let chain = store::chain(&snapshot)?;
    if chain.public_key != *key {
        return Err(JournalError::damaged("it was made for another key"));
    }
    let first_seq = store::oldest_seq(&snapshot)?;
    let mut walk = Walk::new(*key);
    store::walk(&snapshot, first_seq, |signed, hash| {
        walk.step(&signed, hash)
    })?;
    let head = walk.head();
    check_acked(&snapshot, &chain, head)?;
    Ok(Verified {
        node_id: chain.node_id,
        first_seq,
        head,
        records: walk.count,
        acked_seq: chain.acked.seq,
    })
}

/// Checks the last `count` records, and that what was acknowledged is there; returns the head.
pub(super) fn tail(
    db: &Connection,
    chain: &store::Chain,
    count: i64,
) -> Result<JournalHead, JournalError> {
    let end = store::head(db)?;
    let from = (end.seq - count + 1).max(store::oldest_seq(db)?);
    let mut walk = Walk::new(chain.public_key);
    store::walk(db, from, |signed, hash| walk.step(&signed, hash))?;
    let head = walk.head();
    check_acked(db, chain, head)?;
    Ok(head)
}

fn check_acked(
    db: &Connection,
    chain: &store::Chain,
    head: JournalHead,
) -> Result<(), JournalError> {
    if chain.acked.seq > head.seq {
        return Err(JournalError::RolledBack {
            acked: chain.acked.seq,
            head: head.seq,
        });
    }
    match store::hash_of(db, chain.acked.seq)? {
        Some(hash) if hash != chain.acked.hash => Err(ChainError::Fork {
            seq: chain.acked.seq,
        }
        .into()),
        None if chain.acked.seq > 0 => Err(JournalError::damaged(format!(
            "the acknowledged record {} isn't in it",
            chain.acked.seq
        ))),
        _ => Ok(()),
    }
}

/// Follows a chain record by record. Where it begins is taken as given, since older records may have been deleted.
struct Walk {
    key: PublicKey,
    at: Option<JournalHead>,
    count: i64,
}

impl Walk {
    const fn new(key: PublicKey) -> Self {
        Self {
            key,
            at: None,
            count: 0,
        }
    }

    fn step(&mut self, signed: &SignedRecord, stored_hash: Hash) -> Result<(), JournalError> {
        let record = &signed.record;
        let before = match self.at {
            Some(at) => at,
            // the very first record must begin the chain; a later one continues what was deleted
            None if record.seq == 1 => JournalHead {
                seq: 0,
                hash: Hash::GENESIS,
            },
            None => JournalHead {
                seq: record.seq - 1,
                hash: record.prev_hash,
            },
        };
        let (seq, hash) = verify_chain(
            before.seq,
            before.hash,
            std::slice::from_ref(signed),
            &self.key,
        )?;
        if hash != stored_hash {
            return Err(JournalError::damaged(format!(
                "the stored hash of record {seq} is wrong"
            )));
        }
        self.at = Some(JournalHead { seq, hash });
        self.count += 1;
        Ok(())
    }

    fn head(&self) -> JournalHead {
        self.at.unwrap_or(JournalHead {
            seq: 0,
            hash: Hash::GENESIS,
        })
    }
}
