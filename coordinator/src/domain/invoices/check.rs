//! I11: what documents say is what the ledger did, and their numbers have no gaps. Of all documents, or of those that are new.

use shared::time::Timestamp;

use super::store;
use crate::{domain::ledger::check::Finding, error::Result, params, store::Tx};

/// Checks every document.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<Finding> {
    check_since(tx, Timestamp::from_micros(i64::MIN))
}

/// Checks the documents that were issued since a moment, and the rentals that they are about.
///
/// # Errors
/// The database's.
pub fn check_since(tx: &mut dyn Tx, since: Timestamp) -> Result<Finding> {
    let mut broken = Vec::new();
    for (what, sql) in SINCE {
        let found = store::broken(tx, sql, params![since])?;
        broken.extend(found.into_iter().map(|id| format!("{id}: {what}")));
    }
    let off = store::broken(tx, SERIES, params![])?;
    broken.extend(
        off.into_iter()
            .map(|series| format!("{series}: its counter isn't its last number")),
    );
    Ok(Finding::new(
        "I11",
        "each document's total is the sum of its transfers, documents cover what was charged and given back, numbers have no gaps",
        broken,
    ))
}

const SINCE: [(&str, &str); 4] = [
    (
        "the number before is missing",
        "SELECT i.id FROM invoices i WHERE i.issued_at >= $1 AND i.number > 1 AND NOT EXISTS (
             SELECT 1 FROM invoices p WHERE p.series = i.series AND p.year = i.year AND p.number = i.number - 1)
         ORDER BY i.id LIMIT 100",
    ),
    (
        "its transfers don't add up to it",
        "SELECT i.id FROM invoices i LEFT JOIN invoice_transfers x ON x.invoice_id = i.id LEFT JOIN transfers t ON t.id = x.transfer_id
         WHERE i.issued_at >= $1 GROUP BY i.id, i.total HAVING COALESCE(SUM(t.amount), 0) <> i.total ORDER BY i.id LIMIT 100",
    ),
    (
        "its invoices don't cover what was charged",
        "SELECT r.id FROM rentals r WHERE r.id IN (SELECT rental_id FROM invoices WHERE issued_at >= $1)
         AND r.invoiced_at IS NOT NULL AND r.charged <> (
             SELECT COALESCE(SUM(i.total), 0) FROM invoices i WHERE i.rental_id = r.id AND i.kind = 'invoice')
         ORDER BY r.id LIMIT 100",
    ),
    (
        "there is no credit note for it",
        "SELECT g.ref FROM given_back g LEFT JOIN invoices n ON n.given_back = g.ref
         WHERE g.rental_id IN (SELECT rental_id FROM invoices WHERE issued_at >= $1)
             AND (n.id IS NULL OR n.total <> g.of_provider + g.of_fee + g.goodwill) ORDER BY g.ref LIMIT 100",
    ),
];

const SERIES: &str = "SELECT s.series || '-' || CAST(s.year AS TEXT) FROM invoice_series s WHERE s.last <> COALESCE(
         (SELECT MAX(i.number) FROM invoices i WHERE i.series = s.series AND i.year = s.year), 0) ORDER BY 1";
