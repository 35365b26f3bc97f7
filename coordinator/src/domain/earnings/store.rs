//! SQL of earnings that aren't payable yet.

use shared::{
    id::{RentalId, UserId},
    money::{Amount, Asset},
    time::Timestamp,
};

use super::Earned;
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str =
    "rental_id, provider, asset, ripening, ripening_at, fresh, fresh_at, released, version";

fn parse(row: &Row) -> Result<Earned> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("provider_earnings", id, column);
    let amount = |at, name| Amount::from_atomic(row.int(at)?).map_err(|_| bad(name));
    Ok(Earned {
        rental: id.parse().map_err(|_| bad("rental_id"))?,
        provider: row.text(1)?.parse().map_err(|_| bad("provider"))?,
        asset: Asset::from_code(row.text(2)?).ok_or_else(|| bad("asset"))?,
        ripening: amount(3, "ripening")?,
        ripening_at: Timestamp::from_micros(row.int(4)?),
        fresh: amount(5, "fresh")?,
        fresh_at: Timestamp::from_micros(row.int(6)?),
        released: amount(7, "released")?,
        version: row.int(8)?,
    })
}

/// Adds to what is ripening if nothing is, else to what is fresh.
pub(super) fn add(
    tx: &mut dyn Tx,
    rental: RentalId,
    provider: UserId,
    asset: Asset,
    amount: Amount,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO provider_earnings (rental_id, provider, asset, ripening, ripening_at, fresh, fresh_at, released, version)
         VALUES ($1, $2, $3, $4, $5, 0, $5, 0, 1) ON CONFLICT (rental_id) DO UPDATE SET
             ripening = CASE WHEN provider_earnings.ripening = 0 THEN excluded.ripening ELSE provider_earnings.ripening END,
             ripening_at = CASE WHEN provider_earnings.ripening = 0 THEN excluded.ripening_at ELSE provider_earnings.ripening_at END,
             fresh = CASE WHEN provider_earnings.ripening = 0 THEN provider_earnings.fresh
                     ELSE provider_earnings.fresh + excluded.ripening END,
             fresh_at = excluded.fresh_at, version = provider_earnings.version + 1",
        params![rental, provider, asset.code(), amount, now],
    )?;
    Ok(())
}

pub(super) fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Option<Earned>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM provider_earnings WHERE rental_id = $1"),
        params![rental],
    )?;
    rows.first().map(parse).transpose()
}

pub(super) fn ripe(
    tx: &mut dyn Tx,
    until: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Earned>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM provider_earnings WHERE ripening > 0 AND ripening_at <= $1
             AND (ripening_at, rental_id) > ($2, $3) ORDER BY ripening_at, rental_id LIMIT $4"
        ),
        params![until, after.0, after.1, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// Writes what was read; false if it was changed since.
pub(super) fn save(tx: &mut dyn Tx, old: &Earned, new: &Earned) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE provider_earnings SET ripening = $1, ripening_at = $2, fresh = $3, released = $4, version = version + 1
         WHERE rental_id = $5 AND version = $6",
        params![
            new.ripening,
            new.ripening_at,
            new.fresh,
            new.released,
            old.rental,
            old.version
        ],
    )? == 1)
}

/// Providers whose pending account isn't the sum of their rows.
pub(super) fn mismatches(tx: &mut dyn Tx) -> Result<Vec<String>> {
    let sums = "SELECT asset || '/provider:' || provider || ':pending' AS id, SUM(ripening + fresh) AS total
         FROM provider_earnings GROUP BY asset, provider";
    let rows = tx.query(
        &format!(
            "SELECT a.id FROM accounts a LEFT JOIN ({sums}) e ON e.id = a.id
             WHERE a.kind = 'provider_pending' AND a.balance <> COALESCE(e.total, 0)
             UNION ALL
             SELECT e.id FROM ({sums}) e LEFT JOIN accounts a ON a.id = e.id WHERE a.id IS NULL AND e.total <> 0"
        ),
        params![],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}
