//! SQL of where accounts are paid.

use shared::{id::UserId, time::Timestamp, x402::address::Address};

use crate::{
    domain::payouts::address::Destination,
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "user_id, address, wanted, wanted_from, version";

fn parse(row: &Row) -> Result<(UserId, Destination)> {
    let user = row.text(0)?;
    let bad = |column: &str| Error::corrupt("payout_addresses", user, column);
    let address = |at: usize, name: &str| -> Result<Option<Address>> {
        let text = row.opt_text(at)?;
        text.map(|text| text.parse().map_err(|_| bad(name)))
            .transpose()
    };
    let wanted = match (address(2, "wanted")?, row.opt_int(3)?) {
        (Some(address), Some(from)) => Some((address, Timestamp::from_micros(from))),
        (None, None) => None,
        _ => return Err(bad("wanted_from")),
    };
    let destination = Destination {
        address: address(1, "address")?,
        wanted,
        version: row.int(4)?,
    };
    Ok((user.parse().map_err(|_| bad("user_id"))?, destination))
}

pub(in crate::domain::payouts) fn of(tx: &mut dyn Tx, user: UserId) -> Result<Option<Destination>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM payout_addresses WHERE user_id = $1"),
        params![user],
    )?;
    Ok(rows.first().map(parse).transpose()?.map(|(_, found)| found))
}

/// Accounts that said where they are paid, after an id.
pub(in crate::domain::payouts) fn page(
    tx: &mut dyn Tx,
    after: &str,
    limit: i64,
) -> Result<Vec<(UserId, Destination)>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM payout_addresses WHERE user_id > $1 ORDER BY user_id LIMIT $2"
        ),
        params![after, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// Writes over what was read at `destination.version`; false if it was changed since.
pub(in crate::domain::payouts) fn save(
    tx: &mut dyn Tx,
    user: UserId,
    destination: &Destination,
    now: Timestamp,
) -> Result<bool> {
    let (wanted, from) = destination.wanted.unzip();
    Ok(tx.execute(
        "INSERT INTO payout_addresses (user_id, address, wanted, wanted_from, changed_at, version) VALUES ($1, $2, $3, $4, $5, $6 + 1)
         ON CONFLICT (user_id) DO UPDATE SET address = excluded.address, wanted = excluded.wanted, wanted_from = excluded.wanted_from,
             changed_at = excluded.changed_at, version = excluded.version WHERE payout_addresses.version = $6",
        params![
            user,
            destination.address.map(|address| address.to_string()),
            wanted.map(|address| address.to_string()),
            from,
            now,
            destination.version
        ],
    )? == 1)
}
