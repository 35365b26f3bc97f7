//! Evidence of use: signed records continue each node's chain, beats cover time, coordinators note when they were alive.
//!
//! # Invariants
//! - A record is kept once: (node, seq) is its key, and another hash under the same number is equivocation.
//! - A chain has no gaps; what doesn't continue it is refused and changes nothing.
//! - Time is covered only by beats that continue the chain.

pub mod check;
mod faults;
pub mod model;
mod store;

use std::collections::BTreeMap;

use model::{Head, Interval};
use shared::{
    id::{NodeId, RentalId},
    journal::{Hash, SignedRecord},
    sign::PublicKey,
    time::Timestamp,
    wire::{heartbeat::JournalHead, problem::agent_codes},
};

use super::rentals;
use crate::{
    error::{Error, Result},
    store::{StoreError, Tx},
};

/// What a beat says about time and use.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The kernel's boot id.
    pub boot_id: String,
    /// The node's boot clock.
    pub boot_ms: i64,
    /// When the beat arrived.
    pub received_at: Timestamp,
    /// Records, oldest first; their signatures are checked here.
    pub records: Vec<SignedRecord>,
    /// The newest record that the node has.
    pub journal_head: JournalHead,
    /// Whether the node says that a rental runs on it.
    pub claims_running: bool,
}

/// What taking in evidence did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where the chain stands now.
    pub head: Head,
    /// The node has more records than it sent.
    pub more: bool,
    /// When the beat before it that counts arrived.
    pub heard_before: Option<Timestamp>,
    /// Rentals of which something began not to work (true), or works again.
    pub faults: Vec<(RentalId, bool)>,
}

/// Takes in a beat's evidence: records that are new continue the chain, and the time since the last beat is covered.
///
/// # Errors
/// 409 `journal_forked`, `journal_gap`; 401 `signature_invalid` for a record that isn't the node's.
pub fn ingest(
    tx: &mut dyn Tx,
    node: NodeId,
    key: &PublicKey,
    evidence: &Evidence,
    gap_ms: i64,
) -> Result<Taken> {
    let before = store::head(tx, node)?;
    let (seq, hash) = before
        .as_ref()
        .map_or((0, Hash::GENESIS), |head| (head.seq, head.hash));
    let (known, fresh) = split(&evidence.records, seq);
    for signed in known {
        check_known(tx, node, signed)?;
    }
    let (seq, hash) = continue_chain(node, key, seq, hash, fresh)?;
    for signed in fresh {
        store::insert_record(tx, node, signed, evidence.received_at)?;
    }
    let claimed = evidence.journal_head;
    check_claimed(claimed, seq, hash)?;
    let boot_id: String = evidence.boot_id.chars().take(64).collect();
    let heard_at = before.as_ref().map_or(evidence.received_at, |before| {
        model::heard_at(before, &boot_id, evidence.boot_ms, evidence.received_at)
    });
    let noted = faults::note(tx, node, before.as_ref(), fresh, heard_at)?;
    let head = Head {
        seq,
        hash,
        boot_id,
        boot_ms: evidence.boot_ms,
        received_at: heard_at,
        faults: noted.open,
    };
    // while something runs, only a growing journal proves that its meter runs too
    let witnessed = !evidence.claims_running || !fresh.is_empty();
    let next = match &before {
        Some(before) if !witnessed => Head {
            seq,
            hash,
            faults: head.faults,
            ..before.clone()
        },
        Some(before) => {
            cover(tx, node, before, &head, gap_ms)?;
            head.clone()
        }
        None => head.clone(),
    };
    if !store::set_head(tx, node, before.as_ref(), &next)? {
        let text = format!("another beat of {node} was taken in meanwhile");
        return Err(StoreError::Busy(text).into());
    }
    Ok(Taken {
        more: claimed.seq > head.seq,
        heard_before: before.map(|before| before.received_at),
        head,
        faults: noted.changed,
    })
}

/// What a node says its journal ends with agrees with what is known of it up to `seq`.
fn check_claimed(claimed: JournalHead, seq: i64, hash: Hash) -> Result<()> {
    if claimed.seq == seq && claimed.hash != hash {
        return Err(forked(seq));
    }
    if claimed.seq < seq {
        return Err(Error::conflict(
            agent_codes::JOURNAL_FORKED,
            format!(
                "the journal went back to record {} from {seq}: was it restored from a copy?",
                claimed.seq
            ),
        ));
    }
    Ok(())
}

fn split(records: &[SignedRecord], head_seq: i64) -> (&[SignedRecord], &[SignedRecord]) {
    let first_fresh = records
        .iter()
        .position(|signed| signed.record.seq > head_seq)
        .unwrap_or(records.len());
    records.split_at(first_fresh)
}

fn check_known(tx: &mut dyn Tx, node: NodeId, signed: &SignedRecord) -> Result<()> {
    let seq = signed.record.seq;
    match store::record_hash(tx, node, seq)? {
        Some(hash) if hash == signed.record.hash().as_bytes() => Ok(()),
        // a record whose evidence was retired by age can't be compared any more
        None if seq > 0 => Ok(()),
        _ => Err(forked(seq)),
    }
}

