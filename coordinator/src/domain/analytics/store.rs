//! SQL of figures: how much and how long, and beside it the money, a row for each currency.

use std::collections::BTreeMap;

use shared::{
    id::{NodeId, UserId},
    money::{Amount, Asset, Money},
    time::Timestamp,
};

use super::model::{ConsumerPoint, Earned, MarketPoint, NodePart, ProviderPoint, Range, Step};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

/// Adds to a node's hour or day.
pub(super) fn add_node(tx: &mut dyn Tx, step: Step, at: Timestamp, part: &NodePart) -> Result<()> {
    let at = step.floor(at);
    tx.execute(
        "INSERT INTO node_figures (node_id, grain, at, provider, billed_ms, ram_mib_ms, covered_ms, rentable_ram_mib)
         VALUES ($1, $2, $3, $4, $5, $6, 0, 0)
         ON CONFLICT (node_id, grain, at) DO UPDATE SET billed_ms = node_figures.billed_ms + excluded.billed_ms,
             ram_mib_ms = node_figures.ram_mib_ms + excluded.ram_mib_ms",
        params![
            part.node,
            step.grain(),
            at,
            part.provider,
            part.billed_ms,
            part.ram_mib_ms,
        ],
    )?;
    tx.execute(
        "INSERT INTO node_earnings (node_id, grain, at, asset, provider, earned, fee) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (node_id, grain, at, asset) DO UPDATE SET earned = node_earnings.earned + excluded.earned,
             fee = node_earnings.fee + excluded.fee",
        params![
            part.node,
            step.grain(),
            at,
            part.asset.code(),
            part.provider,
            part.earned,
            part.fee,
        ],
    )?;
    Ok(())
}

/// Sets how long a node was there in an hour or day, and what it had to rent.
pub(super) fn set_covered(
    tx: &mut dyn Tx,
    step: Step,
    at: Timestamp,
    (node, provider): (NodeId, UserId),
    (covered_ms, rentable_ram_mib): (i64, i64),
) -> Result<()> {
    tx.execute(
        "INSERT INTO node_figures (node_id, grain, at, provider, billed_ms, ram_mib_ms, covered_ms, rentable_ram_mib)
         VALUES ($1, $2, $3, $4, 0, 0, $5, $6)
         ON CONFLICT (node_id, grain, at) DO UPDATE SET covered_ms = excluded.covered_ms,
             rentable_ram_mib = excluded.rentable_ram_mib",
        params![node, step.grain(), step.floor(at), provider, covered_ms, rentable_ram_mib],
    )?;
    Ok(())
}

/// Adds to a consumer's hour or day.
pub(super) fn add_consumer(
    tx: &mut dyn Tx,
    step: Step,
    at: Timestamp,
    consumer: UserId,
    (asset, spent): (Asset, i64),
    billed_ms: i64,
) -> Result<()> {
    let at = step.floor(at);
    tx.execute(
        "INSERT INTO consumer_figures (consumer, grain, at, billed_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (consumer, grain, at) DO UPDATE SET billed_ms = consumer_figures.billed_ms + excluded.billed_ms",
        params![consumer, step.grain(), at, billed_ms],
    )?;
    tx.execute(
        "INSERT INTO consumer_spending (consumer, grain, at, asset, spent) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (consumer, grain, at, asset) DO UPDATE SET spent = consumer_spending.spent + excluded.spent",
        params![consumer, step.grain(), at, asset.code(), spent],
    )?;
    Ok(())
}

/// Figures of all nodes of a provider together.
pub(super) fn of_provider(
    tx: &mut dyn Tx,
    provider: UserId,
    range: &Range,
) -> Result<Vec<ProviderPoint>> {
    let rows = tx.query(
        "SELECT at, CAST(SUM(billed_ms) AS BIGINT), CAST(SUM(ram_mib_ms) AS BIGINT), CAST(SUM(covered_ms) AS BIGINT),
                CAST(SUM(rentable_ram_mib) AS BIGINT), COUNT(*)
         FROM node_figures WHERE provider = $1 AND grain = $2 AND at >= $3 AND at < $4 GROUP BY at ORDER BY at",
        params![provider, range.step.grain(), range.from, range.to],
    )?;
    let earned = tx.query(
        "SELECT at, asset, CAST(SUM(earned) AS BIGINT), CAST(SUM(fee) AS BIGINT)
         FROM node_earnings WHERE provider = $1 AND grain = $2 AND at >= $3 AND at < $4 GROUP BY at, asset ORDER BY at, asset",
        params![provider, range.step.grain(), range.from, range.to],
    )?;
    provider_points(&rows, &earned)
}

