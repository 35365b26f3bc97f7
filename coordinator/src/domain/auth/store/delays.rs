//! SQL of `sign_in_delays`.

use shared::time::Timestamp;

use crate::{error::Result, params, store::Tx};

/// What failed, how often in a row, and when last.
pub(in super::super) struct Failed {
    pub(in super::super) failures: i64,
    pub(in super::super) last: Timestamp,
}

/// The failures of a key.
pub(in super::super) fn find(tx: &mut dyn Tx, key: Vec<u8>) -> Result<Option<Failed>> {
    let rows = tx.query(
        "SELECT failures, last_us FROM sign_in_delays WHERE what = $1",
        params![key],
    )?;
    rows.first()
        .map(|row| {
            Ok(Failed {
                failures: row.int(0)?,
                last: Timestamp::from_micros(row.int(1)?),
            })
        })
        .transpose()
}

/// Counts one more; from one again when the last was before `forgotten`.
pub(in super::super) fn count(
    tx: &mut dyn Tx,
    key: Vec<u8>,
    now: Timestamp,
    forgotten: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO sign_in_delays (what, failures, last_us) VALUES ($1, 1, $2)
         ON CONFLICT (what) DO UPDATE SET last_us = $2,
         failures = CASE WHEN sign_in_delays.last_us < $3 THEN 1 ELSE sign_in_delays.failures + 1 END",
        params![key, now, forgotten],
    )?;
    Ok(())
}

/// Forgets a key.
pub(in super::super) fn forget(tx: &mut dyn Tx, key: Vec<u8>) -> Result<()> {
    tx.execute("DELETE FROM sign_in_delays WHERE what = $1", params![key])?;
    Ok(())
}

/// Forgets up to `limit` keys that failed last before `before`; how many.
pub(in super::super) fn forget_old(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM sign_in_delays WHERE what IN
         (SELECT what FROM sign_in_delays WHERE last_us < $1 ORDER BY last_us LIMIT $2)",
        params![before, limit],
    )?)
}
