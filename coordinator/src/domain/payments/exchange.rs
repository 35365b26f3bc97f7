//! Exchanges: what was paid in one currency for a price in another, at a rate that is kept.
//!
//! # Invariants
//! - An exchange is two transfers under one reference, each in the books of its own currency, and a row that names the rate: all of them
//!   in one transaction, and none of them is ever changed.
//! - What was paid is the price at that rate, rounded up.

use shared::{
    id::RentalId,
    money::{Asset, Money},
    time::Timestamp,
};

use super::store::exchanges as store;
use crate::{
    context::OpCtx,
    domain::{
        ledger::{
            self,
            model::{Account, Cause, Posted, Posting},
        },
        rates::model::FixedRate,
    },
    error::Result,
    store::Tx,
};

/// What was exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The reference of both transfers.
    pub reference: String,
    /// The code of the one that brought the money.
    pub code: String,
    /// What was bought; absent if a balance was filled.
    pub rental: Option<RentalId>,
    /// What was paid.
    pub paid: Money,
    /// What it was good for: the price.
    pub given: Money,
    /// At which rate.
    pub rate: FixedRate,
    /// When.
    pub at: Timestamp,
}

/// An exchange that is to be done.
#[derive(Debug, Clone)]
pub struct Trade {
    /// Why; the second transfer is [`Cause::Exchange`] of its reference.
    pub cause: Cause,
    /// What is bought, if it is a rental or time for it.
    pub rental: Option<RentalId>,
    /// Whose money.
    pub from: Account,
    /// How much of it.
    pub paid: Money,
    /// Where the price goes.
    pub to: Account,
    /// The price.
    pub given: Money,
    /// The rate that makes one of the other.
    pub rate: FixedRate,
}

/// Does it: takes what is paid, gives the price, and keeps the rate.
///
/// # Errors
/// 409 `insufficient_funds`; internal if the cause was posted with other figures.
pub fn post(tx: &mut dyn Tx, ctx: &OpCtx, trade: &Trade) -> Result<()> {
    let reference = trade.cause.reference();
    let came = Posting {
        asset: trade.paid.currency,
        debit: trade.from.clone(),
        credit: Account::exchange(),
        amount: trade.paid.amount,
        cause: trade.cause.clone(),
    };
    let given = Posting {
        asset: trade.given.currency,
        debit: Account::exchange(),
        credit: trade.to.clone(),
        amount: trade.given.amount,
        cause: Cause::Exchange(reference.clone()),
    };
    let mut halves = [came, given];
    // the accounts of both books in one order, whichever way is exchanged: two of them can't wait for each other
    halves.sort_by_key(|half| half.asset);
    let mut is_new = false;
    for half in &halves {
        is_new |= ledger::post(tx, ctx, half)? == Posted::Now;
    }
    if is_new {
        let done = Exchange {
            reference,
            code: trade.cause.code().to_owned(),
            rental: trade.rental,
            paid: trade.paid.clone(),
            given: trade.given.clone(),
            rate: trade.rate.clone(),
            at: ctx.now,
        };
        store::insert(tx, &done)?;
    }
    Ok(())
}

/// What was exchanged for a rental up to a moment, oldest first.
///
/// # Errors
/// The database's.
pub fn of_rental(
    tx: &mut dyn Tx,
    rental: RentalId,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<Exchange>> {
    store::of_rental(tx, rental, until, limit)
}

/// The sums of what was exchanged for a rental up to a moment, by currency: how often, what was paid, what it was good for.
///
/// # Errors
/// The database's.
pub fn sums_of_rental(
    tx: &mut dyn Tx,
    rental: RentalId,
    until: Timestamp,
) -> Result<Vec<(Asset, i64, i64, i64)>> {
    store::sums_of_rental(tx, rental, until)
}

/// The exchanges of these references; those that were none are left out.
///
/// # Errors
/// The database's.
pub fn of_references(tx: &mut dyn Tx, references: &[&str]) -> Result<Vec<Exchange>> {
    store::of_references(tx, references)
}