/// Figures of one node of a provider.
pub(super) fn of_node(
    tx: &mut dyn Tx,
    (provider, node): (UserId, NodeId),
    range: &Range,
) -> Result<Vec<ProviderPoint>> {
    let rows = tx.query(
        "SELECT at, billed_ms, ram_mib_ms, covered_ms, rentable_ram_mib, CAST(1 AS BIGINT)
         FROM node_figures WHERE node_id = $1 AND grain = $2 AND at >= $3 AND at < $4 AND provider = $5 ORDER BY at",
        params![node, range.step.grain(), range.from, range.to, provider],
    )?;
    let earned = tx.query(
        "SELECT at, asset, earned, fee
         FROM node_earnings WHERE node_id = $1 AND grain = $2 AND at >= $3 AND at < $4 AND provider = $5 ORDER BY at, asset",
        params![node, range.step.grain(), range.from, range.to, provider],
    )?;
    provider_points(&rows, &earned)
}

fn money(row: &Row, asset: usize, amount: usize) -> Result<Money> {
    let code = row.text(asset)?;
    Ok(Money {
        amount: Amount::from_atomic(row.int(amount)?)?,
        currency: Asset::from_code(code).ok_or_else(|| Error::corrupt("figures", code, "asset"))?,
    })
}

fn provider_points(rows: &[Row], earned: &[Row]) -> Result<Vec<ProviderPoint>> {
    let mut by_step: BTreeMap<i64, Vec<Earned>> = BTreeMap::new();
    for row in earned {
        by_step.entry(row.int(0)?).or_default().push(Earned {
            share: money(row, 1, 2)?,
            fee: money(row, 1, 3)?,
        });
    }
    let point = |row: &Row| {
        Ok(ProviderPoint {
            at: Timestamp::from_micros(row.int(0)?),
            earned: by_step.remove(&row.int(0)?).unwrap_or_default(),
            billed_ms: row.int(1)?,
            ram_mib_ms: row.int(2)?,
            covered_ms: row.int(3)?,
            rentable_ram_mib: row.int(4)?,
            nodes: row.int(5)?,
        })
    };
    rows.iter().map(point).collect()
}

/// Figures of a consumer.
pub(super) fn of_consumer(
    tx: &mut dyn Tx,
    consumer: UserId,
    range: &Range,
) -> Result<Vec<ConsumerPoint>> {
    let rows = tx.query(
        "SELECT at, billed_ms FROM consumer_figures
         WHERE consumer = $1 AND grain = $2 AND at >= $3 AND at < $4 ORDER BY at",
        params![consumer, range.step.grain(), range.from, range.to],
    )?;
    let spent = tx.query(
        "SELECT at, asset, spent FROM consumer_spending
         WHERE consumer = $1 AND grain = $2 AND at >= $3 AND at < $4 ORDER BY at, asset",
        params![consumer, range.step.grain(), range.from, range.to],
    )?;
    let mut by_step: BTreeMap<i64, Vec<Money>> = BTreeMap::new();
    for row in &spent {
        let amount = money(row, 1, 2)?;
        by_step.entry(row.int(0)?).or_default().push(amount);
    }
    let point = |row: &Row| {
        Ok(ConsumerPoint {
            at: Timestamp::from_micros(row.int(0)?),
            spent: by_step.remove(&row.int(0)?).unwrap_or_default(),
            billed_ms: row.int(1)?,
        })
    };
    rows.iter().map(point).collect()
}

/// Locks the position for this transaction: the hour that is being added, and after which node.
pub(super) fn lock_position(tx: &mut dyn Tx) -> Result<(Timestamp, String)> {
    let rows = tx.query(
        "UPDATE figures_position SET after_node = after_node WHERE one = 1 RETURNING covered_until, after_node",
        &[],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("figures_position", "1", "one"))?;
    Ok((Timestamp::from_micros(row.int(0)?), row.text(1)?.to_owned()))
}

