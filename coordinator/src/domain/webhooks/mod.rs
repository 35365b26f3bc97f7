//! Webhooks: who owns an endpoint is told there of the events that concern them, signed as Standard Webhooks says.
//!
//! # Invariants
//! - An owner's endpoint gets what the owner may see in the stream, nothing else, whatever their role.
//! - Each event becomes one delivery for each endpoint that wants it, in the transaction that moves the position in the stream: once,
//!   over crashes and with several coordinators.
//! - A delivery is sent at least once with the same `webhook-id` and body, until it is taken or given up; order isn't promised.
//! - Secrets are stored sealed and shown once. Several sign at a time; all but the newest end.
//! - Work is found by endpoint, never by looking through deliveries.

pub mod api;
pub mod courier;
pub mod deliveries;
pub mod model;
pub mod signature;
mod store;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use shared::{id::WebhookId, time::Timestamp};

use self::{
    model::{DESCRIPTION_CHARS_MAX, DisabledReason, Patterns, State, Webhook},
    signature::SigningSecret,
};
use crate::{
    context::OpCtx,
    domain::{
        audit::{self, Entry},
        events::{self, Event},
    },
    error::{Error, Result},
    keys::Sealer,
    store::Tx,
};

/// Secrets that may sign at a time.
pub const SECRETS_MAX: usize = 5;

/// A new endpoint as its owner wants it.
#[derive(Debug, Clone)]
pub struct New {
    /// Where to; it was checked that it can be called.
    pub url: String,
    /// The owner's words.
    pub description: String,
    /// Which events.
    pub events: Patterns,
    /// What signs.
    pub secret: SigningSecret,
}

/// Makes an endpoint of the caller's.
///
/// # Errors
/// 401; 409 when they have `per_owner_max`; 422 for a description that is too long.
pub fn create(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    new: &New,
    sealer: &Sealer,
    per_owner_max: u32,
) -> Result<Webhook> {
    let owner = ctx.user()?.id;
    let webhook = Webhook {
        id: ctx.mint(),
        owner,
        url: new.url.clone(),
        description: described(&new.description)?,
        events: new.events.clone(),
        state: State::Active,
        failing_since: None,
        failures: 0,
        version: 1,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    if !store::insert(tx, &webhook, i64::from(per_owner_max))? {
        return Err(Error::conflict(
            "too_many_webhooks",
            format!(
                "you have {per_owner_max} webhooks, the most that are allowed: delete one first"
            ),
        ));
    }
    let sealed = seal(sealer, webhook.id, &new.secret)?;
    store::add_secret(tx, webhook.id, (1, &sealed), ctx.now, ctx.now)?;
    audit::record(
        tx,
        ctx,
        entry("webhook.created", &webhook).after(told(&webhook)),
    )?;
    Ok(webhook)
}

/// The caller's endpoints, after an id.
///
/// # Errors
/// 401.
pub fn list(tx: &mut dyn Tx, ctx: &OpCtx, after: &str, limit: i64) -> Result<Vec<Webhook>> {
    let owner = ctx.user()?.id;
    store::of_owner(tx, owner, after, limit)
}

/// An endpoint of the caller's.
///
/// # Errors
/// 401; 404 for what is absent, deleted or somebody else's.
pub fn get_own(tx: &mut dyn Tx, ctx: &OpCtx, id: WebhookId) -> Result<Webhook> {
    let owner = ctx.user()?.id;
    store::find(tx, id)?
        .filter(|webhook| webhook.owner == owner && webhook.state != State::Deleted)
        .ok_or_else(|| Error::not_found("webhook"))
}

/// What to change; nothing stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Where to; it was checked that it can be called.
    pub url: Option<String>,
    /// The owner's words.
    pub description: Option<String>,
    /// Which events.
    pub events: Option<Patterns>,
    /// Whether anything is sent.
    pub active: Option<bool>,
}

/// Changes an endpoint of the caller's if `judge` lets what it is now be changed. Switched on again, it is sent what still waits.
///
/// # Errors
/// 404; 422 for a description that is too long; what `judge` says.
pub fn change(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: WebhookId,
    change: &Change,
    judge: impl FnOnce(&Webhook) -> Result<()>,
) -> Result<Webhook> {
    let before = get_own(tx, ctx, id)?;
    judge(&before)?;
    let mut after = before.clone();
    if let Some(url) = &change.url {
        after.url.clone_from(url);
    }
    if let Some(description) = &change.description {
        after.description = described(description)?;
    }
    if let Some(events) = &change.events {
        after.events = events.clone();
    }
    match change.active {
        Some(true) => {
            after.state = State::Active;
            (after.failures, after.failing_since) = (0, None);
        }
        Some(false) => after.state = State::Paused,
        None => {}
    }
    after.updated_at = ctx.now;
    store::save(tx, &after)?;
    if change.active == Some(true) {
        store::wake(tx, id, ctx.now, true)?;
    }
    after.version = after.version.saturating_add(1);
    let entry = entry("webhook.changed", &after);
    audit::record(tx, ctx, entry.before(told(&before)).after(told(&after)))?;
    Ok(after)
}

