//! What rentals earned their providers, until it becomes payable: each rental's part of a provider's pending account.
//!
//! # Invariants
//! - Σ of a provider's rows = their account `pending`, per asset ([`check`]).
//! - Nothing becomes payable before it is as old as the dispute window; then all that is old enough, in one transfer per rental and pass.
//! - One row per rental, however many windows it has: what came since the last release waits apart (`fresh`), and its age is that of
//!   its youngest part. So a running rental's earnings wait one to two windows, and an ended one's exactly one.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

mod store;
#[cfg(test)]
mod tests;

use shared::{
    id::{RentalId, UserId},
    money::{Amount, Asset},
    time::Timestamp,
};

use super::ledger::{
    self,
    check::Finding,
    model::{Account, Cause, Posted, Posting},
};
use crate::{
    context::OpCtx,
    error::{Error, Result},
    store::{StoreError, Tx},
};

/// What a rental earned and that isn't payable yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earned {
    /// By which rental.
    pub rental: RentalId,
    /// Whose.
    pub provider: UserId,
    /// In which currency.
    pub asset: Asset,
    /// What becomes payable next.
    pub ripening: Amount,
    /// When the youngest part of that was earned.
    pub ripening_at: Timestamp,
    /// What was earned since.
    pub fresh: Amount,
    /// When the youngest part of that was earned.
    pub fresh_at: Timestamp,
    /// What became payable so far.
    pub released: Amount,
    /// Grows with each change that isn't an addition.
    pub version: i64,
}

impl Earned {
    /// All that isn't payable yet.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn pending(&self) -> Result<Amount> {
        Ok(self.ripening.plus(self.fresh)?)
    }
}

/// Posts what `rental` earned its provider: `posting` credits their pending account. Posting it again adds nothing.
///
/// # Errors
/// As [`ledger::post`].
pub fn accrue(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: RentalId,
    provider: UserId,
    posting: &Posting,
) -> Result<()> {
    if posting.amount.is_zero() || ledger::post(tx, ctx, posting)? == Posted::Before {
        return Ok(());
    }
    store::add(tx, rental, provider, posting.asset, posting.amount, ctx.now)
}

/// Rentals of which something was earned until `until` and isn't payable yet, after a place in that order.
///
/// # Errors
/// The database's.
pub fn ripe(
    tx: &mut dyn Tx,
    until: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Earned>> {
    store::ripe(tx, until, after, limit)
}

/// What a rental earned, if anything.
///
/// # Errors
/// The database's.
pub fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Option<Earned>> {
    store::of_rental(tx, rental)
}

/// Makes payable what was earned until `until`; false if there is nothing.
///
/// # Errors
/// The database's; 503 if it was changed meanwhile.
pub fn release(tx: &mut dyn Tx, ctx: &OpCtx, rental: RentalId, until: Timestamp) -> Result<bool> {
    let Some(old) = store::of_rental(tx, rental)? else {
        return Ok(false);
    };
    if old.ripening.is_zero() || old.ripening_at > until {
        return Ok(false);
    }
    let (amount, ripening, fresh) = if old.fresh_at <= until {
        (old.pending()?, Amount::ZERO, Amount::ZERO)
    } else {
        (old.ripening, old.fresh, Amount::ZERO)
    };
    let posting = Posting {
        asset: old.asset,
        debit: Account::ProviderPending(old.provider),
        credit: Account::ProviderAvailable(old.provider),
        amount,
        cause: Cause::EarningsReleased(rental, old.released),
    };
    let new = Earned {
        ripening,
        ripening_at: old.fresh_at.max(old.ripening_at),
        fresh,
        released: old.released.plus(amount)?,
        ..old.clone()
    };
    save(tx, &old, &new)?;
    ledger::post(tx, ctx, &posting)?;
    Ok(true)
}

/// Takes back what a rental earned and isn't payable yet, the youngest first: `credit` gets it, by `cause`.
///
/// # Errors
/// 409 `insufficient_funds` if less than that isn't payable yet; 503 if it was changed meanwhile.
pub fn take_back(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: RentalId,
    amount: Amount,
    credit: Account,
    cause: Cause,
) -> Result<()> {
    let old = store::of_rental(tx, rental)?
        .filter(|old| old.pending().is_ok_and(|pending| pending >= amount))
        .ok_or_else(|| {
            Error::conflict(
                "insufficient_funds",
                "the provider's part of this rental is payable already, or less than that: it can't be taken back",
            )
        })?;
    let of_fresh = old.fresh.min(amount);
    let new = Earned {
        fresh: old.fresh.minus(of_fresh)?,
        ripening: old.ripening.minus(amount.minus(of_fresh)?)?,
        ..old.clone()
    };
    save(tx, &old, &new)?;
    let posting = Posting {
        asset: old.asset,
        debit: Account::ProviderPending(old.provider),
        credit,
        amount,
        cause,
    };
    ledger::post(tx, ctx, &posting).map(|_| ())
}

fn save(tx: &mut dyn Tx, old: &Earned, new: &Earned) -> Result<()> {
    if store::save(tx, old, new)? {
        Ok(())
    } else {
        Err(StoreError::Busy(format!("earnings of {} changed meanwhile", old.rental)).into())
    }
}

/// E1.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<Finding> {
    let broken = store::mismatches(tx)?;
    Ok(Finding::new(
        "E1",
        "a provider's pending account holds what their rentals earned and isn't payable yet",
        broken,
    ))
}
