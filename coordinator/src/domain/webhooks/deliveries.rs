//! Deliveries: made from the stream, by a test or by hand; looked at; forgotten after a while.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use shared::{
    id::{DeliveryId, EventId, UserId, WebhookId},
    time::Timestamp,
};

use super::{
    get_own,
    model::{Delivery, DeliveryState, State, Webhook},
    store,
};
use crate::{
    context::OpCtx,
    domain::events::{self, StoredEvent},
    error::{Error, Result},
    store::Tx,
};

/// Events handed out in one transaction.
const EVENTS_PER_TURN: i64 = 100;
/// Rows forgotten in one transaction.
pub const FORGET_BATCH: i64 = 500;

/// What handing out did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handed {
    /// Events looked at.
    pub events: usize,
    /// Deliveries made of them.
    pub deliveries: u64,
}

/// Whether the stream goes on after our position.
///
/// # Errors
/// The database's.
pub fn anything_new(tx: &mut dyn Tx) -> Result<bool> {
    let seq = store::position(tx)?;
    Ok(!events::page(tx, seq, 1)?.is_empty())
}

/// Hands the next events to the endpoints that want them, and moves the position past them.
///
/// # Errors
/// The database's.
pub fn hand_out(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Handed> {
    let seq = store::lock_position(tx)?;
    let page = events::page(tx, seq, EVENTS_PER_TURN)?;
    let Some(last) = page.last() else {
        return Ok(Handed::default());
    };
    let mut handed = Handed {
        events: page.len(),
        deliveries: 0,
    };
    let mut endpoints: BTreeMap<UserId, Vec<Webhook>> = BTreeMap::new();
    let mut woken: BTreeSet<WebhookId> = BTreeSet::new();
    for event in &page {
        let concerned: BTreeSet<UserId> = [event.consumer, event.provider]
            .into_iter()
            .flatten()
            .collect();
        for owner in concerned {
            if let std::collections::btree_map::Entry::Vacant(vacant) = endpoints.entry(owner) {
                vacant.insert(store::active_of(tx, owner)?);
            }
            for webhook in endpoints[&owner]
                .iter()
                .filter(|webhook| webhook.events.want(&event.kind))
            {
                let delivery = delivery(ctx, webhook.id, event.id, &event.kind, body(event)?);
                if store::deliveries::insert(tx, &delivery)? {
                    handed.deliveries += 1;
                    woken.insert(webhook.id);
                }
            }
        }
    }
    for webhook in woken {
        store::wake(tx, webhook, ctx.now, false)?;
    }
    store::move_position(tx, last.seq)?;
    Ok(handed)
}

/// The body of a delivery: `data` is what the stream sends.
fn body(event: &StoredEvent) -> Result<String> {
    let body = json!({ "type": event.kind, "timestamp": event.at, "data": event });
    serde_json::to_string(&body).map_err(Error::internal)
}

fn delivery(ctx: &OpCtx, webhook: WebhookId, event: EventId, kind: &str, body: String) -> Delivery {
    Delivery {
        id: ctx.mint(),
        webhook,
        event,
        kind: kind.to_owned(),
        body,
        state: DeliveryState::Pending,
        attempts: 0,
        next_try_at: ctx.now,
        last: None,
        created_at: ctx.now,
    }
}

/// Sends a `webhook.test` to an endpoint of the caller's.
///
/// # Errors
/// 404; 409 when nothing is sent there now.
pub fn test(tx: &mut dyn Tx, ctx: &OpCtx, id: WebhookId) -> Result<Delivery> {
    let webhook = active_own(tx, ctx, id)?;
    let event: EventId = ctx.mint();
    let kind = "webhook.test";
    let data = json!({ "id": event, "kind": kind, "at": ctx.now, "payload": { "webhook_id": webhook.id } });
    let body = json!({ "type": kind, "timestamp": ctx.now, "data": data }).to_string();
    let delivery = delivery(ctx, webhook.id, event, kind, body);
    store::deliveries::insert(tx, &delivery)?;
    store::wake(tx, webhook.id, ctx.now, true)?;
    Ok(delivery)
}

/// Sends a delivery of an endpoint of the caller's again, under the same `webhook-id`.
///
/// # Errors
/// 404; 409 when nothing is sent there now.
pub fn replay(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: WebhookId,
    delivery: DeliveryId,
) -> Result<Delivery> {
    let webhook = active_own(tx, ctx, id)?;
    let found = store::deliveries::find(tx, webhook.id, delivery)?;
    let found = found.ok_or_else(|| Error::not_found("delivery"))?;
    store::deliveries::replay(tx, found.id, ctx.now)?;
    store::wake(tx, webhook.id, ctx.now, true)?;
    Ok(Delivery {
        state: DeliveryState::Pending,
        attempts: 0,
        next_try_at: ctx.now,
        ..found
    })
}

fn active_own(tx: &mut dyn Tx, ctx: &OpCtx, id: WebhookId) -> Result<Webhook> {
    let webhook = get_own(tx, ctx, id)?;
    if webhook.state != State::Active {
        return Err(Error::conflict(
            "webhook_not_active",
            "nothing is sent to this webhook now: PATCH it with {\"state\": \"active\"} first",
        ));
    }
    Ok(webhook)
}

/// Deliveries of an endpoint of the caller's, the newest first, before an id.
///
/// # Errors
/// 404.
pub fn list(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: WebhookId,
    before: Option<DeliveryId>,
    limit: i64,
) -> Result<Vec<Delivery>> {
    let webhook = get_own(tx, ctx, id)?;
    // after every id in text form, in whatever collation: they are hexadecimal
    let before = before.map_or_else(|| "dlv_g".to_owned(), |id| id.to_string());
    store::deliveries::page(tx, webhook.id, &before, limit)
}

/// Up to which place of the stream events were handed to endpoints.
///
/// # Errors
/// The database's.
pub fn seen(tx: &mut dyn Tx) -> Result<i64> {
    store::position(tx)
}

/// Whether there is something to forget that was made before a moment.
///
/// # Errors
/// The database's.
pub fn anything_old(tx: &mut dyn Tx, before: Timestamp) -> Result<bool> {
    store::anything_old(tx, before)
}

/// Forgets some of the deliveries made before a moment, and deleted endpoints that have none left; returns how many rows went.
///
/// # Errors
/// The database's.
pub fn forget(tx: &mut dyn Tx, before: Timestamp) -> Result<u64> {
    let deliveries = store::deliveries::forget(tx, before, FORGET_BATCH)?;
    let endpoints = store::forget_deleted(tx, before, FORGET_BATCH)?;
    Ok(deliveries.saturating_add(endpoints))
}
