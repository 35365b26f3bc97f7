//! Proof that what disputes and goodwill gave back adds up: the part of I4 that comes after settlement.

use super::store;
use crate::{domain::ledger::check::Finding, error::Result, store::Tx};

/// I4 of what was given back.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<Finding> {
    let mut broken = store::broken(
        tx,
        "SELECT r.id FROM rentals r JOIN (
             SELECT rental_id, SUM(of_provider + of_fee + goodwill) AS total FROM given_back GROUP BY rental_id
         ) g ON g.rental_id = r.id WHERE g.total > r.charged ORDER BY r.id LIMIT 100",
    )?;
    broken.extend(store::broken(
        tx,
        "SELECT g.ref FROM given_back g LEFT JOIN transfers t ON t.ref = g.ref
             AND t.code IN ('goodwill', 'dispute_pending', 'dispute_available', 'dispute_fee', 'dispute_goodwill')
         GROUP BY g.ref, g.of_provider, g.of_fee, g.goodwill
         HAVING COALESCE(SUM(t.amount), 0) <> g.of_provider + g.of_fee + g.goodwill ORDER BY g.ref LIMIT 100",
    )?);
    broken.extend(store::broken(
        tx,
        "SELECT d.id FROM disputes d LEFT JOIN given_back g ON g.ref = d.id
         WHERE d.state = 'decided' AND d.refund <> COALESCE(g.of_provider + g.of_fee + g.goodwill, 0) ORDER BY d.id LIMIT 100",
    )?);
    Ok(Finding::new(
        "I4",
        "what disputes and goodwill gave back of a rental is in the ledger, and at most what it was charged",
        broken,
    ))
}
