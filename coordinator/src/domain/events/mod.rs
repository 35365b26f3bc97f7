//! What happened, as a stream: services write an event in the transaction that makes it true (outbox), the relay task
//! gives it its place, listeners follow.
//!
//! # Invariants
//! - An event exists exactly when its transaction committed.
//! - Places (`seq`) are dense and given once, under a lock on the one row of `event_head`: several coordinators on one
//!   database see one order, and whoever has seen `n` has missed nothing below it.
//! - Memory holds no history: who falls behind reads the table.

pub mod api;
mod fanout;
pub mod model;
pub mod store;
#[cfg(test)]
mod tests;

pub use self::{
    fanout::{Events, Feed, Relay},
    model::{Event, StoredEvent, Viewer},
};
use shared::time::Timestamp;

use crate::{context::OpCtx, error::Result, store::Tx};

/// Most events that one relay transaction places.
pub const RELAY_BATCH_MAX: i64 = 500;

/// Writes an event in the caller's transaction; it is seen by listeners once that has committed.
///
/// # Errors
/// What the database says; 500 when the payload is too large to be an event.
#[expect(
    clippy::needless_pass_by_value,
    reason = "an event is written once: taking it says so"
)]
pub fn append(tx: &mut dyn Tx, ctx: &OpCtx, event: Event) -> Result<()> {
    store::insert(tx, ctx, &event)
}

/// Events of one rental that have their place, after `seq`, in order. The caller has checked who asks.
///
/// # Errors
/// What the database says.
pub fn of_rental(
    tx: &mut dyn Tx,
    rental: shared::id::RentalId,
    seq: i64,
    count_max: i64,
) -> Result<Vec<StoredEvent>> {
    store::of_rental(tx, rental, seq, count_max)
}

/// Events after place `seq` that have their own, in order, for whoever follows the stream in the database.
///
/// # Errors
/// What the database says.
pub fn page(tx: &mut dyn Tx, seq: i64, count_max: i64) -> Result<Vec<StoredEvent>> {
    store::after(tx, seq, count_max)
}

/// Gives up to [`RELAY_BATCH_MAX`] committed events their place; returns how many.
///
/// # Errors
/// What the database says.
pub fn place(tx: &mut dyn Tx) -> Result<u64> {
    let head = store::lock_head(tx)?;
    let placed = store::place_after(tx, head, RELAY_BATCH_MAX)?;
    let moved = i64::try_from(placed).map_err(crate::error::Error::internal)?;
    store::move_head(tx, head.saturating_add(moved))?;
    Ok(placed)
}

/// Forgets up to `limit` of the oldest events if they are from before a moment, none behind the place `seen` that who follows
/// in the database has seen; returns how many. Places stay: whoever resumes before the first that is left goes on there.
///
/// # Errors
/// What the database says.
pub fn forget(tx: &mut dyn Tx, before: Timestamp, seen: i64, limit: i64) -> Result<u64> {
    let oldest = store::oldest(tx, limit)?;
    let old = oldest
        .iter()
        .take_while(|(seq, at)| *seq <= seen && *at < before);
    match old.last() {
        Some((last, _)) => store::forget(tx, *last),
        None => Ok(0),
    }
}

/// Events from before a moment that have no place yet, at most `limit`: the relay doesn't keep up.
///
/// # Errors
/// What the database says.
pub fn waiting_since(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<Vec<String>> {
    store::waiting_since(tx, before, limit)
}

/// Writes without changing anything: shows that the database takes writes.
///
/// # Errors
/// What the database says.
pub fn touch(tx: &mut dyn Tx) -> Result<()> {
    store::lock_head(tx).map(drop)
}
