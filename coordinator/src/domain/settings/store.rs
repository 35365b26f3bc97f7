//! SQL of `runtime_settings`, which has one row.

use shared::time::Timestamp;

use super::model::{Runtime, Versioned};
use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

pub(super) fn read(tx: &mut dyn Tx) -> Result<Versioned> {
    let rows = tx.query(
        "SELECT version, value FROM runtime_settings WHERE id = 1",
        params![],
    )?;
    let bad = |column: &str| Error::corrupt("runtime_settings", "1", column);
    let row = rows.first().ok_or_else(|| bad("id"))?;
    let settings = serde_json::from_str(row.text(1)?).map_err(|_| bad("value"))?;
    Ok(Versioned {
        version: row.int(0)?,
        settings,
    })
}

/// Replaces what was read at `version`; false if somebody else did so meanwhile.
pub(super) fn replace(
    tx: &mut dyn Tx,
    version: i64,
    settings: &Runtime,
    now: Timestamp,
) -> Result<bool> {
    let value = serde_json::to_string(settings).map_err(Error::internal)?;
    Ok(tx.execute(
        "UPDATE runtime_settings SET version = version + 1, value = $1, updated_us = $2
         WHERE id = 1 AND version = $3",
        params![value, now, version],
    )? == 1)
}
