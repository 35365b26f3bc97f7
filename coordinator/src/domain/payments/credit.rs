//! Crediting: what was settled goes into the books, with the state that says so, in one transaction.
//!
//! # Invariants
//! - A payment is credited once, and a transfer of a network for one payment.

use shared::money::Money;

use super::{
    exchange::{self, Trade},
    model::{Payment, PaymentEvent, Quote, Target},
    store,
};
use crate::{
    context::OpCtx,
    domain::ledger::{
        self,
        model::{Account, Cause, Posting},
    },
    error::Result,
    store::Tx,
};

/// A movement of money on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// In which transaction.
    pub transaction: String,
    /// Which of its transfers, where a chain was asked.
    pub log_index: Option<i64>,
}

/// Books a settled payment to where its money goes, a rental's escrow or a balance: the state and the posting in one transaction. That money
/// has moved stays true whoever asked meanwhile: any open payment that settlement was asked for is credited. `None` if it has ended, or if
/// another payment was credited for this very transfer.
/// Money in another currency than the quote's goes to the exchange, which gives what was quoted: two transfers of one payment, each in
/// the books of its own currency.
///
/// # Errors
/// The database's.
pub fn credit(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    payment: &Payment,
    quote: &Quote,
    moved: &Transferred,
) -> Result<Option<Payment>> {
    let credited = Payment {
        state: payment.state.next(PaymentEvent::Settle)?,
        tx_hash: Some(moved.transaction.clone()),
        log_index: moved.log_index,
        last_error: None,
        updated_at: ctx.now,
        ..payment.clone()
    };
    if !store::credit(tx, &credited)? {
        if let Some(other) = store::credited_by(tx, &credited)? {
            tracing::error!(payment.id = %payment.id, transaction = moved.transaction, other, "the transfer was credited for another payment");
        }
        return Ok(None);
    }
    let target = match payment.target {
        Target::Rental(rental) => Account::RentalEscrow(rental),
        Target::Balance(user) => Account::UserAvailable(user),
    };
    let way = quote.way_of(payment)?;
    let cause = Cause::Payment(payment.id);
    let from = Account::External(payment.network.clone());
    match way.rate {
        None => {
            let posting = Posting {
                asset: way.asset,
                debit: from,
                credit: target,
                amount: payment.amount,
                cause,
            };
            ledger::post(tx, ctx, &posting)?;
        }
        Some(rate) => {
            let money = |amount, currency| Money { amount, currency };
            let trade = Trade {
                cause,
                rental: payment.target.rental(),
                from,
                paid: money(payment.amount, way.asset),
                to: target,
                given: money(quote.amount, quote.asset),
                rate,
            };
            exchange::post(tx, ctx, &trade)?;
        }
    }
    Ok(Some(credited))
}
