//! SQL of `idempotency_keys`.

use shared::time::Timestamp;

use crate::{error::Result, params, store::Tx};

/// Remembers what a key did; false if it was used before.
pub(in super::super) fn insert_key(
    tx: &mut dyn Tx,
    scope: &str,
    key: &str,
    request_sha256: &[u8],
    resource: &str,
    now: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO idempotency_keys (scope, key, request_sha256, resource_id, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
        params![scope, key, request_sha256, resource, now],
    )? == 1)
}

/// Forgets up to `limit` keys from before a moment, oldest first; how many.
pub(in super::super) fn forget_keys(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM idempotency_keys WHERE (scope, key) IN
         (SELECT scope, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
        params![before, limit],
    )?)
}

/// What a key did: (hash of the request, resource).
pub(in super::super) fn key(
    tx: &mut dyn Tx,
    scope: &str,
    key: &str,
) -> Result<Option<(Vec<u8>, String)>> {
    let rows = tx.query(
        "SELECT request_sha256, resource_id FROM idempotency_keys WHERE scope = $1 AND key = $2",
        params![scope, key],
    )?;
    rows.first()
        .map(|row| Ok((row.blob(0)?.to_vec(), row.text(1)?.to_owned())))
        .transpose()
}
