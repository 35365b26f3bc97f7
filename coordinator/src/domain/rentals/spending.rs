//! How far money goes: what a rental may be extended by from a balance, and how long a balance lasts.
//!
//! # Invariants
//! - Never more than the balance, the rental's own `max_spend` and the market's longest rental allow.
//! - A balance in another currency counts for as much of the price as it pays for at the rate of now; without a rate it pays for nothing.
//! - Integer arithmetic: what is affordable is what the ledger will take, to the unit.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use shared::{
    id::UserId,
    money::{Amount, Asset, Rate},
    time::Timestamp,
};

use super::{Desk, model::Rental, order, store};
use crate::{
    domain::{
        ledger::{self, model::Account},
        nodes::{self, model::Node},
        rates::Rates,
    },
    error::Result,
    store::Tx,
};

/// By how much a rental with `auto_extend` is extended at a time, at most.
pub const STEP_MS: i64 = 10 * 60 * 1_000;
const HOUR_MS: i128 = 3_600_000;
const MICRO: i128 = 1_000_000;

/// What keeps a rental from being extended any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The balance.
    Balance,
    /// That no rate is known between the currencies of the price and of the balance.
    Rate,
    /// Its own `max_spend`.
    MaxSpend,
    /// The market's longest rental.
    MaxDuration,
    /// Maintenance of its node, or that its provider takes it back.
    NodePlans,
}

impl Limit {
    /// The name in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Rate => "exchange_rate",
            Self::MaxSpend => "max_spend",
            Self::MaxDuration => "max_duration",
            Self::NodePlans => "node_plans",
        }
    }

    /// Why, in a letter.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Balance => "your balance doesn't cover more time",
            Self::Rate => "no exchange rate is known now for the currency that you pay in",
            Self::MaxSpend => "it may cost no more than you allowed",
            Self::MaxDuration => "no rental lasts longer here",
            Self::NodePlans => "its node is under maintenance then, or its provider takes it back",
        }
    }

    /// What can be done about it.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Balance => "Fill your balance before that, and it goes on by itself.",
            Self::Rate => {
                "If there is one before that, it goes on by itself; you may also extend it in the currency of its price."
            }
            Self::MaxSpend | Self::MaxDuration | Self::NodePlans => "Rent anew to go on.",
        }
    }
}

/// What a rental with `auto_extend` may draw on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// By how much it can be extended now, milliseconds; 0 if it can't be, or doesn't ask for it.
    pub step_ms: i64,
    /// How long it can go on beyond its paid time, if everything stays as it is.
    pub lasts_ms: i64,
    /// What ends it.
    pub limit: Limit,
}

/// What a rental may draw on.
///
/// # Errors
/// The database's.
pub fn funds(tx: &mut dyn Tx, desk: &Desk, rental: &Rental, now: Timestamp) -> Result<Funds> {
    let nothing = |limit| Funds {
        step_ms: 0,
        lasts_ms: 0,
        limit,
    };
    let (true, Some(consumer)) = (rental.auto_extend, rental.consumer) else {
        return Ok(nothing(Limit::Balance));
    };
    let balance_in = rental.balance_asset;
    let Some(course) = desk.rates.course(rental.asset, balance_in, now) else {
        return Ok(nothing(Limit::Rate));
    };
    let balance = ledger::balance(tx, balance_in, &Account::UserAvailable(consumer))?;
    let burn_micro = burn_micro(tx, &desk.rates, (consumer, balance_in), true, now)?;
    let room_ms = desk
        .rules
        .max_duration_ms
        .saturating_sub(rental.duration_ms)
        .max(0);
    let plans_ms = until_plans_ms(&nodes::get(tx, rental.node_id)?, rental, now);
    let available = course.covers(balance);
    let allowed = rental
        .max_spend
        .map(|most| most.minus(rental.paid).unwrap_or(Amount::ZERO));
    let budget = allowed.map_or(available, |allowed| allowed.min(available));
    let own_micro = rental.rate.micro_per_hour();
    let own_there = course.convert(Amount::from_atomic(own_micro)?)?.atomic();
    let by_balance = lasts_ms(balance, burn_micro.max(own_there));
    let by_spend = allowed.map_or(i64::MAX, |allowed| lasts_ms(allowed, own_micro));
    let ends = [
        (by_balance, Limit::Balance),
        (by_spend, Limit::MaxSpend),
        (room_ms, Limit::MaxDuration),
        (plans_ms, Limit::NodePlans),
    ];
    let (lasts_ms, limit) = ends
        .into_iter()
        .min_by_key(|(ms, _)| *ms)
        .unwrap_or((0, Limit::Balance));
    Ok(Funds {
        step_ms: affordable_ms(rental, budget, room_ms.min(plans_ms).min(STEP_MS))?,
        lasts_ms,
        limit,
    })
}

