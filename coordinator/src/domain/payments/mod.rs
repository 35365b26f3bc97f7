//! Quotes and payments: what an order costs, and the way of a payment from its arrival into the books.
//!
//! # Invariants
//! - (network, token, payer, nonce) is taken in the transaction that receives the payment, before anybody else is asked.
//! - A quote is used once; its figures are what is checked, never the client's.
//! - Settled and credited are one transaction.
//!
//! What a payment pays for lives to the right (`rentals`), which composes these steps.

pub mod check;
mod credit;
pub mod exchange;
pub mod extensions;
pub mod funds;
pub mod idempotency;
pub mod identifier;
pub mod model;
pub mod networks;
pub mod payees;
pub mod ports;
pub mod purpose;
pub mod routes;
mod store;
pub mod ways;
pub mod x402_http;

pub use credit::{Transferred, credit};
use model::{Payment, PaymentEvent, PaymentState, Purpose, Quote, Target, retry_delay_ms};
use payees::Payees;
use shared::{
    id::{PaymentId, QuoteId, RentalId},
    image::rules::PinnedImage,
    money::{Amount, Asset},
    time::Timestamp,
    x402::{exact::VerifiedPayment, payment::PresentedPayment},
};
pub use ways::quotes_for_request;

use super::ledger::halt;
use crate::{
    context::OpCtx,
    error::{Error, Result},
    store::{StoreError, Tx},
};

/// What is asked for, and its price.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is sold.
    pub purpose: Purpose,
    /// The image that is quoted, if its registry was asked.
    pub image: Option<PinnedImage>,
    /// Hash of method, path and body.
    pub request_sha256: [u8; 32],
    /// What it costs.
    pub amount: Amount,
    /// In which currency.
    pub asset: Asset,
}

/// Keeps the price of an order for `ttl_ms`.
///
/// # Errors
/// 422 if it costs nothing (x402 can't ask for nothing); 409 `offer_gone` if its currency isn't taken any more; 503 while the books are
/// halted.
pub fn quote(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    payees: &Payees,
    order: &Order,
    ttl_ms: i64,
) -> Result<Quote> {
    halt::check(tx)?;
    if order.amount.is_zero() {
        return Err(match order.purpose {
            Purpose::TopUp(_) => Error::invalid("/amount/amount", "more than zero"),
            Purpose::Rent(_) | Purpose::Extend(..) => Error::invalid(
                "/duration_seconds",
                "this order costs nothing: take more or longer",
            ),
        });
    }
    let asset = order.asset;
    let payee = payees.of(asset).ok_or_else(|| {
        Error::conflict(
            "offer_gone",
            format!("this market takes no {asset} any more: choose an offer in another currency"),
        )
    })?;
    let quote = Quote {
        id: ctx.mint(),
        purpose: order.purpose,
        image: order.image.clone(),
        request_sha256: order.request_sha256,
        amount: order.amount,
        asset: payee.asset,
        network: payee.network,
        token: payee.token,
        pay_to: payee.pay_to,
        others: ways::others(payees, (order.amount, payee), ctx.now)?,
        payment_id: None,
        created_at: ctx.now,
        expires_at: ctx.now.plus_ms(ttl_ms),
    };
    store::insert_quote(tx, &quote)?;
    store::options::insert(tx, quote.id, &quote.others)?;
    Ok(quote)
}

/// A quote that may still be used.
///
/// # Errors
/// 404 if there is none, 409 if it expired or was used.
pub fn open_quote(tx: &mut dyn Tx, ctx: &OpCtx, id: QuoteId) -> Result<Quote> {
    let quote = ways::whole(tx, id)?.ok_or_else(|| Error::not_found("quote"))?;
    if quote.payment_id.is_some() {
        return Err(Error::conflict(
            "quote_used",
            "this quote was paid before: ask for a new one",
        ));
    }
    if quote.expires_at <= ctx.now {
        return Err(Error::conflict(
            "quote_expired",
            "this quote is too old: ask for a new one",
        ));
    }
    Ok(quote)
}

/// A quote, used or not.
///
/// # Errors
/// Internal if it is gone.
pub fn quote_of(tx: &mut dyn Tx, payment: &Payment) -> Result<Quote> {
    ways::whole(tx, payment.quote_id)?
        .ok_or_else(|| Error::corrupt("payments", &payment.id.to_string(), "quote_id"))
}

/// What receiving a payment found.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// It is new.
    New(Payment),
    /// The same signed payment arrived before.
    Before(Payment),
    /// Somebody else's payment took the quote.
    QuoteTaken,
}

/// The payment that a presented one repeats, if there is one.
///
/// # Errors
/// 409 `payment_conflict` if payer and nonce were used for another payload.
pub fn find_presented(tx: &mut dyn Tx, presented: &PresentedPayment) -> Result<Option<Payment>> {
    let Some(identity) = presented.identity() else {
        return Ok(None);
    };
    let found = store::payment_by_nonce(
        tx,
        identity.network.caip2,
        &identity.asset.to_string(),
        &identity.payer.to_string(),
        &nonce_text(&identity.nonce),
    )?;
    match found {
        Some(payment) if payment.payload_sha256 == identity.payload_sha256 => Ok(Some(payment)),
        Some(_) => Err(Error::conflict(
            "payment_conflict",
            "payer and nonce were used for another payment: sign anew",
        )),
        None => Ok(None),
    }
}