/// Deletes an endpoint of the caller's if `judge` lets what it is now be deleted; what waits for it is never sent.
///
/// # Errors
/// 404; what `judge` says.
pub fn delete(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: WebhookId,
    judge: impl FnOnce(&Webhook) -> Result<()>,
) -> Result<()> {
    let before = get_own(tx, ctx, id)?;
    judge(&before)?;
    let gone = Webhook {
        state: State::Deleted,
        updated_at: ctx.now,
        ..before.clone()
    };
    store::save(tx, &gone)?;
    store::forget_secrets(tx, id)?;
    audit::record(
        tx,
        ctx,
        entry("webhook.deleted", &before).before(told(&before)),
    )
}

/// Gives an endpoint a new secret; the one before it signs too for `old_for_ms` more.
///
/// # Errors
/// 404; 409 when too many secrets still sign.
pub fn rotate(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: WebhookId,
    (sealer, secret): (&Sealer, &SigningSecret),
    old_for_ms: i64,
) -> Result<Timestamp> {
    let webhook = get_own(tx, ctx, id)?;
    let old_until = ctx.now.plus_ms(old_for_ms);
    let live = store::secrets(tx, id, ctx.now)?;
    if live.len() >= SECRETS_MAX && old_for_ms > 0 {
        return Err(Error::conflict(
            "too_many_secrets",
            format!(
                "{SECRETS_MAX} secrets sign already: wait until one ends, or let the old one end at once"
            ),
        ));
    }
    let number = live
        .first()
        .map_or(0, |(number, _)| *number)
        .saturating_add(1);
    // a guard against a rotation at the same moment
    store::save(
        tx,
        &Webhook {
            updated_at: ctx.now,
            ..webhook.clone()
        },
    )?;
    let sealed = seal(sealer, id, secret)?;
    store::add_secret(tx, id, (number, &sealed), ctx.now, old_until)?;
    let ends = json!({ "old_secret_expires_at": old_until.to_string() });
    audit::record(
        tx,
        ctx,
        entry("webhook.secret_rotated", &webhook).after(ends),
    )?;
    Ok(old_until)
}

/// What signs for an endpoint now.
fn live_secrets(
    tx: &mut dyn Tx,
    id: WebhookId,
    now: Timestamp,
    sealer: &Sealer,
) -> Result<Vec<SigningSecret>> {
    let place = id.to_string();
    let open = |(_, sealed): (i64, Vec<u8>)| {
        sealer
            .open(&place, &sealed)
            .map(SigningSecret::from_bytes)
            .map_err(Error::internal)
    };
    store::secrets(tx, id, now)?.into_iter().map(open).collect()
}

/// Switches an endpoint off and tells its owner.
fn disable(tx: &mut dyn Tx, ctx: &OpCtx, webhook: &Webhook, reason: DisabledReason) -> Result<()> {
    let off = Webhook {
        state: State::Disabled(reason),
        updated_at: ctx.now,
        ..webhook.clone()
    };
    store::save(tx, &off)?;
    let payload = json!({ "webhook_id": off.id, "reason": off.state.reason(), "failing_since": off.failing_since });
    let event = Event {
        consumer: Some(off.owner),
        ..Event::new("webhook.disabled", payload)
    };
    events::append(tx, ctx, event)?;
    audit::record(
        tx,
        ctx,
        entry("webhook.disabled", &off)
            .before(told(webhook))
            .after(told(&off)),
    )
}

fn seal(sealer: &Sealer, id: WebhookId, secret: &SigningSecret) -> Result<Vec<u8>> {
    sealer
        .seal(&id.to_string(), secret.bytes())
        .map_err(Error::internal)
}

fn described(text: &str) -> Result<String> {
    let text = text.trim();
    if text.chars().count() > DESCRIPTION_CHARS_MAX || text.contains('\0') {
        return Err(Error::invalid(
            "/description",
            format!("at most {DESCRIPTION_CHARS_MAX} characters of text"),
        ));
    }
    Ok(text.to_owned())
}

fn entry(action: &'static str, webhook: &Webhook) -> Entry<'static> {
    Entry::of(action, webhook.id.to_string())
}

/// What the audit log tells of an endpoint: of its URL only the host, since the rest may be a secret.
fn told(webhook: &Webhook) -> Value {
    let uri: Option<http::Uri> = webhook.url.parse().ok();
    json!({
        "host": uri.as_ref().and_then(http::Uri::host),
        "events": webhook.events.list(),
        "state": webhook.state.name(),
        "reason": webhook.state.reason(),
    })
}
