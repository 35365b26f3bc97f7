//! What was paid in another currency, as documents and statements name it: from what was kept when it was paid, never computed anew.
//!
//! # Invariants
//! - Nothing is left out: what is too much to be named one by one is summed by currency.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::{
    money::{Amount, Asset, Money},
    time::Timestamp,
};
use utoipa::ToSchema;

use crate::{
    domain::{
        payments::exchange::{self, Exchange},
        rentals::model::Rental,
    },
    error::Result,
    store::Tx,
};

/// Exchanges that a document names one by one; a rental of a month that extends itself has thousands.
const NAMED_MAX: i64 = 100;

/// What was paid in another currency than the price's, and at which rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exchanged {
    /// What was paid.
    #[schema(value_type = Object, example = json!({"amount": "0.92", "currency": "EURC"}))]
    pub paid: Money,
    /// The price that this was good for.
    #[schema(value_type = Object, example = json!({"amount": "1", "currency": "USDC"}))]
    pub price: Money,
    /// How many payments it is: one, or what is too much to be named one by one, and has no rate of its own.
    pub payments: i64,
    /// How much of what was paid is one of the price, eight decimals, rounded up.
    #[schema(example = "0.92000000")]
    pub rate: Option<String>,
    /// Who told the rate.
    #[schema(example = "settings")]
    pub rate_source: Option<String>,
    /// When it held.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub rate_at: Option<Timestamp>,
    /// When it was paid.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
}

impl From<&Exchange> for Exchanged {
    fn from(done: &Exchange) -> Self {
        Self {
            paid: done.paid.clone(),
            price: done.given.clone(),
            payments: 1,
            rate: Some(done.rate.text()),
            rate_source: Some(done.rate.source.clone()),
            rate_at: Some(done.rate.at),
            at: Some(done.at),
        }
    }
}

impl Exchanged {
    /// In words: `0.000400 EURC for 0.000500 USDC, at 0.80000000 (settings, 2027-01-15T08:00:00Z)`.
    #[must_use]
    pub fn words(&self) -> String {
        let (paid, price) = (&self.paid, &self.price);
        let sums = format!(
            "{} {} for {} {}",
            paid.amount, paid.currency, price.amount, price.currency
        );
        match (&self.rate, &self.rate_source, self.rate_at) {
            (Some(rate), Some(source), Some(at)) => format!("{sums}, at {rate} ({source}, {at})"),
            _ => format!("{sums}, {} payments in all", self.payments),
        }
    }
}

/// What was paid for a rental in other currencies up to a moment.
///
/// # Errors
/// The database's.
pub(super) fn of_rental(
    tx: &mut dyn Tx,
    rental: &Rental,
    until: Timestamp,
) -> Result<Vec<Exchanged>> {
    let named = exchange::of_rental(tx, rental.id, until, NAMED_MAX)?;
    let mut rest: BTreeMap<Asset, (i64, i64, i64)> = BTreeMap::new();
    if named.len() == usize::try_from(NAMED_MAX).unwrap_or(usize::MAX) {
        for (asset, count, paid, given) in exchange::sums_of_rental(tx, rental.id, until)? {
            rest.insert(asset, (count, paid, given));
        }
        for one in &named {
            if let Some((count, paid, given)) = rest.get_mut(&one.paid.currency) {
                *count = count.saturating_sub(1);
                *paid = paid.saturating_sub(one.paid.amount.atomic());
                *given = given.saturating_sub(one.given.amount.atomic());
            }
        }
    }
    let mut all: Vec<Exchanged> = named.iter().map(Exchanged::from).collect();
    for (currency, (payments, paid, given)) in rest {
        if payments > 0 {
            all.push(Exchanged {
                paid: Money {
                    amount: Amount::from_atomic(paid)?,
                    currency,
                },
                price: Money {
                    amount: Amount::from_atomic(given)?,
                    currency: rental.asset,
                },
                payments,
                rate: None,
                rate_source: None,
                rate_at: None,
                at: None,
            });
        }
    }
    Ok(all)
}
