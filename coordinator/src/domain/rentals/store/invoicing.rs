//! SQL of rentals that wait for their invoice.

use shared::{id::RentalId, time::Timestamp};

use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

/// Rentals that wait for their invoice, the longest settled first.
pub(in crate::domain::rentals) fn to_invoice(tx: &mut dyn Tx, limit: i64) -> Result<Vec<RentalId>> {
    let rows = tx.query(
        "SELECT id FROM rentals WHERE settled_at IS NOT NULL AND invoiced_at IS NULL AND paid > 0 ORDER BY settled_at LIMIT $1",
        params![limit],
    )?;
    rows.iter()
        .map(|row| {
            let id = row.text(0)?;
            id.parse().map_err(|_| Error::corrupt("rentals", id, "id"))
        })
        .collect()
}

/// Whether a rental is among them.
pub(in crate::domain::rentals) fn waits_for_invoice(tx: &mut dyn Tx, id: RentalId) -> Result<bool> {
    let rows = tx.query(
        "SELECT id FROM rentals WHERE id = $1 AND settled_at IS NOT NULL AND invoiced_at IS NULL AND paid > 0",
        params![id],
    )?;
    Ok(!rows.is_empty())
}

/// Notes that the invoice is issued; false if somebody else wrote the rental since it was read.
pub(in crate::domain::rentals) fn mark_invoiced(
    tx: &mut dyn Tx,
    id: RentalId,
    version: i64,
    now: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE rentals SET invoiced_at = $1, version = version + 1 WHERE id = $2 AND version = $3",
        params![now, id, version],
    )? == 1)
}
