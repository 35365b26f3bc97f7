//! SQL of billing windows.

use shared::{id::RentalId, time::Timestamp};

use super::model::Window;
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

pub(super) fn insert(
    tx: &mut dyn Tx,
    rental: RentalId,
    window: &Window,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO billing_windows (rental_id, window_start, window_end, billable_ms, amount, fee, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            rental,
            window.span.start,
            window.span.end,
            window.billable_ms,
            window.amount,
            window.fee,
            now
        ],
    )?;
    Ok(())
}

/// Marks some windows that weren't added to the figures over time, and returns them: each once, whoever asks.
pub(super) fn take_unrolled(
    tx: &mut dyn Tx,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(RentalId, Window)>> {
    let rows = tx.query(
        "UPDATE billing_windows SET rolled_at = $1
         WHERE rolled_at IS NULL AND (rental_id, window_start) IN (
             SELECT rental_id, window_start FROM billing_windows WHERE rolled_at IS NULL ORDER BY created_at LIMIT $2)
         RETURNING window_start, window_end, billable_ms, amount, fee, rental_id",
        params![now, limit],
    )?;
    rows.iter()
        .map(|row| {
            let text = row.text(5)?;
            let rental = text
                .parse()
                .map_err(|_| Error::corrupt("billing_windows", text, "rental_id"))?;
            Ok((rental, window(row, rental)?))
        })
        .collect()
}

/// Windows of a rental after a moment, oldest first.
pub(super) fn page(
    tx: &mut dyn Tx,
    rental: RentalId,
    after: Timestamp,
    limit: i64,
) -> Result<Vec<Window>> {
    let rows = tx.query(
        "SELECT window_start, window_end, billable_ms, amount, fee FROM billing_windows
         WHERE rental_id = $1 AND window_start > $2 ORDER BY window_start LIMIT $3",
        params![rental, after, limit],
    )?;
    rows.iter().map(|row| window(row, rental)).collect()
}

fn window(row: &Row, rental: RentalId) -> Result<Window> {
    let bad = |column: &str| Error::corrupt("billing_windows", &rental.to_string(), column);
    Ok(Window {
        span: crate::domain::metering::model::Interval {
            start: Timestamp::from_micros(row.int(0)?),
            end: Timestamp::from_micros(row.int(1)?),
        },
        billable_ms: row.int(2)?,
        amount: shared::money::Amount::from_atomic(row.int(3)?).map_err(|_| bad("amount"))?,
        fee: shared::money::Amount::from_atomic(row.int(4)?).map_err(|_| bad("fee"))?,
    })
}