/// How long a rental may go on beyond its paid time until its node is needed for something else.
fn until_plans_ms(node: &Node, rental: &Rental, now: Timestamp) -> i64 {
    let paid_end = order::paid_end(rental, now);
    let windows = node.maintenance.iter();
    let windows = windows.filter(|window| window.ends_at > now.max(paid_end));
    let planned = windows
        .map(|window| window.starts_at)
        .chain(node.drain_deadline);
    planned
        .map(|at| at.ms_since(paid_end).max(0))
        .min()
        .unwrap_or(i64::MAX)
}

/// The longest extension of whole seconds, up to `most_ms`, that costs no more than `budget`.
///
/// # Errors
/// A price doesn't fit.
pub fn affordable_ms(rental: &Rental, budget: Amount, most_ms: i64) -> Result<i64> {
    let price = |seconds: i64| order::extension_price(rental, seconds.saturating_mul(1_000));
    let (mut fits, mut above) = (0, (most_ms / 1_000).max(0).saturating_add(1));
    while above.saturating_sub(fits) > 1 {
        let middle = fits.saturating_add(above.saturating_sub(fits) / 2);
        if price(middle)? <= budget {
            fits = middle;
        } else {
            above = middle;
        }
    }
    Ok(fits.saturating_mul(1_000))
}

/// How long an amount lasts at a rate in millionths of an atomic unit an hour, milliseconds.
#[must_use]
pub fn lasts_ms(amount: Amount, micro_per_hour: i64) -> i64 {
    let whole = i128::from(amount.atomic())
        .saturating_mul(MICRO)
        .saturating_mul(HOUR_MS);
    let ms = whole.checked_div(i128::from(micro_per_hour.max(0)));
    ms.map_or(i64::MAX, |ms| i64::try_from(ms).unwrap_or(i64::MAX))
}

/// How long a balance lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// What the person's running rentals cost in an hour, rounded up.
    pub burn_per_hour: Amount,
    /// How long the balance lasts at that, milliseconds; nothing if nothing burns.
    pub lasts_ms: Option<i64>,
}

/// What the rentals of a person that draw on a balance cost in an hour, millionths of an atomic unit of its currency, rounded up. What is
/// priced in a currency without a rate isn't counted: nothing can be drawn for it now.
fn burn_micro(
    tx: &mut dyn Tx,
    rates: &Rates,
    (person, balance_in): (UserId, Asset),
    only_extending: bool,
    now: Timestamp,
) -> Result<i64> {
    let mut sum = 0_i64;
    for (priced, micro) in store::burn_micro(tx, person, balance_in, only_extending)? {
        if let Some(course) = rates.course(priced, balance_in, now) {
            let there = course.convert(Amount::from_atomic(micro)?)?;
            sum = sum.saturating_add(there.atomic());
        }
    }
    Ok(sum)
}

/// How long `available` lasts at what a person's running rentals that draw on it cost.
///
/// # Errors
/// The database's.
pub fn forecast(
    tx: &mut dyn Tx,
    person: UserId,
    (asset, available): (Asset, Amount),
    rates: &Rates,
    now: Timestamp,
) -> Result<Forecast> {
    let burn_micro = burn_micro(tx, rates, (person, asset), false, now)?;
    Ok(Forecast {
        burn_per_hour: Rate::from_micro_per_hour(burn_micro)?.price_for_ms(3_600_000)?,
        lasts_ms: (burn_micro > 0).then(|| lasts_ms(available, burn_micro)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_lasts_as_long_as_it_pays() {
        let amount = |atomic| Amount::from_atomic(atomic).expect("positive");
        // 500 units an hour
        assert_eq!(lasts_ms(amount(500), 500_000_000), 3_600_000);
        assert_eq!(lasts_ms(amount(250), 500_000_000), 1_800_000);
        assert_eq!(lasts_ms(Amount::ZERO, 500_000_000), 0);
        assert_eq!(lasts_ms(amount(1), 0), i64::MAX);
        assert_eq!(lasts_ms(amount(i64::MAX), 1), i64::MAX);
    }
}
