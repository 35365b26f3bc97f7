//! The signed usage journal on disk: one hash chain per node, in SQLite.
//!
//! # Invariants
//! - What [`Journal::append`] returned is durable (WAL, `synchronous=FULL`); all records of a tick are one commit.
//! - Numbers are dense and never used twice. `enroll` makes the journal, `run` never does: a journal that is missing, damaged
//!   or behind what the coordinator acknowledged stops the metering with a text that says so, instead of starting over at 1.
//! - A record leaves the disk only after the coordinator's verified receipt and the days it is kept, oldest first, so that what
//!   is left is always one unbroken piece that ends in the head.
//! - The receipt itself is written with the next commit: losing it only means that records are sent again, and the
//!   coordinator knows a repeated record by its hash.
//!
//! # When a journal is lost
//! The coordinator answers 409 `journal_gap` or `journal_forked` to anything that doesn't continue the chain it knows, and the chain
//! can't be repaired from its side: `ramarket-agent enroll --force` sets the old key and journal aside and starts a new node.

mod error;
mod reserve;
mod store;
mod verify;

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use rusqlite::Connection;
use shared::{
    id::{LeaseId, NodeId, RentalId},
    journal::{ACK_DOMAIN, Ack, Exit, Hash, MeterState, Record, SignedRecord},
    sign::{PublicKey, SigningKey},
    time::Timestamp,
    wire::heartbeat::JournalHead,
};

use self::reserve::Reserve;
pub use self::{
    error::JournalError,
    verify::{Verified, verify_file},
};

/// How many records at the end are checked when the journal is opened; `verify-journal` checks all of them.
const TAIL_CHECKED: i64 = 256;
/// How many old records go in one step.
const PRUNE_STEP: i64 = 5_000;

/// Whose journal this is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The node.
    pub node_id: NodeId,
    /// Signs each record.
    pub key: Arc<SigningKey>,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Checks acknowledgements.
    pub coordinator_key: PublicKey,
}

/// When records are made, and what proves that they aren't older.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The latest beacon (hex); empty before the first reply.
    pub beacon: String,
    /// The node's wall clock.
    pub t_wall: Timestamp,
    /// The node's `CLOCK_BOOTTIME`, milliseconds.
    pub t_boot_ms: i64,
}

/// Counters of one container, cumulative over its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// CPU time, nanoseconds.
    pub cpu_ns: i64,
    /// Memory × time, byte·seconds.
    pub mem_byte_s: i64,
    /// Bytes received.
    pub rx_bytes: i64,
    /// Bytes sent.
    pub tx_bytes: i64,
}

/// A statement about one rental, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Which rental.
    pub rental_id: RentalId,
    /// Under which lease.
    pub lease_id: LeaseId,
    /// What the container did.
    pub state: MeterState,
    /// Docker's id of the container.
    pub container_id: String,
    /// Digest of the image; empty before it is known.
    pub image_digest: String,
    /// Hash of the specification, hex.
    pub spec_sha256: String,
    /// Docker's `StartedAt`.
    pub started_at: Option<Timestamp>,
    /// Docker's `FinishedAt`.
    pub finished_at: Option<Timestamp>,
    /// What it used.
    pub counters: Counters,
    /// How it ended, once it did.
    pub exit: Option<Exit>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    db: Connection,
    owner: Owner,
    head: JournalHead,
    acked: store::Acked,
    /// The receipt in `acked` isn't on disk yet.
    ack_unsaved: bool,
    /// The highest record for which a receipt was seen: when it is beyond the head, this file is an old copy.
    receipt_seen: i64,
    /// A commit failed in a way that leaves open whether it happened: look before the next one.
    head_unsure: bool,
    /// For a full disk.
    reserve: Option<Reserve>,
}

impl Journal {
    /// Makes the empty journal of a node that is being enrolled; one that is there already stays if it is this node's and empty.
    ///
    /// # Errors
    /// There is another journal, or the file system refuses.
    pub fn create(path: &Path, node_id: NodeId, key: &PublicKey) -> Result<(), JournalError> {
        store::create(path, node_id, key)
    }

