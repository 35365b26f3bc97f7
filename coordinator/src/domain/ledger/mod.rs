//! The double-entry ledger: the only writer of balances.
//!
//! # Invariants
//! - Σ of all balances per asset is 0: each transfer takes from one account what it gives to another.
//! - Transfers are append-only (triggers); a mistake is mended by another transfer.
//! - The same cause posts once: posting again is [`Posted::Before`], posting something else for it is an error.
//! - No account but those of the outside world goes below zero: a guarded statement and a CHECK.
//! - Accounts are touched in the order of their keys, so two postings can't wait for each other.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

pub mod check;
pub mod halt;
pub mod history;
pub mod holds;
pub mod model;
mod store;
#[cfg(test)]
mod tests;
pub mod watch;

use model::{Account, Posted, Posting, Purse};
use shared::{
    money::{Amount, Asset},
    time::Timestamp,
};

use crate::{
    context::OpCtx,
    error::{Error, Result},
    store::Tx,
};

/// Moves money. Nothing is moved if the amount is zero.
///
/// # Errors
/// 409 `insufficient_funds` if the debited account has less; internal if the cause was posted with other figures.
pub fn post(tx: &mut dyn Tx, ctx: &OpCtx, posting: &Posting) -> Result<Posted> {
    if posting.amount.is_zero() {
        return Ok(Posted::Now);
    }
    let debit = posting.debit.key(posting.asset);
    let credit = posting.credit.key(posting.asset);
    let asset = posting.asset.code();
    let mut accounts = [(&debit, &posting.debit), (&credit, &posting.credit)];
    accounts.sort_by_key(|(key, _)| *key);
    // an update that changes a row says as well that its account is there, as nearly always both are
    if !move_balances(tx, &debit, &credit, posting.amount)? {
        if store::transfer_of(tx, posting.cause.code(), &posting.cause.reference())?.is_some() {
            return same_as_before(tx, posting, &debit, &credit);
        }
        for (key, account) in accounts {
            store::open_account(tx, key, asset, account.kind(), ctx.now)?;
        }
        if !move_balances(tx, &debit, &credit, posting.amount)? {
            return Err(insufficient(posting));
        }
    }
    let transfer = store::NewTransfer {
        id: ctx.mint(),
        posting,
        debit: &debit,
        credit: &credit,
        now: ctx.now,
    };
    if !store::insert_transfer(tx, &transfer)? {
        // back to where it was: it moved when its cause was posted
        move_balances(tx, &credit, &debit, posting.amount)?;
        return same_as_before(tx, posting, &debit, &credit);
    }
    if let Account::PayerRefunds(payer) = &posting.credit {
        store::owe(tx, asset, payer, ctx.now)?;
    }
    Ok(Posted::Now)
}

/// Takes from one balance and gives to the other, in the order of their keys; nothing, and false, if one isn't there or the first would be
/// overdrawn.
fn move_balances(tx: &mut dyn Tx, from: &str, to: &str, amount: Amount) -> Result<bool> {
    if from < to {
        if !store::debit(tx, from, amount)? {
            return Ok(false);
        }
        let given = store::credit(tx, to, amount)?;
        if !given {
            store::credit(tx, from, amount)?;
        }
        return Ok(given);
    }
    if !store::credit(tx, to, amount)? {
        return Ok(false);
    }
    let taken = store::debit(tx, from, amount)?;
    if !taken {
        store::debit(tx, to, amount)?;
    }
    Ok(taken)
}

/// What an account holds; zero if it was never used.
///
/// # Errors
/// The database's.
pub fn balance(tx: &mut dyn Tx, asset: Asset, account: &Account) -> Result<Amount> {
    let key = account.key(asset);
    let atomic = store::balance(tx, &key)?.unwrap_or(0);
    Amount::from_atomic(atomic).map_err(|_| Error::corrupt("accounts", &key, "balance"))
}

/// What an account that may be below zero stands at, atomic units.
///
/// # Errors
/// The database's.
pub fn standing(tx: &mut dyn Tx, asset: Asset, account: &Account) -> Result<i64> {
    Ok(store::balance(tx, &account.key(asset))?.unwrap_or(0))
}

/// Wallets without an account that something was credited to and that are to be looked at now, longest ago first.
///
/// # Errors
/// The database's.
pub fn owed(tx: &mut dyn Tx, now: Timestamp, limit: i64) -> Result<Vec<(Asset, Purse)>> {
    store::owed(tx, now, limit)
}

/// Looks at a wallet at a moment, and not before.
///
/// # Errors
/// The database's.
pub fn look_at_payer(tx: &mut dyn Tx, asset: Asset, payer: &Purse, at: Timestamp) -> Result<()> {
    store::look_at_payer(tx, asset.code(), payer, at)
}

/// Looks at a wallet again when something is credited to it.
///
/// # Errors
/// The database's.
pub fn forget_payer(tx: &mut dyn Tx, asset: Asset, payer: &Purse) -> Result<()> {
    store::forget_payer(tx, asset.code(), payer)
}

fn same_as_before(tx: &mut dyn Tx, posting: &Posting, debit: &str, credit: &str) -> Result<Posted> {
    let (code, reference) = (posting.cause.code(), posting.cause.reference());
    let wanted = store::StoredTransfer {
        debit: debit.to_owned(),
        credit: credit.to_owned(),
        amount: posting.amount.atomic(),
    };
    if store::transfer_of(tx, code, &reference)? == Some(wanted) {
        Ok(Posted::Before)
    } else {
        Err(Error::internal(format!(
            "ledger: {code} {reference} was posted with other figures"
        )))
    }
}

fn insufficient(posting: &Posting) -> Error {
    Error::conflict(
        "insufficient_funds",
        format!(
            "the balance doesn't cover {} {}: top it up, rent less or for a shorter time",
            posting.amount,
            posting.asset.code()
        ),
    )
}
