//! SQL of what the kernel did to a rental for want of memory.

use shared::id::RentalId;

use crate::{error::Result, params, store::Tx};

/// Notes how many processes were killed; false if it was as many before, or more.
pub(in crate::domain::rentals) fn note_oom_kills(
    tx: &mut dyn Tx,
    id: RentalId,
    count: i64,
) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE rentals SET oom_kills = $1 WHERE id = $2 AND oom_kills < $1",
        params![count, id],
    )? == 1)
}

/// How many were killed.
pub(in crate::domain::rentals) fn oom_kills(tx: &mut dyn Tx, id: RentalId) -> Result<i64> {
    let rows = tx.query("SELECT oom_kills FROM rentals WHERE id = $1", params![id])?;
    Ok(rows.first().map(|row| row.int(0)).transpose()?.unwrap_or(0))
}
