//! The steps of a payout, each one transaction: its state, its money and what others hear of it move together.
//!
//! # Invariants
//! - A step is written under the version that was read; whoever comes second finds it busy, and nothing of theirs stays.

use serde_json::json;

use super::{
    DAY_MS, day_of,
    model::{Event, Payout, State},
    owner_name, store,
};
use crate::{
    context::OpCtx,
    domain::{
        auth, events,
        ledger::{
            self, halt,
            holds::{self, Owner},
        },
        mail::Postbox,
    },
    error::Result,
    store::{StoreError, Tx},
};

/// Whoever began to send a payout is left alone with it for so long.
const DRIVER_GRACE_MS: i64 = 75_000;

/// Moves a payout by an event and writes it; `change` sets the rest.
pub(super) fn advance(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    payout: &Payout,
    event: Event,
    change: impl FnOnce(&mut Payout),
) -> Result<Payout> {
    let mut moved = Payout {
        state: payout.state.next(event)?,
        updated_at: ctx.now,
        version: payout.version.saturating_add(1),
        ..payout.clone()
    };
    change(&mut moved);
    if store::save(tx, &moved, payout.version)? {
        Ok(moved)
    } else {
        Err(StoreError::Busy(format!("payout {} was changed meanwhile", payout.id)).into())
    }
}

/// It is about to be asked for: what is signed and that it is asked are durable with this.
pub(super) fn begin(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    payout: &Payout,
    signed: Option<(String, i64)>,
) -> Result<Payout> {
    halt::check(tx)?;
    let first = payout.state == State::Requested;
    let moved = advance(tx, ctx, payout, Event::Begin, |moved| {
        // nobody heard how the attempt before ended
        moved.doubtful |= payout.state == State::Sending;
        moved.attempts = payout.attempts.saturating_add(1);
        if let Some((payload, valid_before_s)) = signed {
            moved.payload = Some(payload);
            moved.valid_before_s = valid_before_s;
            moved.signatures = payout.signatures.saturating_add(1);
        }
        moved.next_try_at = ctx.now.plus_ms(DRIVER_GRACE_MS);
    })?;
    if first {
        holds::send(tx, ctx, &moved.hold())?;
        announce(tx, ctx, &moved, "payout.sent")?;
    }
    Ok(moved)
}

/// The money has moved.
pub(super) fn settle(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    payout: &Payout,
    event: Event,
    transaction: Option<&str>,
) -> Result<Payout> {
    let paid = advance(tx, ctx, payout, event, |moved| {
        moved.tx_hash = transaction.map(str::to_owned);
        moved.note = None;
    })?;
    holds::clear(tx, ctx, &paid.hold(), &paid.network)?;
    announce(tx, ctx, &paid, "payout.paid")?;
    Ok(paid)
}

/// It wasn't sent and won't be: the money goes back, and its owner hears why.
pub(super) fn fail(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    payout: &Payout,
    event: Event,
    reason: &str,
) -> Result<Payout> {
    let failed = advance(tx, ctx, payout, event, |moved| {
        moved.note = Some(reason.to_owned());
    })?;
    holds::void(tx, ctx, &failed.hold(), payout.state.is_in_flight())?;
    let day = day_of(failed.created_at);
    let name = owner_name(&failed.owner);
    for owner in [name.as_str(), ""] {
        store::take_from_day(tx, day, failed.asset, owner, failed.amount)?;
    }
    if let Owner::Payer(payer) = &failed.owner {
        // not again at once
        let again_at = ctx.now.plus_ms(DAY_MS);
        ledger::look_at_payer(tx, failed.asset, payer, again_at)?;
    }
    announce(tx, ctx, &failed, "payout.failed")?;
    if let Some(user) = failed.user() {
        let account = auth::account(tx, user)?;
        let what = format!(
            "A payout of {} {} could not be made, and the money is back in your balance: {reason}.",
            failed.amount,
            failed.asset.code()
        );
        auth::account::tell(tx, ctx, postbox, &account, "A payout failed", &what)?;
    }
    Ok(failed)
}

pub(super) fn announce(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    payout: &Payout,
    kind: &'static str,
) -> Result<()> {
    let mut event = events::Event::new(
        kind,
        json!({
            "payout_id": payout.id,
            "amount": payout.amount,
            "currency": payout.asset,
            "to": payout.pay_to,
            "state": payout.state.name(),
            "note": payout.note,
            "transaction": payout.tx_hash,
        }),
    );
    match &payout.owner {
        Owner::Provider(user) => event.provider = Some(*user),
        Owner::Consumer(user) => event.consumer = Some(*user),
        Owner::Payer(_) => {}
    }
    events::append(tx, ctx, event)
}