/// Moves the position.
pub(super) fn move_position(
    tx: &mut dyn Tx,
    covered_until: Timestamp,
    after_node: &str,
) -> Result<()> {
    tx.execute(
        "UPDATE figures_position SET covered_until = $1, after_node = $2 WHERE one = 1",
        params![covered_until, after_node],
    )?;
    Ok(())
}

/// Writes what the market looks like, over what another coordinator wrote of the same moment.
pub(super) fn sample(tx: &mut dyn Tx, resource: &str, point: &MarketPoint) -> Result<()> {
    tx.execute(
        "INSERT INTO market_samples (resource, at, available) VALUES ($1, $2, $3)
         ON CONFLICT (resource, at) DO UPDATE SET available = excluded.available",
        params![resource, point.at, point.available],
    )?;
    for (asset, [p10, median, p90]) in &point.prices {
        tx.execute(
            "INSERT INTO market_prices (resource, at, asset, price_p10, price_median, price_p90) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (resource, at, asset) DO UPDATE SET price_p10 = excluded.price_p10, price_median = excluded.price_median,
                 price_p90 = excluded.price_p90",
            params![resource, point.at, asset.code(), *p10, *median, *p90],
        )?;
    }
    Ok(())
}

/// What the market looked like at the beginning of each step.
pub(super) fn samples(tx: &mut dyn Tx, resource: &str, range: &Range) -> Result<Vec<MarketPoint>> {
    let rows = tx.query(
        "SELECT at, available FROM market_samples
         WHERE resource = $1 AND at >= $2 AND at < $3 AND at % CAST($4 AS BIGINT) = 0 ORDER BY at",
        params![resource, range.from, range.to, range.step.us()],
    )?;
    let asked = tx.query(
        "SELECT at, asset, price_p10, price_median, price_p90 FROM market_prices
         WHERE resource = $1 AND at >= $2 AND at < $3 AND at % CAST($4 AS BIGINT) = 0 ORDER BY at, asset",
        params![resource, range.from, range.to, range.step.us()],
    )?;
    let mut by_step: BTreeMap<i64, Vec<(Asset, [i64; 3])>> = BTreeMap::new();
    for row in &asked {
        let code = row.text(1)?;
        let asset =
            Asset::from_code(code).ok_or_else(|| Error::corrupt("market_prices", code, "asset"))?;
        let prices = [row.int(2)?, row.int(3)?, row.int(4)?];
        by_step
            .entry(row.int(0)?)
            .or_default()
            .push((asset, prices));
    }
    let point = |row: &Row| {
        Ok(MarketPoint {
            at: Timestamp::from_micros(row.int(0)?),
            prices: by_step.remove(&row.int(0)?).unwrap_or_default(),
            available: row.int(1)?,
        })
    };
    rows.iter().map(point).collect()
}

/// Forgets hours, and samples that don't begin one, from before a moment; returns how many rows went.
pub(super) fn forget(
    tx: &mut dyn Tx,
    hours_before: Timestamp,
    samples_before: Timestamp,
    limit: i64,
) -> Result<u64> {
    let mut gone = 0_u64;
    for (table, owner) in [
        ("node_figures", "node_id"),
        ("node_earnings", "node_id"),
        ("consumer_figures", "consumer"),
        ("consumer_spending", "consumer"),
    ] {
        let sql = format!(
            "DELETE FROM {table} WHERE grain = 'hour' AND at < $1 AND ({owner}, at) IN (
                 SELECT {owner}, at FROM {table} WHERE grain = 'hour' AND at < $2 ORDER BY at LIMIT $3)"
        );
        let hours = tx.execute(&sql, params![hours_before, hours_before, limit])?;
        gone = gone.saturating_add(hours);
    }
    for table in ["market_samples", "market_prices"] {
        // a slice of a day at a time: what is kept of it isn't read again and again for long
        let samples = tx.execute(
            &format!(
                "DELETE FROM {table} WHERE at >= $1 AND at < $2 AND at % CAST($3 AS BIGINT) <> 0"
            ),
            params![
                samples_before.plus_ms(-3 * 86_400_000),
                samples_before,
                Step::Hour.us()
            ],
        )?;
        let old = tx.execute(
            &format!("DELETE FROM {table} WHERE at < $1 AND at % CAST($2 AS BIGINT) <> 0"),
            params![hours_before, Step::Day.us()],
        )?;
        gone = gone.saturating_add(samples).saturating_add(old);
    }
    Ok(gone)
}
