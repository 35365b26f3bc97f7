//! SQL of `wallet_nonces`: those that were used.

use shared::time::Timestamp;

use crate::{error::Result, params, store::Tx};

/// Uses a nonce; false if it was used before.
pub(super) fn take(tx: &mut dyn Tx, nonce: &str, now: Timestamp) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO wallet_nonces (nonce, used_us) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        params![nonce, now],
    )? == 1)
}

/// Forgets up to `limit` that were used before `before`; how many.
pub(super) fn forget(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM wallet_nonces WHERE nonce IN
         (SELECT nonce FROM wallet_nonces WHERE used_us < $1 ORDER BY used_us LIMIT $2)",
        params![before, limit],
    )?)
}