/// The payment that a presented one repeats: the same signed payment, or one that the payer gave the same name.
///
/// # Errors
/// As [`find_presented`] and [`identifier::find`].
pub fn find_repeat(
    tx: &mut dyn Tx,
    presented: &PresentedPayment,
    request_sha256: &[u8; 32],
) -> Result<Option<Payment>> {
    if let Some(before) = find_presented(tx, presented)? {
        return Ok(Some(before));
    }
    match identifier::Identifier::of(presented, request_sha256)? {
        Some(name) => identifier::find(tx, presented, &name),
        None => Ok(None),
    }
}

/// Takes the payment's identity and its quote. The caller reserves what is paid for in the same transaction.
///
/// # Errors
/// 409 `payment_conflict` as [`find_presented`].
pub fn receive(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    quote: &Quote,
    target: Target,
    (presented, request_sha256): (&PresentedPayment, &[u8; 32]),
    verified: &VerifiedPayment,
) -> Result<Received> {
    let identity = &verified.identity;
    let way = quote.way(identity.network.caip2, &identity.asset);
    let way =
        way.ok_or_else(|| Error::internal("a payment was checked against no way of its quote"))?;
    let signed = &verified.authorization;
    let seconds = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
    let payment = Payment {
        id: ctx.mint(),
        quote_id: quote.id,
        target,
        network: verified.identity.network.caip2.to_owned(),
        token: verified.identity.asset.to_string(),
        payer: verified.identity.payer.to_string(),
        nonce: nonce_text(&verified.identity.nonce),
        pay_to: signed.to.to_string(),
        amount: way.amount,
        valid_after_s: seconds(signed.valid_after),
        valid_before_s: seconds(signed.valid_before),
        x402_version: presented.version(),
        payload: presented.verbatim.to_string(),
        payload_sha256: verified.identity.payload_sha256,
        state: PaymentState::Received,
        attempts: 0,
        tx_hash: None,
        log_index: None,
        last_error: None,
        // whoever received it drives it; the task takes over if that process dies
        next_try_at: ctx.now.plus_ms(DRIVER_GRACE_MS),
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    if !store::insert_payment(tx, &payment)? {
        return match find_presented(tx, presented)? {
            Some(before) => Ok(Received::Before(before)),
            None => Ok(Received::QuoteTaken),
        };
    }
    if store::claim_quote(tx, quote.id, payment.id)? {
        if let Some(name) = identifier::Identifier::of(presented, request_sha256)? {
            identifier::give(tx, ctx, &name, payment.id)?;
        }
        Ok(Received::New(payment))
    } else {
        // taken since it was read: undo the payment with it, or it would be driven without an order
        Err(StoreError::Busy(format!("quote {} was paid meanwhile", quote.id)).into())
    }
}

/// How long the process that works on a payment is left alone with it.
pub const DRIVER_GRACE_MS: i64 = 75_000;

fn nonce_text(nonce: &[u8; 32]) -> String {
    format!("0x{}", hex::encode(nonce))
}

/// A payment.
///
/// # Errors
/// 404.
pub fn get(tx: &mut dyn Tx, id: PaymentId) -> Result<Payment> {
    store::payment(tx, id)?.ok_or_else(|| Error::not_found("payment"))
}

/// The latest payment for a rental.
///
/// # Errors
/// The database's.
pub fn of_rental(tx: &mut dyn Tx, id: RentalId) -> Result<Option<Payment>> {
    store::payment_of_rental(tx, id)
}

/// Payments whose time to be looked at has come, those after `after` (its time and id) in that order.
///
/// # Errors
/// The database's.
pub fn due(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Payment>> {
    store::due(tx, ctx.now, after, limit)
}

/// Moves a payment on; whoever moved it is left alone with it for `left_alone_ms`. `None` if somebody else moved it first, or began to
/// settle it since: an old answer says nothing about what is being asked now. Read it again.
///
/// # Errors
/// Internal for an event that can't happen now.
pub fn advance(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    payment: &Payment,
    event: PaymentEvent,
    note: Option<&str>,
    left_alone_ms: i64,
) -> Result<Option<Payment>> {
    let state = payment.state.next(event)?;
    let asked = event == PaymentEvent::BeginSettle;
    let attempts = if asked {
        payment.attempts.saturating_add(1)
    } else {
        payment.attempts
    };
    let wait_ms = match event {
        PaymentEvent::Unclear => retry_delay_ms(attempts),
        _ => left_alone_ms,
    };
    let moved = Payment {
        state,
        attempts,
        last_error: note
            .map(str::to_owned)
            .or_else(|| payment.last_error.clone()),
        next_try_at: ctx.now.plus_ms(wait_ms),
        updated_at: ctx.now,
        ..payment.clone()
    };
    Ok(store::advance(tx, &moved, payment)?.then_some(moved))
}

/// Deletes quotes that nobody used.
///
/// # Errors
/// The database's.
pub fn delete_old_quotes(tx: &mut dyn Tx, before: Timestamp) -> Result<u64> {
    store::delete_old_quotes(tx, before)
}
