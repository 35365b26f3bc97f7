//! SQL of rentals.

pub(super) mod alerts;
pub(super) mod invoicing;
mod row;

use shared::{
    id::{NodeId, RentalId, UserId},
    money::Asset,
    time::Timestamp,
    x402::address::Address,
};

use row::{COLUMNS, parse, values};

use super::model::{EndReason, Rental};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx, Value},
};

pub(super) fn insert(tx: &mut dyn Tx, rental: &Rental) -> Result<()> {
    let values = values(rental)?;
    let places: Vec<String> = (1..=values.len()).map(|n| format!("${n}")).collect();
    tx.execute(
        &format!(
            "INSERT INTO rentals ({COLUMNS}) VALUES ({})",
            places.join(", ")
        ),
        &values,
    )?;
    Ok(())
}

/// Writes what may change of a rental; false if somebody else wrote it since it was read. What was sealed goes with its end: no
/// node starts it again.
pub(super) fn update(tx: &mut dyn Tx, rental: &Rental) -> Result<bool> {
    let phase = serde_json::to_string(&rental.phase).map_err(Error::internal)?;
    Ok(tx.execute(
        "UPDATE rentals SET state = $1, stop_reason = $2, end_reason = $3, detail = $4, phase = $5, duration_ms = $6, paid = $7,
             container_id = $8, image_digest = $9, paid_at = $10, started_at = $11, finished_at = $12, lease_until = $13,
             ended_at = $14, settled_at = $15, window_end = $16, billed_ms = $17, charged = $18, fee = $19, refunded = $20,
             invoiced_at = CASE WHEN CAST($15 AS BIGINT) IS NULL THEN NULL ELSE invoiced_at END,
             sealed_spec = CASE WHEN $1 = 'ended' THEN NULL ELSE sealed_spec END, version = version + 1
         WHERE id = $21 AND version = $22",
        params![
            rental.state.name(),
            rental.stop_reason.map(EndReason::name),
            rental.end_reason.map(EndReason::name),
            rental.detail.as_str(),
            phase,
            rental.duration_ms,
            rental.paid,
            rental.container_id.as_deref(),
            rental.image_digest.as_deref(),
            rental.paid_at,
            rental.started_at,
            rental.finished_at,
            rental.lease_until,
            rental.ended_at,
            rental.settled_at,
            rental.window_end,
            rental.billed_ms,
            rental.charged,
            rental.fee,
            rental.refunded,
            rental.id,
            rental.version
        ],
    )? == 1)
}

fn many(tx: &mut dyn Tx, rest: &str, params: &[Value]) -> Result<Vec<Rental>> {
    tx.query(&format!("SELECT {COLUMNS} FROM rentals {rest}"), params)?
        .iter()
        .map(parse)
        .collect()
}

pub(super) fn by_id(tx: &mut dyn Tx, id: RentalId) -> Result<Option<Rental>> {
    Ok(many(tx, "WHERE id = $1", params![id])?.pop())
}

/// Rentals that a node must know of, sorted by id.
pub(super) fn desired_of(tx: &mut dyn Tx, node: NodeId) -> Result<Vec<Rental>> {
    many(
        tx,
        "WHERE node_id = $1 AND state <> 'ended' AND state <> 'reserved' ORDER BY id",
        params![node],
    )
}

