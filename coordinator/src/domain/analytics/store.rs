//! SQL of figures.

use shared::{
    id::{NodeId, UserId},
    time::Timestamp,
};

use super::model::{ConsumerPoint, MarketPoint, NodePart, ProviderPoint, Range, Step};
use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

/// Adds to a node's hour or day.
pub(super) fn add_node(tx: &mut dyn Tx, step: Step, at: Timestamp, part: &NodePart) -> Result<()> {
    tx.execute(
        "INSERT INTO node_figures (node_id, grain, at, provider, earned, fee, billed_ms, ram_mib_ms, covered_ms, rentable_ram_mib)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0)
         ON CONFLICT (node_id, grain, at) DO UPDATE SET earned = node_figures.earned + excluded.earned,
             fee = node_figures.fee + excluded.fee, billed_ms = node_figures.billed_ms + excluded.billed_ms,
             ram_mib_ms = node_figures.ram_mib_ms + excluded.ram_mib_ms",
        params![
            part.node,
            step.grain(),
            step.floor(at),
            part.provider,
            part.earned,
            part.fee,
            part.billed_ms,
            part.ram_mib_ms,
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
        "INSERT INTO node_figures (node_id, grain, at, provider, earned, fee, billed_ms, ram_mib_ms, covered_ms, rentable_ram_mib)
         VALUES ($1, $2, $3, $4, 0, 0, 0, 0, $5, $6)
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
    (spent, billed_ms): (i64, i64),
) -> Result<()> {
    tx.execute(
        "INSERT INTO consumer_figures (consumer, grain, at, spent, billed_ms) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (consumer, grain, at) DO UPDATE SET spent = consumer_figures.spent + excluded.spent,
             billed_ms = consumer_figures.billed_ms + excluded.billed_ms",
        params![consumer, step.grain(), step.floor(at), spent, billed_ms],
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
        "SELECT at, CAST(SUM(earned) AS BIGINT), CAST(SUM(fee) AS BIGINT), CAST(SUM(billed_ms) AS BIGINT),
                CAST(SUM(ram_mib_ms) AS BIGINT), CAST(SUM(covered_ms) AS BIGINT), CAST(SUM(rentable_ram_mib) AS BIGINT), COUNT(*)
         FROM node_figures WHERE provider = $1 AND grain = $2 AND at >= $3 AND at < $4 GROUP BY at ORDER BY at",
        params![provider, range.step.grain(), range.from, range.to],
    )?;
    rows.iter().map(provider_point).collect()
}

/// Figures of one node of a provider.
pub(super) fn of_node(
    tx: &mut dyn Tx,
    (provider, node): (UserId, NodeId),
    range: &Range,
) -> Result<Vec<ProviderPoint>> {
    let rows = tx.query(
        "SELECT at, earned, fee, billed_ms, ram_mib_ms, covered_ms, rentable_ram_mib, CAST(1 AS BIGINT)
         FROM node_figures WHERE node_id = $1 AND grain = $2 AND at >= $3 AND at < $4 AND provider = $5 ORDER BY at",
        params![node, range.step.grain(), range.from, range.to, provider],
    )?;
    rows.iter().map(provider_point).collect()
}

fn provider_point(row: &crate::store::Row) -> Result<ProviderPoint> {
    Ok(ProviderPoint {
        at: Timestamp::from_micros(row.int(0)?),
        earned: row.int(1)?,
        fee: row.int(2)?,
        billed_ms: row.int(3)?,
        ram_mib_ms: row.int(4)?,
        covered_ms: row.int(5)?,
        rentable_ram_mib: row.int(6)?,
        nodes: row.int(7)?,
    })
}

/// Figures of a consumer.
pub(super) fn of_consumer(
    tx: &mut dyn Tx,
    consumer: UserId,
    range: &Range,
) -> Result<Vec<ConsumerPoint>> {
    let rows = tx.query(
        "SELECT at, spent, billed_ms FROM consumer_figures
         WHERE consumer = $1 AND grain = $2 AND at >= $3 AND at < $4 ORDER BY at",
        params![consumer, range.step.grain(), range.from, range.to],
    )?;
    let point = |row: &crate::store::Row| {
        Ok(ConsumerPoint {
            at: Timestamp::from_micros(row.int(0)?),
            spent: row.int(1)?,
            billed_ms: row.int(2)?,
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
    let [p10, median, p90] = point.prices.map_or([None; 3], |prices| prices.map(Some));
    tx.execute(
        "INSERT INTO market_samples (resource, at, price_p10, price_median, price_p90, available)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (resource, at) DO UPDATE SET price_p10 = excluded.price_p10, price_median = excluded.price_median,
             price_p90 = excluded.price_p90, available = excluded.available",
        params![resource, point.at, p10, median, p90, point.available],
    )?;
    Ok(())
}

/// What the market looked like at the beginning of each step.
pub(super) fn samples(tx: &mut dyn Tx, resource: &str, range: &Range) -> Result<Vec<MarketPoint>> {
    let rows = tx.query(
        "SELECT at, price_p10, price_median, price_p90, available FROM market_samples
         WHERE resource = $1 AND at >= $2 AND at < $3 AND at % CAST($4 AS BIGINT) = 0 ORDER BY at",
        params![resource, range.from, range.to, range.step.us()],
    )?;
    let point = |row: &crate::store::Row| {
        let prices = [row.opt_int(1)?, row.opt_int(2)?, row.opt_int(3)?];
        Ok(MarketPoint {
            at: Timestamp::from_micros(row.int(0)?),
            prices: match prices {
                [Some(p10), Some(median), Some(p90)] => Some([p10, median, p90]),
                _ => None,
            },
            available: row.int(4)?,
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
    let nodes = tx.execute(
        "DELETE FROM node_figures WHERE grain = 'hour' AND at < $1 AND (node_id, at) IN (
             SELECT node_id, at FROM node_figures WHERE grain = 'hour' AND at < $2 ORDER BY at LIMIT $3)",
        params![hours_before, hours_before, limit],
    )?;
    let consumers = tx.execute(
        "DELETE FROM consumer_figures WHERE grain = 'hour' AND at < $1 AND (consumer, at) IN (
             SELECT consumer, at FROM consumer_figures WHERE grain = 'hour' AND at < $2 ORDER BY at LIMIT $3)",
        params![hours_before, hours_before, limit],
    )?;
    // a slice of a day at a time: what is kept of it isn't read again and again for long
    let samples = tx.execute(
        "DELETE FROM market_samples WHERE at >= $1 AND at < $2 AND at % CAST($3 AS BIGINT) <> 0",
        params![
            samples_before.plus_ms(-3 * 86_400_000),
            samples_before,
            Step::Hour.us()
        ],
    )?;
    let old = tx.execute(
        "DELETE FROM market_samples WHERE at < $1 AND at % CAST($2 AS BIGINT) <> 0",
        params![hours_before, Step::Day.us()],
    )?;
    Ok(nodes
        .saturating_add(consumers)
        .saturating_add(samples)
        .saturating_add(old))
}
