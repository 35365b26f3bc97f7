//! Watching the books while they grow: what was posted since the last pass is proven, by a fold of what is older.
//!
//! # How
//! `account_folds` holds each account's sum of all transfers up to one moment, `folded_at`, which stays [`FOLD_LAG_MS`] behind. An
//! account's balance must be its fold and the transfers since. A transfer that came into the fold's past after all (a clock that was far
//! behind, a transaction that took minutes) makes a fold wrong, not the books: a difference counts only when the sum of *all* of the
//! account's transfers shows it too; otherwise the fold is made anew.
//!
//! # Invariants
//! - A page reads the balance, the fold and the transfers on one snapshot.
//! - Nothing reads more than a page of what was posted, however long the tables are.

use shared::time::Timestamp;

use super::{check::Finding, store::watch};
use crate::{error::Result, store::Tx};

/// No transaction lasts so long, nor is a coordinator's clock off by so much.
const FOLD_LAG_MS: i64 = 300_000;
/// What a pass looks at again of the pass before, since commits come in another order than the clocks say.
const OVERLAP_MS: i64 = 60_000;
/// Transfers of a page.
const PAGE: i64 = 500;

/// How far the books were folded and watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// Folds hold every transfer up to here.
    pub folded_at: Timestamp,
    /// What was posted up to here was watched.
    pub checked_at: Timestamp,
    /// The last place of the audit log that was followed, and its hash.
    pub audit: (i64, [u8; 32]),
}

impl Positions {
    /// From when on the next pass looks.
    #[must_use]
    pub fn next_from(&self) -> Timestamp {
        // at the beginning there is nothing to look at again
        Timestamp::from_micros(self.checked_at.plus_ms(-OVERLAP_MS).as_micros().max(0))
    }
}

/// A stretch of time: after the first moment, up to and with the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// After this.
    pub from: Timestamp,
    /// Up to this.
    pub to: Timestamp,
}

/// What a page of a pass found.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// What is broken.
    pub findings: Vec<Finding>,
    /// Accounts whose fold is wrong, though their balance isn't.
    pub stale_folds: Vec<String>,
}

/// How far the books were folded and watched.
///
/// # Errors
/// The database's.
pub fn positions(tx: &mut dyn Tx) -> Result<Positions> {
    watch::positions(tx)
}

/// Notes how far the books were watched, and the audit log followed.
///
/// # Errors
/// The database's.
pub fn note_watched(tx: &mut dyn Tx, at: Timestamp, audit: &(i64, [u8; 32])) -> Result<()> {
    watch::note_watched(tx, at, audit)
}

/// The next page of what was posted after `from`; its end is `now` if that is the last.
///
/// # Errors
/// The database's.
pub fn next_page(tx: &mut dyn Tx, from: Timestamp, now: Timestamp) -> Result<Stretch> {
    let to = watch::moment_after(tx, from, now, PAGE)?.unwrap_or(now);
    Ok(Stretch { from, to })
}

/// Adds a page of what lies far enough behind to the folds; false when there is no more.
///
/// # Errors
/// The database's.
pub fn fold(tx: &mut dyn Tx, now: Timestamp) -> Result<bool> {
    let from = watch::positions(tx)?.folded_at;
    let until = now.plus_ms(-FOLD_LAG_MS);
    if until <= from {
        return Ok(false);
    }
    let next = watch::moment_after(tx, from, until, PAGE)?;
    let to = next.unwrap_or(until);
    // the row is locked by this, so folds are made by one coordinator at a time
    if !watch::move_fold(tx, from, to)? {
        return Ok(true);
    }
    watch::fold(tx, from, to)?;
    Ok(next.is_some())
}

/// Makes an account's fold anew.
///
/// # Errors
/// The database's.
pub fn refold(tx: &mut dyn Tx, account: &str) -> Result<()> {
    // nobody moves the fold meanwhile
    let at = watch::positions(tx)?.folded_at;
    if watch::move_fold(tx, at, at)? {
        watch::refold(tx, account)?;
    }
    Ok(())
}

/// I1 to I3 of what was posted in a stretch.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx, stretch: Stretch) -> Result<Watched> {
    let Stretch { from, to } = stretch;
    let mut watched = Watched::default();
    let crossing = watch::crossing_in(tx, from, to)?;
    let crossing = crossing.iter().map(|id| format!("{id} crosses assets"));
    watched
        .findings
        .push(Finding::new("I1", super::check::I1, crossing.collect()));
    let overdrawn = watch::overdrawn_in(tx, from, to)?;
    let overdrawn = overdrawn
        .iter()
        .map(|(key, balance)| format!("{key}: {balance}"));
    watched
        .findings
        .push(Finding::new("I2", super::check::I2, overdrawn.collect()));
    let mut wrong = Vec::new();
    for (account, _, _) in watch::misfolded_in(tx, from, to)? {
        match watch::whole(tx, &account)? {
            Some((balance, sum)) if balance != sum => {
                wrong.push(format!("{account}: stored {balance}, transfers {sum}"));
            }
            _ => watched.stale_folds.push(account),
        }
    }
    watched
        .findings
        .push(Finding::new("I3", super::check::I3, wrong));
    Ok(watched)
}

/// The accounts of rentals' escrows that a stretch touches, by their keys.
///
/// # Errors
/// The database's.
pub fn touched_escrows(tx: &mut dyn Tx, stretch: Stretch) -> Result<Vec<String>> {
    watch::touched(tx, "rental_escrow", stretch.from, stretch.to)
}

/// I3 of a page of all accounts by all of their transfers, after a key; the key to go on after. That all balances sum to zero follows: what a
/// transfer takes from one account it gives to another.
///
/// # Errors
/// The database's.
pub fn sweep(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<(Vec<Finding>, Option<String>)> {
    let (last, wrong) = watch::misfolded_after(tx, after, limit)?;
    let wrong = wrong
        .iter()
        .map(|(key, balance, sum)| format!("{key}: stored {balance}, transfers {sum}"));
    let finding = Finding::new("I3", super::check::I3, wrong.collect());
    Ok((vec![finding], last))
}
