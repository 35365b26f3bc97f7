//! SQL of `rental_alerts`.

use shared::{id::RentalId, time::Timestamp};

use super::super::alerts::Watch;
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "rental_id, look_at, ahead, broke_until";

fn parse(row: &Row) -> Result<Watch> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("rental_alerts", id, column);
    Ok(Watch {
        rental: id.parse().map_err(|_| bad("rental_id"))?,
        look_at: Timestamp::from_micros(row.int(1)?),
        ahead: usize::try_from(row.int(2)?).map_err(|_| bad("ahead"))?,
        broke_until: row.opt_int(3)?.map(Timestamp::from_micros),
    })
}

fn number(ahead: usize) -> i64 {
    i64::try_from(ahead).unwrap_or(i64::MAX)
}

pub(in super::super) fn insert(tx: &mut dyn Tx, watch: &Watch) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO rental_alerts ({COLUMNS}) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
        ),
        params![
            watch.rental,
            watch.look_at,
            number(watch.ahead),
            watch.broke_until
        ],
    )?;
    Ok(())
}

pub(in super::super) fn find(tx: &mut dyn Tx, id: RentalId) -> Result<Option<Watch>> {
    let sql = format!("SELECT {COLUMNS} FROM rental_alerts WHERE rental_id = $1");
    tx.query(&sql, params![id])?.first().map(parse).transpose()
}

/// Those that are to be looked at, in the order of (time, id), after a place in it.
pub(in super::super) fn due(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Watch>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rental_alerts WHERE look_at <= $1 AND (look_at, rental_id) > ($2, $3)
         ORDER BY look_at, rental_id LIMIT $4"
    );
    let rows = tx.query(&sql, params![now, after.0, after.1, limit])?;
    rows.iter().map(parse).collect()
}

/// Writes what a look came to; false if somebody else wrote it since it was read.
pub(in super::super) fn update(tx: &mut dyn Tx, before: &Watch, now: &Watch) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE rental_alerts SET look_at = $1, ahead = $2, broke_until = $3 WHERE rental_id = $4 AND look_at = $5 AND ahead = $6",
        params![
            now.look_at,
            number(now.ahead),
            now.broke_until,
            before.rental,
            before.look_at,
            number(before.ahead)
        ],
    )? == 1)
}

/// Looks at a rental at its next turn; `ahead` replaces what was ahead of it.
pub(in super::super) fn look_soon(
    tx: &mut dyn Tx,
    id: RentalId,
    now: Timestamp,
    ahead: Option<usize>,
) -> Result<()> {
    tx.execute(
        "UPDATE rental_alerts SET look_at = $1, ahead = COALESCE($2, ahead) WHERE rental_id = $3",
        params![now, ahead.map(number), id],
    )?;
    Ok(())
}

pub(in super::super) fn delete(tx: &mut dyn Tx, id: RentalId) -> Result<()> {
    tx.execute(
        "DELETE FROM rental_alerts WHERE rental_id = $1",
        params![id],
    )?;
    Ok(())
}
