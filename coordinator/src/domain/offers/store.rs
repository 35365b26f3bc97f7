//! SQL of offers.

use shared::{
    id::{NodeId, OfferId, UserId},
    money::{Amount, Asset, UnitPrices},
    time::Timestamp,
};

use super::{
    PricePlace,
    model::{Offer, OfferState, Terms},
};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "id, node_id, owner, state, asset, ram_gib_hour, cpu_hour, gpu_hour, disk_gib_hour, max_ram_bytes, \
     max_cpu_millis, min_duration_ms, max_duration_ms, region, version, created_at, updated_at, max_gpus, max_disk_bytes, \
     internet, notice_ms";

fn parse(row: &Row) -> Result<Offer> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("offers", id, column);
    let amount =
        |column: usize, name: &str| Amount::from_atomic(row.int(column)?).map_err(|_| bad(name));
    Ok(Offer {
        id: id.parse().map_err(|_| bad("id"))?,
        node_id: row.text(1)?.parse().map_err(|_| bad("node_id"))?,
        owner: row.text(2)?.parse().map_err(|_| bad("owner"))?,
        state: OfferState::from_name(row.text(3)?).ok_or_else(|| bad("state"))?,
        terms: Terms {
            asset: Asset::from_code(row.text(4)?).ok_or_else(|| bad("asset"))?,
            prices: UnitPrices {
                ram_gib_hour: amount(5, "ram_gib_hour")?,
                cpu_hour: amount(6, "cpu_hour")?,
                gpu_hour: amount(7, "gpu_hour")?,
                disk_gib_hour: amount(8, "disk_gib_hour")?,
            },
            max_ram_bytes: row.int(9)?,
            max_cpu_millis: row.int(10)?,
            max_gpus: row.int(17)?,
            max_disk_bytes: row.int(18)?,
            min_duration_ms: row.int(11)?,
            max_duration_ms: row.int(12)?,
            region: row.text(13)?.to_owned(),
            internet: row.int(19)? == 1,
            notice_ms: row.int(20)?,
        },
        version: row.int(14)?,
        created_at: Timestamp::from_micros(row.int(15)?),
        updated_at: Timestamp::from_micros(row.int(16)?),
    })
}

pub(super) fn insert(tx: &mut dyn Tx, offer: &Offer) -> Result<()> {
    let terms = &offer.terms;
    tx.execute(
        &format!(
            "INSERT INTO offers ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21)"
        ),
        params![
            offer.id,
            offer.node_id,
            offer.owner,
            offer.state.name(),
            terms.asset.code(),
            terms.prices.ram_gib_hour,
            terms.prices.cpu_hour,
            terms.prices.gpu_hour,
            terms.prices.disk_gib_hour,
            terms.max_ram_bytes,
            terms.max_cpu_millis,
            terms.min_duration_ms,
            terms.max_duration_ms,
            terms.region.as_str(),
            offer.version,
            offer.created_at,
            offer.updated_at,
            terms.max_gpus,
            terms.max_disk_bytes,
            i64::from(terms.internet),
            terms.notice_ms
        ],
    )?;
    Ok(())
}

pub(super) fn by_id(tx: &mut dyn Tx, id: OfferId) -> Result<Option<Offer>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM offers WHERE id = $1"),
        params![id],
    )?;
    rows.first().map(parse).transpose()
}

/// Changes an offer; false if somebody else did since `version`.
pub(super) fn update(tx: &mut dyn Tx, offer: &Offer, old_version: i64) -> Result<bool> {
    let terms = &offer.terms;
    Ok(tx.execute(
        "UPDATE offers SET state = $1, ram_gib_hour = $2, cpu_hour = $3, gpu_hour = $4, disk_gib_hour = $5, max_ram_bytes = $6,
             max_cpu_millis = $7, min_duration_ms = $8, max_duration_ms = $9, region = $10, version = $11, updated_at = $12,
             max_gpus = $15, max_disk_bytes = $16, notice_ms = $17
         WHERE id = $13 AND version = $14",
        params![
            offer.state.name(),
            terms.prices.ram_gib_hour,
            terms.prices.cpu_hour,
            terms.prices.gpu_hour,
            terms.prices.disk_gib_hour,
            terms.max_ram_bytes,
            terms.max_cpu_millis,
            terms.min_duration_ms,
            terms.max_duration_ms,
            terms.region.as_str(),
            offer.version,
            offer.updated_at,
            offer.id,
            old_version,
            terms.max_gpus,
            terms.max_disk_bytes,
            terms.notice_ms
        ],
    )? == 1)
}