    /// Opens the journal and checks its end.
    ///
    /// # Errors
    /// It is missing, damaged, or another node's.
    pub fn open(path: &Path, owner: Owner) -> Result<Self, JournalError> {
        let db = store::open(path)?;
        let chain = store::chain(&db)?;
        if chain.node_id != owner.node_id || chain.public_key != owner.key.public() {
            return Err(JournalError::OtherNode {
                found: chain.node_id,
                expected: owner.node_id,
            });
        }
        let head = verify::tail(&db, &chain, TAIL_CHECKED)?;
        Ok(Self {
            db,
            owner,
            head,
            receipt_seen: chain.acked.seq,
            acked: chain.acked,
            ack_unsaved: false,
            head_unsure: false,
            reserve: None,
        })
    }

    /// With so many bytes of the disk kept for it, so that a disk that others fill doesn't stop the meter.
    #[must_use]
    pub fn with_reserve(mut self, path: &Path, bytes: u64) -> Self {
        let reserve = Reserve::beside(path, bytes);
        if !reserve.keep() {
            tracing::warn!(
                "there is no room to keep some for the journal: a full disk would stop the meter"
            );
        }
        self.reserve = Some(reserve);
        self
    }

    /// The newest record.
    #[must_use]
    pub const fn head(&self) -> JournalHead {
        self.head
    }

    /// Number of the last record that the coordinator acknowledged.
    #[must_use]
    pub const fn acked_seq(&self) -> i64 {
        self.acked.seq
    }

    /// The last record about a rental.
    ///
    /// # Errors
    /// The database fails, or holds something unreadable.
    pub fn last_of(&self, rental_id: RentalId) -> Result<Option<Record>, JournalError> {
        Ok(store::last_of(&self.db, rental_id)?.map(|signed| signed.record))
    }

