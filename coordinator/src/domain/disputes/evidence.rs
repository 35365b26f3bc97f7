//! How things stood when a rental was reported: a bounded picture of what the market knows, kept with the dispute and never renewed.
//!
//! # Invariants
//! - Nothing secret: neither the rental's environment nor who its parties are beyond their ids.
//! - Bounded: of windows, coverage and receipts the newest are kept, with how many that are.

use serde_json::{Value, json};

use super::store;
use crate::{
    context::OpCtx,
    domain::{
        metering::{self, model::Interval},
        nodes, offers,
        rentals::model::{EndReason, Rental},
    },
    error::Result,
    store::Tx,
};

/// Most billing windows that are kept.
const WINDOWS_MAX: i64 = 100;
/// Most stretches of coverage that are kept.
const COVERAGE_MAX: usize = 200;
/// So far back coverage is looked at.
const COVERAGE_MS: i64 = 24 * 3_600_000;
/// Most receipts that are named.
const RECEIPTS_MAX: i64 = 20;

/// What is known of a rental, its node and its bill now.
///
/// # Errors
/// The database's.
pub(super) fn gather(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental) -> Result<Value> {
    Ok(json!({
        "at": ctx.now,
        "rental": of_rental(rental),
        "offer": of_offer(tx, rental)?,
        "node": of_node(tx, rental)?,
        "windows": store::windows(tx, rental.id, WINDOWS_MAX)?,
        "coverage": coverage(tx, ctx, rental)?,
        "receipts": receipts(tx, rental)?,
    }))
}

fn of_rental(rental: &Rental) -> Value {
    json!({
        "state": rental.client_state(),
        "end_reason": rental.end_reason.map(EndReason::name),
        "detail": rental.detail,
        "phase": rental.phase,
        "image": rental.spec.image(),
        "image_digest": rental.image_digest,
        "resources": rental.resources,
        "rate_micro_per_hour": rental.rate.micro_per_hour(),
        "fee_bps": rental.fee_bps,
        "currency": rental.asset,
        "duration_ms": rental.duration_ms,
        "paid": rental.paid,
        "billed_ms": rental.billed_ms,
        "charged": rental.charged,
        "fee": rental.fee,
        "refunded": rental.refunded,
        "created_at": rental.created_at,
        "paid_at": rental.paid_at,
        "started_at": rental.started_at,
        "finished_at": rental.finished_at,
        "lease_until": rental.lease_until,
        "ended_at": rental.ended_at,
        "settled_at": rental.settled_at,
    })
}

fn of_offer(tx: &mut dyn Tx, rental: &Rental) -> Result<Value> {
    let offer = offers::get_any(tx, rental.offer_id)?;
    Ok(json!({
        "id": offer.id,
        "state": offer.state,
        "prices": offer.terms.prices,
        "region": offer.terms.region,
        "max_ram_bytes": offer.terms.max_ram_bytes,
        "max_cpu_millis": offer.terms.max_cpu_millis,
        "updated_at": offer.updated_at,
    }))
}

fn of_node(tx: &mut dyn Tx, rental: &Rental) -> Result<Value> {
    let node = nodes::get(tx, rental.node_id)?;
    let head = metering::head(tx, node.id)?;
    Ok(json!({
        "id": node.id,
        "availability": node.availability,
        "availability_since": node.availability_at,
        "schedulability": node.schedulability,
        "lifecycle": node.lifecycle,
        "agent_version": node.agent_version,
        "up_ms": head.as_ref().map(|head| head.boot_ms),
        "last_beat_at": head.as_ref().map(|head| head.received_at),
        "journal_seq": head.as_ref().map(|head| head.seq),
        "journal_hash": head.as_ref().map(|head| head.hash),
    }))
}

fn coverage(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental) -> Result<Value> {
    let begin = rental.started_at.unwrap_or(rental.created_at);
    let span = Interval {
        start: begin.max(ctx.now.plus_ms(-COVERAGE_MS)),
        end: ctx.now,
    };
    let parts = metering::coverage(tx, rental.node_id, &span)?;
    let of_all = parts.len();
    let newest = parts.iter().rev().take(COVERAGE_MAX);
    let shown: Vec<Value> = newest
        .map(|part| json!({ "start": part.start, "end": part.end }))
        .collect();
    Ok(json!({ "from": span.start, "stretches": of_all, "newest": shown }))
}

fn receipts(tx: &mut dyn Tx, rental: &Rental) -> Result<Value> {
    let newest = metering::newest_receipts(tx, rental.node_id, rental.id, RECEIPTS_MAX)?;
    let shown = newest
        .into_iter()
        .map(|(seq, hash, at)| json!({ "seq": seq, "hash": hash, "received_at": at }));
    Ok(Value::Array(shown.collect()))
}