/// Active rentals whose lease ends before a moment, in the order of (lease end, id), after a place in it.
pub(super) fn leases_ending(
    tx: &mut dyn Tx,
    before: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Rental>> {
    many(
        tx,
        "WHERE state = 'active' AND lease_until < $1 AND (lease_until, id) > ($2, $3) ORDER BY lease_until, id LIMIT $4",
        params![before, after.0, after.1, limit],
    )
}

/// Paid rentals that aren't over, after a cursor.
pub(super) fn live(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<Rental>> {
    many(
        tx,
        "WHERE state IN ('active', 'stopping') AND id > $1 ORDER BY id LIMIT $2",
        params![after, limit],
    )
}

/// Rentals that are over and whose money isn't split yet, in the order of (end, id), after a place in it.
pub(super) fn to_settle(
    tx: &mut dyn Tx,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Rental>> {
    many(
        tx,
        "WHERE state = 'ended' AND settled_at IS NULL AND (ended_at, id) > ($1, $2) ORDER BY ended_at, id LIMIT $3",
        params![after.0, after.1, limit],
    )
}

/// Reservations that weren't paid in time, in the order of (hold's end, id), after a place in it.
pub(super) fn lapsed(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Rental>> {
    many(
        tx,
        "WHERE state = 'reserved' AND reserve_until < $1 AND (reserve_until, id) > ($2, $3)
         ORDER BY reserve_until, id LIMIT $4",
        params![now, after.0, after.1, limit],
    )
}

/// Whose rentals a list shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    Consumer(UserId),
    Provider(UserId),
    Wallet(Address),
    Everybody,
}

/// Newest first, after a cursor (an id, or a text above all ids).
pub(super) fn page(tx: &mut dyn Tx, whose: Whose, before: &str, limit: i64) -> Result<Vec<Rental>> {
    match whose {
        Whose::Consumer(user) => many(
            tx,
            "WHERE consumer = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            params![user, before, limit],
        ),
        Whose::Provider(user) => many(
            tx,
            "WHERE provider = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            params![user, before, limit],
        ),
        Whose::Wallet(wallet) => many(
            tx,
            "WHERE payer = $1 AND consumer IS NULL AND id < $2 ORDER BY id DESC LIMIT $3",
            params![wallet.to_string(), before, limit],
        ),
        Whose::Everybody => many(
            tx,
            "WHERE id < $1 ORDER BY id DESC LIMIT $2",
            params![before, limit],
        ),
    }
}

/// How many rentals run or are about to.
pub(super) fn count_active(tx: &mut dyn Tx) -> Result<i64> {
    let rows = tx.query(
        "SELECT COUNT(*) FROM rentals WHERE state = 'active'",
        params![],
    )?;
    rows.first()
        .ok_or_else(|| Error::corrupt("rentals", "", "count"))
        .and_then(|row| Ok(row.int(0)?))
}

/// Ids of rentals that break a condition (at most 100).
pub(super) fn ids_where(
    tx: &mut dyn Tx,
    from_and_where: &str,
    values: &[Value],
) -> Result<Vec<String>> {
    let sql = format!("SELECT r.id FROM {from_and_where} ORDER BY r.id LIMIT 100");
    let rows = tx.query(&sql, values)?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// Ids of all rentals, after one.
pub(super) fn ids_after(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<RentalId>> {
    let rows = tx.query(
        "SELECT id FROM rentals WHERE id > $1 ORDER BY id LIMIT $2",
        params![after, limit],
    )?;
    rows.iter()
        .map(|row| {
            let text = row.text(0)?;
            text.parse()
                .map_err(|_| Error::corrupt("rentals", text, "id"))
        })
        .collect()
}

/// Nodes whose counters don't fit: free ≠ rentable − Σ live rentals, per node (id, free RAM, expected RAM).
pub(super) fn capacity_mismatches(tx: &mut dyn Tx) -> Result<Vec<(String, i64, i64)>> {
    let rows = tx.query(
        "SELECT n.id, n.free_ram_bytes, CAST(n.rentable_ram_bytes - COALESCE(r.ram, 0) AS BIGINT)
         FROM nodes n LEFT JOIN (
             SELECT node_id, SUM(ram_bytes) AS ram, SUM(cpu_millis) AS cpu, SUM(gpu_count) AS gpus, SUM(disk_bytes) AS disk
             FROM rentals WHERE state <> 'ended' GROUP BY node_id
         ) r ON r.node_id = n.id
         WHERE n.free_ram_bytes <> n.rentable_ram_bytes - COALESCE(r.ram, 0)
            OR n.free_cpu_millis <> n.rentable_cpu_millis - COALESCE(r.cpu, 0)
            OR n.free_gpus <> n.rentable_gpus - COALESCE(r.gpus, 0)
            OR n.free_disk_bytes <> n.rentable_disk_bytes - COALESCE(r.disk, 0)
         ORDER BY n.id LIMIT 100",
        params![],
    )?;
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?, row.int(2)?)))
        .collect()
}

/// What a consumer's running rentals cost in an hour by the currency of their prices, millionths of an atomic unit, and how many they are.
pub(super) fn burning(tx: &mut dyn Tx, consumer: UserId) -> Result<Vec<(Asset, i64, i64)>> {
    let rows = tx.query(
        "SELECT asset, CAST(SUM(rate_micro) AS BIGINT), COUNT(*) FROM rentals WHERE consumer = $1 AND state = 'active'
         GROUP BY asset ORDER BY asset",
        params![consumer],
    )?;
    rows.iter()
        .map(|row| Ok((asset_of(row)?, row.int(1)?, row.int(2)?)))
        .collect()
}

/// What a consumer's running rentals that draw on a balance in one currency cost in an hour, millionths of an atomic unit, by the currency
/// of their price: of all of them, or of those that are extended from the balance.
pub(super) fn burn_micro(
    tx: &mut dyn Tx,
    consumer: UserId,
    balance: Asset,
    only_extending: bool,
) -> Result<Vec<(Asset, i64)>> {
    let rows = tx.query(
        "SELECT asset, CAST(SUM(rate_micro) AS BIGINT) FROM rentals
         WHERE consumer = $1 AND state = 'active' AND COALESCE(balance_asset, asset) = $2 AND auto_extend >= $3
         GROUP BY asset ORDER BY asset",
        params![consumer, balance.code(), i64::from(only_extending)],
    )?;
    rows.iter()
        .map(|row| Ok((asset_of(row)?, row.int(1)?)))
        .collect()
}

fn asset_of(row: &Row) -> Result<Asset> {
    let code = row.text(0)?;
    Asset::from_code(code).ok_or_else(|| Error::corrupt("rentals", code, "asset"))
}
