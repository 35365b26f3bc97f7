//! Turning evidence into money: windows are closed while a rental runs, and at its end the rest goes back.
//!
//! # Invariants
//! - Paid in = provider + fee + refund, for each settled rental, to the last unit; its escrow is empty.
//! - A window is posted once (its start is its key in the ledger); windows neither overlap nor leave gaps.
//! - Nothing is billed beyond the moment at which the rental was reported.
//! - Only time of which the evidence is complete is billed; what comes later can still be billed by the next window.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

pub mod api;
pub mod model;
mod store;
#[cfg(test)]
mod tests;

use model::Window;
use shared::{id::RentalId, money::Amount, time::Timestamp};

use super::{
    disputes::{self, model::Parts},
    earnings,
    ledger::{
        self,
        model::{Account, Cause, Posting},
    },
    metering,
    rentals::{
        self,
        model::{Rental, State},
    },
};
use crate::{context::OpCtx, error::Result, store::Tx};

/// A window of a running rental is closed when there is at least so much to bill, milliseconds.
pub const WINDOW_MS_MIN: i64 = 60_000;

/// Bills what can be billed of a rental now; if it is over, gives the rest back. Safe to repeat.
///
/// # Errors
/// The database's; 503 if the rental was written meanwhile.
pub fn settle(tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId) -> Result<Rental> {
    let rental = rentals::find(tx, id)?;
    if rental.settled_at.is_some() || rental.state == State::Reserved {
        return Ok(rental);
    }
    let rental = bill(tx, ctx, rental)?;
    if rental.state == State::Ended {
        refund_rest(tx, ctx, &rental)
    } else {
        Ok(rental)
    }
}

fn bill(tx: &mut dyn Tx, ctx: &OpCtx, rental: Rental) -> Result<Rental> {
    let Some(head) = metering::head(tx, rental.node_id)? else {
        return Ok(rental);
    };
    let reported_at = disputes::billed_until(tx, rental.id)?;
    let Some(span) = model::next_span(&rental, head.received_at.min(ctx.now), reported_at) else {
        return Ok(rental);
    };
    if rental.state != State::Ended && span.end.ms_since(span.start) < WINDOW_MS_MIN {
        return Ok(rental);
    }
    let coverage = metering::working_coverage(tx, rental.node_id, rental.id, &span)?;
    let window = model::close(&rental, span, &coverage)?;
    post(tx, ctx, &rental, &window)?;
    store::insert(tx, rental.id, &window, ctx.now)?;
    let billed = Rental {
        window_end: Some(span.end),
        billed_ms: rental.billed_ms.saturating_add(window.billable_ms),
        charged: rental.charged.plus(window.amount)?,
        fee: rental.fee.plus(window.fee)?,
        ..rental
    };
    rentals::save(tx, &billed)
}

fn post(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental, window: &Window) -> Result<()> {
    let start = window.span.start.as_micros();
    let share = |credit, amount, cause| Posting {
        asset: rental.asset,
        debit: Account::RentalEscrow(rental.id),
        credit,
        amount,
        cause,
    };
    let earned = share(
        Account::ProviderPending(rental.provider),
        window.amount.minus(window.fee)?,
        Cause::WindowProvider(rental.id, start),
    );
    earnings::accrue(tx, ctx, rental.id, rental.provider, &earned)?;
    let fee = share(
        Account::PlatformFees,
        window.fee,
        Cause::WindowFee(rental.id, start),
    );
    ledger::post(tx, ctx, &fee).map(|_| ())
}

/// Makes what a rental earned payable, as far as it can't be disputed any more and isn't disputed; true if anything was. Safe to repeat.
///
/// # Errors
/// The database's; 503 if it was changed meanwhile.
pub fn release(tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId, window_ms: i64) -> Result<bool> {
    if disputes::is_open(tx, id)? {
        return Ok(false);
    }
    earnings::release(tx, ctx, id, ctx.now.plus_ms(window_ms.saturating_neg()))
}

fn refund_rest(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental) -> Result<Rental> {
    let rest = rental.paid.minus(rental.charged)?.minus(rental.refunded)?;
    let posting = Posting {
        asset: rental.asset,
        debit: Account::RentalEscrow(rental.id),
        credit: rentals::money_goes_back_to(tx, rental)?,
        amount: rest,
        cause: Cause::Refund(rental.id, rental.paid),
    };
    ledger::post(tx, ctx, &posting)?;
    let settled = Rental {
        refunded: rental.refunded.plus(rest)?,
        settled_at: Some(ctx.now),
        ..rental.clone()
    };
    let settled = rentals::save(tx, &settled)?;
    rentals::timers::announce_settled(tx, ctx, &settled)?;
    Ok(settled)
}

/// The windows of a rental that the caller may see, oldest first, after a moment.
///
/// # Errors
/// 404.
pub fn windows(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: RentalId,
    after: Timestamp,
    limit: i64,
) -> Result<Vec<Window>> {
    rentals::get(tx, ctx, id)?;
    store::page(tx, id, after, limit)
}

/// Windows that weren't handed over before, oldest first, marked as handed over at `now` in this transaction.
///
/// # Errors
/// The database's.
pub fn take_unrolled(
    tx: &mut dyn Tx,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(RentalId, Window)>> {
    store::take_unrolled(tx, now, limit)
}

/// How a rental's money was split: paid + goodwill = provider + fee + refund + escrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// What was paid.
    pub paid: Amount,
    /// What the provider has of what was charged.
    pub provider: Amount,
    /// What the platform has of it.
    pub fee: Amount,
    /// What the platform gave back out of other fees.
    pub goodwill: Amount,
    /// What went back.
    pub refund: Amount,
    /// What is still in escrow.
    pub escrow: Amount,
}

/// The split of a rental of which `back` was given back after it was charged.
///
/// # Errors
/// Internal if its parts can't be.
pub fn split(rental: &Rental, back: &Parts) -> Result<Split> {
    Ok(Split {
        paid: rental.paid,
        provider: rental.charged.minus(rental.fee)?.minus(back.of_provider)?,
        fee: rental.fee.minus(back.of_fee)?,
        goodwill: back.goodwill,
        refund: rental.refunded.plus(back.total()?)?,
        escrow: rental.paid.minus(rental.charged)?.minus(rental.refunded)?,
    })
}