    /// The beacon of the newest record: the last one that is known after a restart. `None` in an empty journal.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn last_beacon(&self) -> Result<Option<String>, JournalError> {
        Ok(store::last(&self.db)?.map(|signed| signed.record.beacon))
    }

    /// Numbers, links, signs and stores `drafts` in one durable commit; returns the number of the last record.
    ///
    /// # Errors
    /// The database fails, or the journal is an old copy; then none of them is in the journal.
    pub fn append(&mut self, moment: &Moment, drafts: Vec<Draft>) -> Result<i64, JournalError> {
        if drafts.is_empty() {
            return Ok(self.head.seq);
        }
        if self.receipt_seen > self.head.seq {
            return Err(self.rolled_back());
        }
        if self.head_unsure {
            self.head = store::head(&self.db)?;
            self.head_unsure = false;
        }
        let mut head = self.head;
        let mut rows = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let rental_id = draft.rental_id;
            let record = self.record(moment, draft, head);
            head = JournalHead {
                seq: record.seq,
                hash: record.hash(),
            };
            let signed = record.sign(&self.owner.key);
            rows.push(store::Row {
                seq: head.seq,
                rental_id,
                appended_us: moment.t_wall.as_micros(),
                hash: head.hash,
                body: serde_json::to_string(&signed).map_err(JournalError::Encode)?,
            });
        }
        let unsaved = self.ack_unsaved.then_some(&self.acked);
        let mut stored = store::append(&mut self.db, &rows, unsaved);
        if stored.as_ref().is_err_and(JournalError::is_full)
            && self.reserve.as_ref().is_some_and(Reserve::give_up)
        {
            // nothing of it was stored: a full disk is known before the commit
            tracing::error!(
                "the disk is full; the journal goes on in the space that is kept for it"
            );
            stored = store::append(&mut self.db, &rows, unsaved);
        }
        if let Err(error) = stored {
            self.head_unsure = true;
            return Err(error);
        }
        self.head = head;
        self.ack_unsaved = false;
        Ok(head.seq)
    }

    const fn rolled_back(&self) -> JournalError {
        JournalError::RolledBack {
            acked: self.receipt_seen,
            head: self.head.seq,
        }
    }

    fn record(&self, moment: &Moment, draft: Draft, head: JournalHead) -> Record {
        Record {
            node_id: self.owner.node_id,
            boot_id: self.owner.boot_id.clone(),
            rental_id: draft.rental_id,
            lease_id: draft.lease_id,
            seq: head.seq + 1,
            prev_hash: head.hash,
            beacon: moment.beacon.clone(),
            t_wall: moment.t_wall,
            t_boot_ms: moment.t_boot_ms,
            state: draft.state,
            container_id: draft.container_id,
            image_digest: draft.image_digest,
            spec_sha256: draft.spec_sha256,
            started_at: draft.started_at,
            finished_at: draft.finished_at,
            cum_cpu_ns: draft.counters.cpu_ns,
            cum_mem_byte_s: draft.counters.mem_byte_s,
            cum_rx_bytes: draft.counters.rx_bytes,
            cum_tx_bytes: draft.counters.tx_bytes,
            exit: draft.exit,
        }
    }

    /// Records that the coordinator hasn't acknowledged: oldest first, contiguous, at most `bytes_max` of JSON (with the
    /// commas between them), but at least one if there is any.
    ///
    /// # Errors
    /// The database fails, or the next record after the acknowledged one isn't there any more.
    pub fn unacked(&self, bytes_max: usize) -> Result<Vec<SignedRecord>, JournalError> {
        let records = store::after(&self.db, self.acked.seq, bytes_max)?;
        match records.first() {
            Some(first) if first.record.seq != self.acked.seq + 1 => Err(JournalError::Forgotten {
                wanted: self.acked.seq + 1,
                oldest: first.record.seq,
            }),
            _ => Ok(records),
        }
    }

    /// Takes the coordinator's receipt; returns whether it covers more than the one before.
    ///
    /// A receipt for *less* is taken too: the coordinator's database was restored from a backup and needs the records again.
    ///
    /// # Errors
    /// The signature or the hash is wrong, or the receipt is for records that this journal doesn't have.
    pub fn acknowledge(&mut self, ack: &Ack) -> Result<bool, JournalError> {
        let canonical = Ack::canonical(self.owner.node_id, ack.seq, &ack.hash, ack.received_at);
        self.owner
            .coordinator_key
            .verify(ACK_DOMAIN, &canonical, &ack.signature)
            .map_err(|_| JournalError::AckNotSigned { seq: ack.seq })?;
        self.receipt_seen = self.receipt_seen.max(ack.seq);
        if ack.seq > self.head.seq {
            return Err(self.rolled_back());
        }
        if ack.seq == self.acked.seq && ack.hash == self.acked.hash {
            return Ok(false);
        }
        let ours = match ack.seq {
            0 => Some(Hash::GENESIS),
            seq if seq == self.head.seq => Some(self.head.hash),
            seq => store::hash_of(&self.db, seq)?,
        };
        match ours {
            Some(hash) if hash == ack.hash => {}
            Some(_) => return Err(JournalError::AckOtherHash { seq: ack.seq }),
            None => {
                return Err(JournalError::Forgotten {
                    wanted: ack.seq + 1,
                    oldest: store::oldest_seq(&self.db)?,
                });
            }
        }
        let forward = ack.seq > self.acked.seq;
        if !forward {
            tracing::warn!(
                journal.acked_seq = self.acked.seq,
                journal.ack_seq = ack.seq,
                "the coordinator lost records that it had acknowledged; they are sent again"
            );
        }
        self.acked = store::Acked {
            seq: ack.seq,
            hash: ack.hash,
            receipt: Some(ack.clone()),
        };
        self.ack_unsaved = true;
        Ok(forward)
    }

    /// How many records are kept, and how large the file is, bytes.
    ///
    /// # Errors
    /// The database fails.
    pub fn size(&self) -> Result<(i64, i64), JournalError> {
        store::size(&self.db)
    }

    /// Deletes acknowledged records that were made before `before`, at most [`PRUNE_STEP`] of them and none from
    /// `keep_from` on, and writes down the latest receipt. Returns how many went.
    ///
    /// # Errors
    /// The database fails.
    pub fn prune(&mut self, before: Timestamp, keep_from: i64) -> Result<usize, JournalError> {
        if let Some(reserve) = &self.reserve {
            // whether there is room for it again is looked at with each prune
            reserve.keep();
        }
        if self.ack_unsaved {
            store::save_ack(&self.db, &self.acked)?;
            self.ack_unsaved = false;
        }
        // the last acknowledged record stays too: it is what the next receipt is compared with
        let below = keep_from.min(self.acked.seq).min(self.head.seq);
        store::prune(&self.db, below, before.as_micros(), PRUNE_STEP)
    }
}