/// Notes what an offer costs from now on.
pub(super) fn note_prices(tx: &mut dyn Tx, offer: &Offer) -> Result<()> {
    let prices = &offer.terms.prices;
    tx.execute(
        "INSERT INTO offer_prices (offer_id, at, ram_gib_hour, cpu_hour, gpu_hour, disk_gib_hour)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (offer_id, at) DO UPDATE SET ram_gib_hour = excluded.ram_gib_hour, cpu_hour = excluded.cpu_hour,
             gpu_hour = excluded.gpu_hour, disk_gib_hour = excluded.disk_gib_hour",
        params![
            offer.id,
            offer.updated_at,
            prices.ram_gib_hour,
            prices.cpu_hour,
            prices.gpu_hour,
            prices.disk_gib_hour
        ],
    )?;
    Ok(())
}

/// What an offer cost, the newest first, before a moment.
pub(super) fn prices(
    tx: &mut dyn Tx,
    id: OfferId,
    before: Timestamp,
    limit: i64,
) -> Result<Vec<(Timestamp, UnitPrices)>> {
    let rows = tx.query(
        "SELECT at, ram_gib_hour, cpu_hour, gpu_hour, disk_gib_hour FROM offer_prices
         WHERE offer_id = $1 AND at < $2 ORDER BY at DESC LIMIT $3",
        params![id, before, limit],
    )?;
    let price = |row: &Row, column: usize| {
        Amount::from_atomic(row.int(column)?)
            .map_err(|_| Error::corrupt("offer_prices", &id.to_string(), "price"))
    };
    rows.iter()
        .map(|row| {
            let prices = UnitPrices {
                ram_gib_hour: price(row, 1)?,
                cpu_hour: price(row, 2)?,
                gpu_hour: price(row, 3)?,
                disk_gib_hour: price(row, 4)?,
            };
            Ok((Timestamp::from_micros(row.int(0)?), prices))
        })
        .collect()
}

/// Prices from before a moment, the oldest first, after a place among them: when, and of which offer.
pub(super) fn prices_before(
    tx: &mut dyn Tx,
    before: Timestamp,
    (at, offer): &PricePlace,
    limit: i64,
) -> Result<Vec<PricePlace>> {
    let rows = tx.query(
        "SELECT at, offer_id FROM offer_prices WHERE (at, offer_id) > ($1, $2) AND at < $3 ORDER BY at, offer_id LIMIT $4",
        params![*at, offer.as_str(), before, limit],
    )?;
    rows.iter()
        .map(|row| Ok((Timestamp::from_micros(row.int(0)?), row.text(1)?.to_owned())))
        .collect()
}

/// Forgets a price if another followed it before a moment.
pub(super) fn forget_price(
    tx: &mut dyn Tx,
    (at, offer): &PricePlace,
    before: Timestamp,
) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM offer_prices WHERE offer_id = $1 AND at = $2 AND EXISTS (
             SELECT 1 FROM offer_prices AS later WHERE later.offer_id = $3 AND later.at > $4 AND later.at < $5)",
        params![offer.as_str(), *at, offer.as_str(), *at, before],
    )?)
}

/// Offers on the market or paused, after a cursor.
pub(super) fn alive(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<Offer>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM offers WHERE state <> 'deleted' AND id > $1 ORDER BY id LIMIT $2"
        ),
        params![after, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// All offers of a node that aren't deleted.
pub(super) fn of_node(tx: &mut dyn Tx, node: NodeId) -> Result<Vec<Offer>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM offers WHERE node_id = $1 AND state <> 'deleted' ORDER BY id"
        ),
        params![node],
    )?;
    rows.iter().map(parse).collect()
}

/// How many offers of a node aren't deleted.
pub(super) fn count_of_node(tx: &mut dyn Tx, node: NodeId) -> Result<i64> {
    let rows = tx.query(
        "SELECT COUNT(*) FROM offers WHERE node_id = $1 AND state <> 'deleted'",
        params![node],
    )?;
    rows.first()
        .ok_or_else(|| Error::corrupt("offers", "", "count"))
        .and_then(|row| Ok(row.int(0)?))
}

/// Offers of one owner that aren't deleted, after a cursor.
pub(super) fn of_owner(
    tx: &mut dyn Tx,
    owner: UserId,
    after: &str,
    limit: i64,
) -> Result<Vec<Offer>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM offers WHERE owner = $1 AND id > $2 AND state <> 'deleted' ORDER BY id LIMIT $3"),
        params![owner, after, limit],
    )?;
    rows.iter().map(parse).collect()
}