fn continue_chain(
    node: NodeId,
    key: &PublicKey,
    seq: i64,
    hash: Hash,
    fresh: &[SignedRecord],
) -> Result<(i64, Hash)> {
    use shared::journal::{ChainError, verify_chain};
    if let Some(foreign) = fresh.iter().find(|signed| signed.record.node_id != node) {
        let seq = foreign.record.seq;
        return Err(Error::conflict(
            agent_codes::JOURNAL_FORKED,
            format!("record {seq} is of another node's journal"),
        ));
    }
    verify_chain(seq, hash, fresh, key).map_err(|error| match error {
        ChainError::Gap { .. } => Error::conflict(agent_codes::JOURNAL_GAP, error.to_string()),
        ChainError::Fork { seq } => forked(seq),
        ChainError::BadSignature { .. } => {
            Error::unauthenticated(agent_codes::SIGNATURE_INVALID, error.to_string())
        }
    })
}

fn forked(seq: i64) -> Error {
    Error::conflict(
        agent_codes::JOURNAL_FORKED,
        format!("the journal forks at record {seq}: two different records have this number"),
    )
}

fn cover(tx: &mut dyn Tx, node: NodeId, before: &Head, now: &Head, gap_ms: i64) -> Result<()> {
    let whole = Interval {
        start: before.received_at,
        end: now.received_at,
    };
    let down = if now.received_at.ms_since(before.received_at) > gap_ms {
        let mut alive = store::alive(tx, &whole)?;
        // this very coordinator is alive now, whenever it noted that last
        if let Some(last) = alive.iter_mut().max_by_key(|part| part.end)
            && now.received_at.ms_since(last.end) <= ALIVE_SLACK_MS
        {
            last.end = now.received_at;
        }
        model::downtime(alive, &whole)
    } else {
        Vec::new()
    };
    for part in model::covered(before, now, &down, gap_ms) {
        store::add_coverage(tx, node, &part)?;
    }
    Ok(())
}

/// How long after its last note a coordinator still counts as alive: three times the period of the notes.
pub const ALIVE_SLACK_MS: i64 = 6_000;

/// Where a node's chain stands.
///
/// # Errors
/// The database's.
pub fn head(tx: &mut dyn Tx, node: NodeId) -> Result<Option<Head>> {
    store::head(tx, node)
}

/// The covered stretches of a node that meet a window.
///
/// # Errors
/// The database's.
pub fn coverage(tx: &mut dyn Tx, node: NodeId, window: &Interval) -> Result<Vec<Interval>> {
    store::coverage(tx, node, window)
}

/// The covered stretches that meet a window and in which what a rental consists of worked, by its node's own records.
///
/// # Errors
/// The database's.
pub fn working_coverage(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
    window: &Interval,
) -> Result<Vec<Interval>> {
    let coverage = store::coverage(tx, node, window)?;
    let faults = faults::of(tx, node, rental, window)?;
    Ok(model::without(&coverage, &faults))
}

/// Forgets up to `limit` faults that were over before a moment; how many.
///
/// # Errors
/// The database's.
pub fn forget_faults(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    faults::forget(tx, before, limit)
}

/// The signed records of a rental with when they arrived, after a position: those of its own node, for any node may write what
/// it likes into its journal.
///
/// # Errors
/// The database's.
pub fn records_of(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
    after: i64,
    limit: i64,
) -> Result<Vec<(SignedRecord, Timestamp)>> {
    store::records_of(tx, node, rental, after, limit)
}

/// A node's newest records of a rental: their numbers, hashes and when they arrived, newest first.
///
/// # Errors
/// The database's.
pub fn newest_receipts(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
    limit: i64,
) -> Result<Vec<(i64, Hash, Timestamp)>> {
    store::newest_receipts(tx, node, rental, limit)
}

/// When a node's journal last spoke of a rental, by the node's wall clock.
///
/// # Errors
/// The database's.
pub fn last_spoken_of(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
) -> Result<Option<Timestamp>> {
    Ok(store::last_record_of(tx, node, rental)?.map(|signed| signed.record.t_wall))
}

/// Notes that this run of a coordinator is alive.
///
/// # Errors
/// The database's.
pub fn keep_alive(tx: &mut dyn Tx, epoch: &str, started: Timestamp, now: Timestamp) -> Result<()> {
    store::keep_alive(tx, epoch, started, now)
}

/// Forgets up to `limit` runs of coordinators that ended before a moment; how many.
///
/// # Errors
/// The database's.
pub fn forget_runs(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    store::forget_runs(tx, before, limit)
}

/// A place among records by age: when one arrived, of which node, and its number there.
pub type RecordPlace = (Timestamp, String, i64);

/// Before all records.
#[must_use]
pub const fn first_place() -> RecordPlace {
    (Timestamp::from_micros(i64::MIN), String::new(), 0)
}

/// Forgets records from before a moment, of rentals that are settled: what was billed of them is written down. Looks at up to
/// `limit` of them after a place; returns how many went, and where to go on.
///
/// # Errors
/// The database's.
pub fn forget(
    tx: &mut dyn Tx,
    before: Timestamp,
    after: &RecordPlace,
    limit: i64,
) -> Result<(u64, Option<RecordPlace>)> {
    let old = store::records_before(tx, before, after, limit)?;
    let (mut settled, mut gone) = (BTreeMap::new(), 0_u64);
    for (place, rental) in &old {
        let is_settled = match settled.get(rental) {
            Some(known) => *known,
            None => rentals::is_settled(tx, *rental)?,
        };
        settled.insert(*rental, is_settled);
        if is_settled {
            gone = gone.saturating_add(store::forget_record(tx, place)?);
        }
    }
    Ok((gone, old.into_iter().next_back().map(|(place, _)| place)))
}
