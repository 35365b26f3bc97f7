//! All invariants over everything, page by page: what the pass over new postings can't see, a row that was changed behind our back, is
//! found within a day.
//!
//! # Invariants
//! - A page is one snapshot of bounded size; the sweep can be left after any of them and goes on there.

use crate::{
    domain::{
        ledger::{check::Finding, watch},
        payments, rentals,
    },
    error::Result,
    store::Tx,
};

/// Accounts, rentals, payments or exchanges of a page.
const PAGE: i64 = 200;

/// Where a sweep is: what it looks at, after which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Balances against all of their transfers.
    Accounts(String),
    /// Rentals, their escrows and windows.
    Rentals(String),
    /// Payments and their postings.
    Payments(String),
    /// Exchanges and their halves.
    Exchanges(String),
}

impl Place {
    /// Where a sweep begins.
    #[must_use]
    pub const fn beginning() -> Self {
        Self::Accounts(String::new())
    }
}

/// Looks at a page; what is broken there, and where to go on, if there is more.
///
/// # Errors
/// The database's.
pub fn page(tx: &mut dyn Tx, place: &Place) -> Result<(Vec<Finding>, Option<Place>)> {
    Ok(match place {
        Place::Accounts(after) => {
            let (findings, next) = watch::sweep(tx, after, PAGE)?;
            let next = next.map_or(Place::Rentals(String::new()), Place::Accounts);
            (findings, Some(next))
        }
        Place::Rentals(after) => {
            let (findings, next) = rentals::check::sweep(tx, after, PAGE)?;
            let next = next.map_or(Place::Payments(String::new()), Place::Rentals);
            (findings, Some(next))
        }
        Place::Payments(after) => {
            let (finding, next) = payments::check::sweep(tx, after, PAGE)?;
            let next = next.map_or(Place::Exchanges(String::new()), Place::Payments);
            (vec![finding], Some(next))
        }
        Place::Exchanges(after) => {
            let (finding, next) = payments::check::sweep_exchanges(tx, after, PAGE)?;
            (vec![finding], next.map(Place::Exchanges))
        }
    })
}
