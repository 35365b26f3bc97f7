//! Figures over time: what providers earned, consumers spent and the market asked. Read from rows that are added to as things
//! happen, never from the tables that they happen in.
//!
//! # Invariants
//! - Amounts of several currencies are never added: there is a row, and a figure, for each of them.
//! - Each billing window is added once, in the transaction that marks it: the sums are the ledger's, to the unit, over crashes, repeats
//!   and several coordinators. A window belongs to the hour and the day (UTC) in which it ends.
//! - How long a node was there is set, not added, some minutes after an hour is over: doing it twice changes nothing.
//! - People see their own figures. The market's are public, and name nobody.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

pub mod api;
pub mod model;
mod store;
#[cfg(test)]
mod tests;

use shared::{
    id::{NodeId, UserId},
    money::Money,
    time::Timestamp,
};

use self::model::{
    ConsumerPoint, HOUR_US, MarketPoint, NodePart, ProviderPoint, Range, Step, percentiles,
};
use super::{
    metering::{self, model::Interval},
    nodes,
    offers::index::{Prices, Supply},
    rentals, settlement,
};
use crate::{
    context::{OpCtx, Role},
    error::Result,
    store::Tx,
};

/// Windows added in one transaction.
const WINDOWS_PER_TURN: i64 = 100;
/// Nodes looked at in one transaction.
const NODES_PER_TURN: i64 = 100;
/// What covers an hour may still arrive for so long.
const LATE_MS: i64 = 600_000;
/// Hours are kept for so long, then only days.
const HOURS_KEPT_MS: i64 = 90 * 86_400_000;
/// The market's samples are, then only those at the beginning of an hour, and of a day after the hours' time.
const SAMPLES_KEPT_MS: i64 = 7 * 86_400_000;
const FORGET_BATCH: i64 = 1_000;

/// Adds windows that weren't yet; returns how many. None means that all were.
///
/// # Errors
/// The database's; then none was.
pub fn add_windows(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<usize> {
    let windows = settlement::take_unrolled(tx, ctx.now, WINDOWS_PER_TURN)?;
    for (rental, window) in &windows {
        let rental = rentals::find(tx, *rental)?;
        // the window's last moment, so that one that ends at midnight is of the day before
        let at = Timestamp::from_micros(window.span.end.as_micros().saturating_sub(1));
        let ram_mib = rental.resources.ram_bytes >> 20;
        let part = NodePart {
            node: rental.node_id,
            provider: rental.provider,
            asset: rental.asset,
            earned: window.amount.minus(window.fee)?.atomic(),
            fee: window.fee.atomic(),
            billed_ms: window.billable_ms,
            ram_mib_ms: ram_mib.saturating_mul(window.billable_ms),
        };
        for step in [Step::Hour, Step::Day] {
            store::add_node(tx, step, at, &part)?;
            if let Some(consumer) = rental.consumer {
                store::add_consumer(
                    tx,
                    step,
                    at,
                    consumer,
                    (rental.asset, window.amount.atomic()),
                    window.billable_ms,
                )?;
            }
        }
    }
    Ok(windows.len())
}

/// Looks at how long some nodes were there in the oldest hour that is over and wasn't looked at; returns how many nodes, or nothing
/// when no hour is left.
///
/// # Errors
/// The database's.
pub fn add_coverage(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Option<usize>> {
    let (hour, after) = store::lock_position(tx)?;
    if hour.as_micros() == 0 {
        // a new market: it begins with this hour
        store::move_position(tx, Step::Hour.floor(ctx.now), "")?;
        return Ok(None);
    }
    let end = Timestamp::from_micros(hour.as_micros().saturating_add(HOUR_US));
    if ctx.now < end.plus_ms(LATE_MS) {
        return Ok(None);
    }
    let page = nodes::members(tx, &after, NODES_PER_TURN)?;
    for (id, _) in &page {
        let node = nodes::get(tx, *id)?;
        let facts = node.rentable.ram_bytes >> 20;
        for step in [Step::Hour, Step::Day] {
            let start = step.floor(hour);
            let covered_ms = covered_ms(tx, *id, Interval { start, end })?;
            store::set_covered(tx, step, start, (*id, node.owner), (covered_ms, facts))?;
        }
    }
    match page.last() {
        Some((last, _)) => store::move_position(tx, hour, &last.to_string())?,
        None => store::move_position(tx, end, "")?,
    }
    Ok(Some(page.len()))
}

fn covered_ms(tx: &mut dyn Tx, node: NodeId, whole: Interval) -> Result<i64> {
    let stretches = metering::coverage(tx, node, &whole)?;
    let lengths = stretches
        .iter()
        .filter_map(|stretch| stretch.intersect(&whole))
        .map(|part| part.end.ms_since(part.start));
    Ok(lengths.fold(0, i64::saturating_add))
}

/// Writes down what the market looks like in these minutes.
///
/// # Errors
/// The database's.
pub fn sample_market(tx: &mut dyn Tx, now: Timestamp, supply: &Supply) -> Result<()> {
    let at = Step::Sample.floor(now);
    for (resource, available) in [
        ("ram", supply.ram_bytes),
        ("cpu", supply.cpu_millis),
        ("gpu", supply.gpus),
    ] {
        let of = |prices: &Prices| {
            percentiles(match resource {
                "ram" => &prices.ram,
                "cpu" => &prices.cpu,
                _ => &prices.gpu,
            })
        };
        let prices = supply.prices.iter();
        let prices = prices.filter_map(|(asset, prices)| Some((*asset, of(prices)?)));
        let prices = prices.collect();
        store::sample(
            tx,
            resource,
            &MarketPoint {
                at,
                prices,
                available,
            },
        )?;
    }
    Ok(())
}

/// Forgets what is too fine for its age; returns how many rows went.
///
/// # Errors
/// The database's.
pub fn forget(tx: &mut dyn Tx, now: Timestamp) -> Result<u64> {
    store::forget(
        tx,
        now.plus_ms(-HOURS_KEPT_MS),
        now.plus_ms(-SAMPLES_KEPT_MS),
        FORGET_BATCH,
    )
}

/// Figures of the caller's nodes together, or of one of them.
///
/// # Errors
/// 401, 403.
pub fn provider(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    node: Option<NodeId>,
    range: &Range,
) -> Result<Vec<ProviderPoint>> {
    let owner = ctx.user_with(Role::Provider)?.id;
    match node {
        Some(node) => store::of_node(tx, (owner, node), range),
        None => store::of_provider(tx, owner, range),
    }
}

/// What a consumer spends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// Over time.
    pub points: Vec<ConsumerPoint>,
    /// What the rentals that run cost in an hour, by the currency of their prices.
    pub burn_per_hour: Vec<Money>,
    /// How many run.
    pub running: i64,
}

/// The caller's spending.
///
/// # Errors
/// 401.
pub fn consumer(tx: &mut dyn Tx, ctx: &OpCtx, range: &Range) -> Result<Spending> {
    let consumer: UserId = ctx.user()?.id;
    let (burn_per_hour, running) = rentals::burning(tx, consumer)?;
    Ok(Spending {
        points: store::of_consumer(tx, consumer, range)?,
        burn_per_hour,
        running,
    })
}

/// What the market looked like.
///
/// # Errors
/// The database's.
pub fn market(tx: &mut dyn Tx, resource: &str, range: &Range) -> Result<Vec<MarketPoint>> {
    store::samples(tx, resource, range)
}
