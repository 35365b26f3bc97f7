//! SQL of the networks over which money came in.

use shared::{
    id::{RentalId, UserId},
    money::Asset,
};

use crate::{
    error::Result,
    params,
    store::{Tx, Value},
};

/// Of the payments of a rental the first.
pub(in super::super) fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Option<String>> {
    one(
        tx,
        "SELECT network FROM payments WHERE rental_id = $1 AND state = 'credited' ORDER BY created_at, id LIMIT 1",
        params![rental],
    )
}

/// Of somebody's top-ups the last.
pub(in super::super) fn of_top_ups(tx: &mut dyn Tx, user: UserId) -> Result<Option<String>> {
    one(
        tx,
        "SELECT network FROM payments WHERE user_id = $1 AND state = 'credited' ORDER BY created_at DESC, id DESC LIMIT 1",
        params![user],
    )
}

/// Of what was paid for somebody's newest rentals the last.
pub(in super::super) fn of_provider(
    tx: &mut dyn Tx,
    provider: UserId,
    asset: Asset,
) -> Result<Option<String>> {
    one(
        tx,
        "SELECT p.network FROM (
             SELECT id, asset FROM rentals WHERE provider = $1 ORDER BY id DESC LIMIT 50) r
         JOIN payments p ON p.rental_id = r.id
         WHERE r.asset = $2 AND p.state = 'credited' ORDER BY p.created_at DESC, p.id DESC LIMIT 1",
        params![provider, asset.code()],
    )
}

fn one(tx: &mut dyn Tx, sql: &str, params: &[Value]) -> Result<Option<String>> {
    let rows = tx.query(sql, params)?;
    let network = rows.first().map(|row| row.text(0)).transpose()?;
    Ok(network.map(str::to_owned))
}
