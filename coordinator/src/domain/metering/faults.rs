//! Time in which something that is rented (a GPU) didn't work, as the node's own records say: evidence that only lowers a bill.
//!
//! # Invariants
//! - A fault begins at the beat before the one that told of it and ends at the beat that told of its end, so no window that is closed
//!   already would have been changed by it.
//! - At most one fault of a rental is open; a node's open ones are counted in its chain's head, so a beat without faults asks nothing.

use std::collections::BTreeMap;

use shared::{
    id::{NodeId, RentalId},
    journal::{MeterState, SignedRecord},
    time::Timestamp,
};

use super::model::{Head, Interval};
use crate::{error::Result, params, store::Tx};

/// What new records said of faults.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// How many of the node's rentals have an open fault now.
    pub(super) open: i64,
    /// Rentals of which one began (true) or ended.
    pub(super) changed: Vec<(RentalId, bool)>,
}

/// Takes in what new records say of faults.
pub(super) fn note(
    tx: &mut dyn Tx,
    node: NodeId,
    before: Option<&Head>,
    fresh: &[SignedRecord],
    now: Timestamp,
) -> Result<Noted> {
    let mut noted = Noted {
        open: before.map_or(0, |before| before.faults),
        changed: Vec::new(),
    };
    let since = before.map_or(now, |before| before.received_at);
    // of each rental: whether any record tells of a fault, and whether the last one does
    let mut told: BTreeMap<RentalId, (bool, bool)> = BTreeMap::new();
    for signed in fresh {
        let faulty = signed.record.state == MeterState::Degraded;
        let known = told.entry(signed.record.rental_id).or_default();
        *known = (known.0 || faulty, faulty);
    }
    for (rental, (any, last)) in told {
        let was_open = noted.open > 0 && is_open(tx, node, rental)?;
        if any && !was_open {
            begin(tx, node, rental, since)?;
            noted.open = noted.open.saturating_add(1);
        }
        if (any || was_open) && !last {
            end(tx, node, rental, now)?;
            noted.open = noted.open.saturating_sub(1);
        }
        if was_open != last {
            noted.changed.push((rental, last));
        }
    }
    Ok(noted)
}

fn is_open(tx: &mut dyn Tx, node: NodeId, rental: RentalId) -> Result<bool> {
    let rows = tx.query(
        "SELECT 1 FROM rental_faults WHERE node_id = $1 AND rental_id = $2 AND end_at IS NULL LIMIT 1",
        params![node, rental],
    )?;
    Ok(!rows.is_empty())
}

fn begin(tx: &mut dyn Tx, node: NodeId, rental: RentalId, at: Timestamp) -> Result<()> {
    // one that ended at this very beat goes on
    tx.execute(
        "INSERT INTO rental_faults (node_id, rental_id, start_at, end_at) VALUES ($1, $2, $3, NULL)
         ON CONFLICT (node_id, rental_id, start_at) DO UPDATE SET end_at = NULL",
        params![node, rental, at],
    )?;
    Ok(())
}

fn end(tx: &mut dyn Tx, node: NodeId, rental: RentalId, at: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE rental_faults SET end_at = $3 WHERE node_id = $1 AND rental_id = $2 AND end_at IS NULL",
        params![node, rental, at],
    )?;
    Ok(())
}

/// A rental's faults that meet a window.
pub(super) fn of(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
    window: &Interval,
) -> Result<Vec<Interval>> {
    let rows = tx.query(
        "SELECT start_at, end_at FROM rental_faults
         WHERE node_id = $1 AND rental_id = $2 AND start_at < $3 AND (end_at IS NULL OR end_at > $4)",
        params![node, rental, window.end, window.start],
    )?;
    rows.iter()
        .map(|row| {
            let end = row.opt_int(1)?.unwrap_or(i64::MAX);
            Ok(Interval {
                start: Timestamp::from_micros(row.int(0)?),
                end: Timestamp::from_micros(end),
            })
        })
        .collect()
}

pub(super) fn forget(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM rental_faults WHERE (node_id, rental_id, start_at) IN (
             SELECT node_id, rental_id, start_at FROM rental_faults WHERE end_at IS NOT NULL AND end_at < $1
             ORDER BY end_at LIMIT $2)",
        params![before, limit],
    )?)
}
