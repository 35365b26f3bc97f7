//! Over which networks money came in: it goes back by the same.

use shared::{
    id::{RentalId, UserId},
    money::Asset,
};

use super::store::networks as store;
use crate::{error::Result, store::Tx};

/// The network over which a rental was paid first; none if it was paid from a balance.
///
/// # Errors
/// The database's.
pub fn of_rental(tx: &mut dyn Tx, id: RentalId) -> Result<Option<String>> {
    store::of_rental(tx, id)
}

/// The network over which somebody filled their balance last.
///
/// # Errors
/// The database's.
pub fn of_top_ups(tx: &mut dyn Tx, user: UserId) -> Result<Option<String>> {
    store::of_top_ups(tx, user)
}

/// The network over which was paid what ran on somebody's machines last, of what was priced in a currency.
///
/// # Errors
/// The database's.
pub fn of_provider(tx: &mut dyn Tx, provider: UserId, asset: Asset) -> Result<Option<String>> {
    store::of_provider(tx, provider, asset)
}
