//! The past of accounts: what they held at a moment, and what moved since.
//!
//! # Invariants
//! - What was told of an account as final ([`close`]) stays true: the database takes no transfer of it from before that moment any more.

use shared::{
    money::{Amount, Asset},
    time::Timestamp,
};

use super::{model::Account, store::history as store};
use crate::{
    error::{Error, Result},
    store::Tx,
};

/// A transfer as one of its accounts sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which transfer.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Why: the cause's code.
    pub code: String,
    /// What it refers to.
    pub reference: String,
    /// How much.
    pub amount: Amount,
    /// Whether the account received it.
    pub received: bool,
}

/// A place among entries: when, which transfer, and on which side of it.
pub type Place = (Timestamp, String, bool);

impl Entry {
    /// Its place.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.at, self.id.clone(), self.received)
    }
}

/// In which currencies there are books.
///
/// # Errors
/// The database's.
pub fn assets(tx: &mut dyn Tx) -> Result<Vec<Asset>> {
    store::assets(tx)
}

/// What an account held before a moment; nothing if it was never opened.
///
/// # Errors
/// The database's; internal for the outside world, which may be below zero.
pub fn balance_before(
    tx: &mut dyn Tx,
    asset: Asset,
    account: &Account,
    at: Timestamp,
) -> Result<Option<Amount>> {
    let key = account.key(asset);
    if super::store::balance(tx, &key)?.is_none() {
        return Ok(None);
    }
    let (since, balance) = store::closing_before(tx, &key, at)?;
    let (received, spent) = store::turnover(tx, &key, since, at)?;
    let held = balance.saturating_add(received).saturating_sub(spent);
    let held =
        Amount::from_atomic(held).map_err(|_| Error::corrupt("accounts", &key, "balance"))?;
    Ok(Some(held))
}

/// What an account received and spent in a stretch of time.
///
/// # Errors
/// The database's.
pub fn turnover(
    tx: &mut dyn Tx,
    asset: Asset,
    account: &Account,
    (from, until): (Timestamp, Timestamp),
) -> Result<(Amount, Amount)> {
    let (received, spent) = store::turnover(tx, &account.key(asset), from, until)?;
    Ok((Amount::from_atomic(received)?, Amount::from_atomic(spent)?))
}

/// Transfers of an account in a stretch of time after a place, in order.
///
/// # Errors
/// The database's.
pub fn entries(
    tx: &mut dyn Tx,
    asset: Asset,
    account: &Account,
    until: Timestamp,
    after: &Place,
    limit: i64,
) -> Result<Vec<Entry>> {
    let key = account.key(asset);
    let mut all = store::entries(tx, &key, until, after, limit)?;
    all.sort_by_key(Entry::place);
    all.truncate(usize::try_from(limit).unwrap_or(0));
    Ok(all)
}

/// Whether an account was closed up to a moment.
///
/// # Errors
/// The database's.
pub fn is_closed(
    tx: &mut dyn Tx,
    asset: Asset,
    account: &Account,
    until: Timestamp,
) -> Result<bool> {
    store::is_closed(tx, &account.key(asset), until)
}

/// Closes an account up to a moment that is well over: nothing is posted before it any more.
///
/// # Errors
/// The database's.
pub fn close(tx: &mut dyn Tx, asset: Asset, account: &Account, until: Timestamp) -> Result<()> {
    if let Some(balance) = balance_before(tx, asset, account, until)? {
        store::close(tx, &account.key(asset), until, balance)?;
    }
    Ok(())
}
