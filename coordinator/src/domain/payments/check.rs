//! Invariants that join payments with the ledger: I7, and the alarm I9.

use shared::time::Timestamp;

use super::store::{check as store, exchanges};
use crate::{
    domain::ledger::{check::Finding, watch::Stretch},
    error::Result,
    store::Tx,
};

const I7: &str = "each credited payment has exactly one posting, each posting a payment; an exchange has both halves";
/// After the end of its authorization a payment may be open for so long.
const OPEN_AFTER_S_MAX: i64 = 15 * 60;

/// I7 of everything.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<Finding> {
    let mut broken = store::posting_mismatches(tx)?;
    broken.extend(exchanges::torn(tx)?);
    Ok(Finding::new("I7", I7, broken))
}

/// I7 of what was posted, credited and exchanged in a stretch.
///
/// # Errors
/// The database's.
pub fn check_in(tx: &mut dyn Tx, stretch: Stretch) -> Result<Finding> {
    let mut broken = store::posting_mismatches_in(tx, stretch.from, stretch.to)?;
    broken.extend(exchanges::torn_in(tx, stretch.from, stretch.to)?);
    Ok(Finding::new("I7", I7, broken))
}

/// I7 of a page of payments after an id, and of a page of postings after a reference; what to go on after.
///
/// # Errors
/// The database's.
pub fn sweep(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<(Finding, Option<String>)> {
    let (last, broken) = store::posting_mismatches_after(tx, after, limit)?;
    Ok((Finding::new("I7", I7, broken), last))
}

/// I7 of a page of exchanges after a reference; what to go on after.
///
/// # Errors
/// The database's.
pub fn sweep_exchanges(
    tx: &mut dyn Tx,
    after: &str,
    limit: i64,
) -> Result<(Finding, Option<String>)> {
    let (last, broken) = exchanges::torn_after(tx, after, limit)?;
    Ok((Finding::new("I7", I7, broken), last))
}

/// I9, an alarm: payments that are open for long after their authorization ended. What can't be proven waits for an operator.
///
/// # Errors
/// The database's.
pub fn overdue(tx: &mut dyn Tx, now: Timestamp) -> Result<Finding> {
    let broken = store::open_since(tx, now.as_secs().saturating_sub(OPEN_AFTER_S_MAX))?;
    Ok(Finding::new(
        "I9",
        "no payment is open 15 minutes after its authorization ended",
        broken,
    ))
}
