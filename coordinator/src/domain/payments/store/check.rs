//! SQL of the invariants that join payments with the ledger.

use shared::time::Timestamp;

use crate::{
    error::Result,
    params,
    store::{Row, Tx},
};

/// I7: credited payments without exactly one posting of their amount, and postings without a credited payment.
pub(in crate::domain::payments) fn posting_mismatches(tx: &mut dyn Tx) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT p.id FROM payments p LEFT JOIN transfers t ON t.code = 'payment' AND t.ref = p.id
         WHERE (p.state = 'credited' AND (t.id IS NULL OR t.amount <> p.amount)) OR (p.state <> 'credited' AND t.id IS NOT NULL)
         UNION ALL
         SELECT t.id FROM transfers t LEFT JOIN payments p ON p.id = t.ref WHERE t.code = 'payment' AND p.id IS NULL",
        params![],
    )?;
    texts(&rows)
}

/// I7 of what was credited and posted after one moment, up to another.
pub(in crate::domain::payments) fn posting_mismatches_in(
    tx: &mut dyn Tx,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT p.id FROM payments p LEFT JOIN transfers t ON t.code = 'payment' AND t.ref = p.id
         WHERE p.state = 'credited' AND p.updated_at > $1 AND p.updated_at <= $2 AND (t.id IS NULL OR t.amount <> p.amount)
         UNION ALL
         SELECT t.id FROM transfers t LEFT JOIN payments p ON p.id = t.ref
         WHERE t.code = 'payment' AND t.created_at > $1 AND t.created_at <= $2 AND (p.id IS NULL OR p.state <> 'credited')",
        params![from, to],
    )?;
    texts(&rows)
}

/// I7 of the `limit` payments after an id, and of the postings whose payments would lie there; the last of these ids, if there are more.
pub(in crate::domain::payments) fn posting_mismatches_after(
    tx: &mut dyn Tx,
    after: &str,
    limit: i64,
) -> Result<(Option<String>, Vec<String>)> {
    let rows = tx.query(
        "SELECT id FROM payments WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2",
        params![after, limit],
    )?;
    let last = rows.first().map(|row| row.text(0)).transpose()?;
    let rows = tx.query(
        "SELECT p.id FROM payments p LEFT JOIN transfers t ON t.code = 'payment' AND t.ref = p.id
         WHERE p.id > $1 AND (CAST($2 AS TEXT) = '' OR p.id <= $2)
           AND ((p.state = 'credited' AND (t.id IS NULL OR t.amount <> p.amount)) OR (p.state <> 'credited' AND t.id IS NOT NULL))
         UNION ALL
         SELECT t.id FROM transfers t LEFT JOIN payments p ON p.id = t.ref
         WHERE t.code = 'payment' AND t.ref > $1 AND (CAST($2 AS TEXT) = '' OR t.ref <= $2) AND p.id IS NULL",
        params![after, last.unwrap_or_default()],
    )?;
    Ok((last.map(str::to_owned), texts(&rows)?))
}

/// Open payments whose authorization ended before a moment, seconds since 1970.
pub(in crate::domain::payments) fn open_since(
    tx: &mut dyn Tx,
    before_s: i64,
) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT id FROM payments WHERE state IN ('received', 'verified', 'settling', 'pending') AND valid_before < $1
         ORDER BY next_try_at LIMIT 100",
        params![before_s],
    )?;
    texts(&rows)
}

fn texts(rows: &[Row]) -> Result<Vec<String>> {
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}
