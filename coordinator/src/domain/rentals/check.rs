//! Invariants that join rentals with the ledger, their windows and their nodes: I4 to I6 and the capacity counters.

use super::store;
use crate::{domain::ledger::check::Finding, error::Result, store::Tx};

/// Checks them all.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<Vec<Finding>> {
    let escrow = "LEFT JOIN accounts a ON a.id = r.asset || '/rental:' || r.id || ':escrow'";
    let closed = store::ids_where(
        tx,
        &format!(
            "rentals r {escrow} WHERE r.settled_at IS NOT NULL
             AND (r.paid <> r.charged + r.refunded OR COALESCE(a.balance, 0) <> 0)"
        ),
    )?;
    let open = store::ids_where(
        tx,
        &format!(
            "rentals r {escrow} WHERE r.settled_at IS NULL AND COALESCE(a.balance, 0) <> r.paid - r.charged - r.refunded"
        ),
    )?;
    let windows = "LEFT JOIN (
            SELECT rental_id, SUM(billable_ms) AS ms, SUM(amount) AS amount, SUM(fee) AS fee,
                   SUM(window_end - window_start) AS length, MIN(window_start) AS first, MAX(window_end) AS last
            FROM billing_windows GROUP BY rental_id) w ON w.rental_id = r.id";
    let unexplained = store::ids_where(
        tx,
        &format!(
            "rentals r {windows} WHERE COALESCE(w.ms, 0) <> r.billed_ms OR COALESCE(w.amount, 0) <> r.charged
             OR COALESCE(w.fee, 0) <> r.fee OR COALESCE(w.length, 0) <> COALESCE(w.last - w.first, 0)"
        ),
    )?;
    let capacity = store::capacity_mismatches(tx)?
        .iter()
        .map(|(id, free, expected)| format!("{id}: free {free}, expected {expected}"))
        .collect();
    Ok(vec![
        Finding::new(
            "I4",
            "of each settled rental: paid = charged + refunded, and its escrow is empty",
            closed,
        ),
        Finding::new(
            "I5",
            "of each open rental: its escrow holds what is paid and not charged",
            open,
        ),
        Finding::new(
            "I6",
            "a rental's windows add up to what it was billed, without overlap or gap",
            unexplained,
        ),
        Finding::new(
            "C1",
            "a node's free capacity is what is rentable less its live rentals",
            capacity,
        ),
    ])
}
