//! The steps of a rental's life, each one transaction's work: activate, extend, stop, finish, lapse.

use shared::{id::RentalId, money::Amount};

use super::{
    Rules, alerts, announce, find,
    model::{EndReason, Happening, Rental, State},
    save,
};
use crate::{
    context::OpCtx,
    domain::nodes,
    error::{Error, Result},
    store::Tx,
};

/// A reserved rental was paid: its node may run it.
///
/// # Errors
/// Internal if it isn't reserved.
pub fn activate(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    id: RentalId,
    paid: Amount,
) -> Result<Rental> {
    let rental = find(tx, id)?;
    let first_lease_ms = rules.horizon_ms.min(rental.duration_ms);
    let active = Rental {
        state: rental.state.next(Happening::Pay)?,
        paid: rental.paid.plus(paid)?,
        paid_at: Some(ctx.now),
        lease_until: ctx.now.plus_ms(first_lease_ms),
        ..rental
    };
    let active = save(tx, &active)?;
    nodes::bump_generation(tx, active.node_id)?;
    alerts::begin(tx, ctx, &active)?;
    announce(tx, ctx, &active, "rental.paid")?;
    Ok(active)
}

/// More time was paid. Money for a rental that ended meanwhile stays in its escrow and goes back at settlement, which is due again.
///
/// # Errors
/// The database's.
pub fn extend(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    id: RentalId,
    duration_ms: i64,
    paid: Amount,
) -> Result<Rental> {
    let rental = find(tx, id)?;
    let longer = Rental {
        duration_ms: rental.duration_ms.saturating_add(duration_ms),
        paid: rental.paid.plus(paid)?,
        settled_at: None,
        ..rental
    };
    let lease =
        super::deadlines::extended_lease(&longer, ctx.now, rules.horizon_ms, rules.lease_step_ms);
    let longer = Rental {
        lease_until: lease.unwrap_or(longer.lease_until),
        ..longer
    };
    let longer = save(tx, &longer)?;
    alerts::extended(tx, ctx, &longer)?;
    announce(tx, ctx, &longer, "rental.extended")?;
    Ok(longer)
}

/// Wants a rental stopped. Stopping what is being stopped or over changes nothing.
///
/// # Errors
/// 409 while it is being paid.
pub fn stop(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental, reason: EndReason) -> Result<Rental> {
    match rental.state {
        State::Stopping | State::Ended => return Ok(rental.clone()),
        State::Reserved => {
            return Err(Error::conflict(
                "payment_in_progress",
                "it is being paid: wait for the payment to end",
            ));
        }
        State::Active => {}
    }
    let stopping = Rental {
        state: rental.state.next(Happening::Stop)?,
        stop_reason: Some(reason),
        detail: format!("being stopped: {}", reason.name()),
        ..rental.clone()
    };
    let stopping = save(tx, &stopping)?;
    nodes::bump_generation(tx, stopping.node_id)?;
    announce(tx, ctx, &stopping, "rental.stopping")?;
    Ok(stopping)
}

/// Something that a rental consists of began not to work, or works again: its owner is told, and the time between isn't billed.
///
/// # Errors
/// 503 if it was written meanwhile.
pub fn tell_fault(tx: &mut dyn Tx, ctx: &OpCtx, rental: Rental, begun: bool) -> Result<Rental> {
    if rental.state != State::Active {
        return Ok(rental);
    }
    let (detail, kind) = if begun {
        (
            "a GPU of it doesn't work: the time until it does isn't billed",
            "rental.degraded",
        )
    } else {
        ("", "rental.recovered")
    };
    let told = Rental {
        detail: detail.to_owned(),
        ..rental
    };
    let told = save(tx, &told)?;
    announce(tx, ctx, &told, kind)?;
    Ok(told)
}

/// A rental is over: its capacity is free again. Its money is split by `settlement`.
///
/// # Errors
/// Internal if it isn't live.
pub fn finish(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: &Rental,
    reason: EndReason,
    detail: &str,
) -> Result<Rental> {
    let ended = Rental {
        state: rental.state.next(Happening::Finish)?,
        end_reason: Some(reason),
        detail: detail.to_owned(),
        ended_at: Some(ctx.now),
        ..rental.clone()
    };
    release(tx, ctx, &ended)
}

/// A reservation wasn't paid.
///
/// # Errors
/// Internal if it isn't reserved.
pub fn lapse(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental, why: &str) -> Result<Rental> {
    let ended = Rental {
        state: rental.state.next(Happening::Lapse)?,
        end_reason: Some(EndReason::Expired),
        detail: why.to_owned(),
        ended_at: Some(ctx.now),
        // nothing was paid, so there is nothing to split
        settled_at: Some(ctx.now),
        ..rental.clone()
    };
    release(tx, ctx, &ended)
}

fn release(tx: &mut dyn Tx, ctx: &OpCtx, ended: &Rental) -> Result<Rental> {
    let ended = save(tx, ended)?;
    alerts::end(tx, ended.id)?;
    nodes::give(tx, ended.node_id, ended.id, ended.resources)?;
    nodes::bump_generation(tx, ended.node_id)?;
    nodes::drained(tx, ctx, ended.node_id)?;
    announce(tx, ctx, &ended, "rental.ended")?;
    Ok(ended)
}
