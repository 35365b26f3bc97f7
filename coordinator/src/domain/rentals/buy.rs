//! Buying from a balance, in the price's currency or in another one at the rate of the moment: a rental, or more time for it.
//!
//! # Invariants
//! - Reserved, paid and active are one transaction; so are paid and extended.
//! - The same idempotency key buys once, at the rate of that time.
//! - `max_spend` and whatever is kept of a rental's money count in the price's currency; what was exchanged for it is kept beside.

use shared::{
    id::{RentalId, UserId},
    money::{Asset, Money},
};

use super::{
    Desk, changes, find, get_as_consumer,
    model::Rental,
    order::{self, Buyer, RentOrder},
};
use crate::{
    context::{OpCtx, Role},
    domain::{
        ledger::{
            self, halt,
            model::{Account, Cause, Posting},
        },
        payments::{
            exchange::{self, Trade},
            idempotency::{self, IdempotencyKey},
        },
        rates::{Rates, model::Course},
        settings,
    },
    error::{Error, Result},
    store::Tx,
};

/// How somebody pays from their balance.
#[derive(Debug, Clone)]
pub struct FromBalance {
    /// Which request it is.
    pub key: IdempotencyKey,
    /// In which currency, if that was said.
    pub currency: Option<Asset>,
}

/// Rents from the caller's balance: reserve, pay and activate in one transaction.
///
/// # Errors
/// Not signed in as a consumer; 409 without room, funds or a rate; 503 while the books are halted; as [`order::price`].
pub fn rental(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    desk: &Desk,
    order: &RentOrder,
    from: &FromBalance,
) -> Result<Rental> {
    let consumer = ctx.user_with(Role::Consumer)?.id;
    if let Some(id) = idempotency::find(tx, &from.key)? {
        return bought(tx, &id);
    }
    halt::check(tx)?;
    let priced = order::price(
        tx,
        ctx.now,
        &desk.rules,
        order.offer_id,
        &order.resources,
        order.duration_ms,
    )?;
    let asset = priced.offer.terms.asset;
    order::check_spend(order, priced.amount, asset)?;
    let currency = from.currency.unwrap_or(asset);
    let buyer = Buyer {
        rental_id: ctx.mint(),
        payer: None,
        hold_ms: 0,
        rate: priced.rate,
        fee_bps: settings::fee_bps(tx, desk.rules.fee_bps)?,
        asset,
        balance_asset: currency,
    };
    idempotency::remember(tx, ctx, &from.key, &buyer.rental_id.to_string())?;
    let rental = order::reserve(tx, ctx, order, &buyer)?;
    let sale = Sale {
        rental: rental.id,
        price: Money {
            amount: priced.amount,
            currency: asset,
        },
        part: "rent".to_owned(),
    };
    pay(tx, ctx, &desk.rates, (consumer, currency), &sale)?;
    changes::activate(tx, ctx, &desk.rules, rental.id, priced.amount)
}

/// The rental that an idempotency key remembers.
///
/// # Errors
/// Internal if the key remembers something else.
pub fn bought(tx: &mut dyn Tx, id: &str) -> Result<Rental> {
    let rental = id.parse();
    find(
        tx,
        rental.map_err(|_| Error::corrupt("idempotency_keys", id, "resource_id"))?,
    )
}

/// Extends the caller's rental from their balance, unless another currency is named in the one that it was bought with.
///
/// # Errors
/// 404 if it isn't theirs; 409 if it is over, or without funds or a rate; 503 while the books are halted.
pub fn extension(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    desk: &Desk,
    (id, duration_ms): (RentalId, i64),
    from: &FromBalance,
) -> Result<Rental> {
    let consumer = ctx.user_with(Role::Consumer)?.id;
    if idempotency::find(tx, &from.key)?.is_some() {
        return get_as_consumer(tx, ctx, id);
    }
    halt::check(tx)?;
    let rental = order::extendable(tx, ctx, &desk.rules, id, duration_ms)?;
    let amount = order::extension_price(&rental, duration_ms)?;
    idempotency::remember(tx, ctx, &from.key, &id.to_string())?;
    let sale = Sale {
        rental: id,
        price: Money {
            amount,
            currency: rental.asset,
        },
        part: from.key.reference(),
    };
    let currency = from.currency.unwrap_or(rental.balance_asset);
    pay(tx, ctx, &desk.rates, (consumer, currency), &sale)?;
    changes::extend(tx, ctx, &desk.rules, id, duration_ms, amount)
}

/// What is paid from a balance.
#[derive(Debug, Clone)]
pub struct Sale {
    /// For which rental.
    pub rental: RentalId,
    /// How much, in the price's currency.
    pub price: Money,
    /// Tells the purchases of one rental apart.
    pub part: String,
}

/// Moves a price from somebody's balance in a currency into the rental's escrow.
///
/// # Errors
/// 409 `insufficient_funds`, `no_exchange_rate`.
pub fn pay(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rates: &Rates,
    (consumer, currency): (UserId, Asset),
    sale: &Sale,
) -> Result<()> {
    let (priced, amount) = (sale.price.currency, sale.price.amount);
    if amount.is_zero() {
        return Ok(());
    }
    let (from, to) = (
        Account::UserAvailable(consumer),
        Account::RentalEscrow(sale.rental),
    );
    let cause = Cause::BalancePurchase(sale.rental, sale.part.clone());
    match rates.course(priced, currency, ctx.now) {
        None => Err(no_rate(priced, currency)),
        Some(Course::Same) => {
            let posting = Posting {
                asset: priced,
                debit: from,
                credit: to,
                amount,
                cause,
            };
            ledger::post(tx, ctx, &posting).map(drop)
        }
        Some(Course::At(rate)) => {
            let trade = Trade {
                cause,
                rental: Some(sale.rental),
                from,
                paid: Money {
                    amount: rate.convert(amount)?,
                    currency,
                },
                to,
                given: sale.price.clone(),
                rate,
            };
            exchange::post(tx, ctx, &trade)
        }
    }
}

fn no_rate(priced: Asset, paid: Asset) -> Error {
    Error::conflict(
        "no_exchange_rate",
        format!(
            "no rate is known now for paying in {paid} what is priced in {priced}: pay in {priced}, or try again later"
        ),
    )
    .retry_after_s(60)
}
