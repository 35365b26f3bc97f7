//! What the end of a payment does to what it pays for, in the transaction that ends it.

use crate::{
    context::OpCtx,
    domain::{
        payments::{
            self,
            model::{Payment, PaymentEvent, Purpose, Quote, Target},
        },
        rentals::{Rules, changes, find, model::State},
    },
    error::{Error, Result},
    store::Tx,
};

/// Hands over what was paid, in the transaction that credits it.
pub(super) fn deliver(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    paid: &Payment,
    quote: &Quote,
) -> Result<()> {
    match (&quote.purpose, paid.target) {
        (Purpose::Rent(_), Target::Rental(rental)) => {
            changes::activate(tx, ctx, rules, rental, quote.amount)?;
        }
        (Purpose::Extend(_, slice), Target::Rental(rental)) => {
            changes::extend(tx, ctx, rules, rental, slice.duration_ms, quote.amount)?;
        }
        (_, Target::Balance(user)) => {
            payments::funds::announce_top_up(tx, ctx, user, paid, quote)?;
        }
        (Purpose::TopUp(_), Target::Rental(_)) => {
            return Err(Error::corrupt("payments", &paid.id.to_string(), "user_id"));
        }
    }
    Ok(())
}

/// Ends a payment that nobody was asked to settle, and with it the hold on the room. False if it is too late for that: then
/// only an answer ends it.
pub(super) fn expire(tx: &mut dyn Tx, ctx: &OpCtx, payment: &Payment) -> Result<bool> {
    if payment.state.next(PaymentEvent::Expire).is_err()
        || payments::advance(tx, ctx, payment, PaymentEvent::Expire, None, 0)?.is_none()
    {
        return Ok(false);
    }
    if let Target::Rental(rental) = payment.target {
        let rental = find(tx, rental)?;
        if rental.state == State::Reserved {
            changes::lapse(tx, ctx, &rental, "it wasn't paid in time")?;
        }
    }
    Ok(true)
}
