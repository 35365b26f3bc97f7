//! Hours, days, ranges and percentiles: the arithmetic of figures over time.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use shared::{
    id::{NodeId, UserId},
    money::{Asset, Money},
    time::Timestamp,
};

use crate::error::{Error, Result};

/// Microseconds of an hour.
pub const HOUR_US: i64 = 3_600_000_000;
/// Microseconds of a day.
pub const DAY_US: i64 = 24 * HOUR_US;
/// The market is looked at so often, microseconds.
pub const SAMPLE_US: i64 = 300_000_000;
/// Most points of one answer.
const POINTS_MAX: i64 = 1_000;

/// How finely figures are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// As the market is sampled; figures of people have none so fine.
    Sample,
    /// By the hour.
    Hour,
    /// By the day, UTC.
    Day,
}

impl Step {
    /// Its length, microseconds.
    #[must_use]
    pub const fn us(self) -> i64 {
        match self {
            Self::Sample => SAMPLE_US,
            Self::Hour => HOUR_US,
            Self::Day => DAY_US,
        }
    }

    /// The name of the rows that have it.
    #[must_use]
    pub const fn grain(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Where the step begins in which `at` lies.
    #[must_use]
    pub fn floor(self, at: Timestamp) -> Timestamp {
        let us = at.as_micros();
        Timestamp::from_micros(us.saturating_sub(us.rem_euclid(self.us())))
    }
}

/// From when to when, and how finely: whole steps, not too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Where the first step begins.
    pub from: Timestamp,
    /// Where the last one ends.
    pub to: Timestamp,
    /// How finely.
    pub step: Step,
}

impl Range {
    /// The range that is asked for; without bounds the last day by hours, the last month by days, the last hours by samples.
    ///
    /// # Errors
    /// 400 for a range that is empty or has more than 1000 steps.
    pub fn new(
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        step: Step,
        now: Timestamp,
    ) -> Result<Self> {
        let usual = match step {
            Step::Sample => 72,
            Step::Hour => 24,
            Step::Day => 30,
        };
        let to = to
            .unwrap_or(now)
            .as_micros()
            .saturating_add(step.us())
            .saturating_sub(1);
        let to = step.floor(Timestamp::from_micros(to));
        let usual = to
            .as_micros()
            .saturating_sub(step.us().saturating_mul(usual));
        let from = step.floor(from.unwrap_or(Timestamp::from_micros(usual)));
        let length = to.as_micros().saturating_sub(from.as_micros());
        if length <= 0 || length > step.us().saturating_mul(POINTS_MAX) {
            return Err(Error::bad_request(
                "range",
                format!(
                    "ask for 1 to {POINTS_MAX} steps: from must be before to, and near enough for the step"
                ),
            ));
        }
        Ok(Self { from, to, step })
    }
}

/// What a node earned and did in an hour or day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePart {
    /// Which.
    pub node: NodeId,
    /// Whose.
    pub provider: UserId,
    /// In which currency.
    pub asset: Asset,
    /// The provider's share, atomic units.
    pub earned: i64,
    /// The platform's.
    pub fee: i64,
    /// Billed milliseconds.
    pub billed_ms: i64,
    /// MiB of memory times billed milliseconds.
    pub ram_mib_ms: i64,
}

/// Figures of a provider's nodes, or one of them, in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderPoint {
    /// Where the step begins.
    pub at: Timestamp,
    /// What was earned, by currency.
    pub earned: Vec<Earned>,
    /// Billed milliseconds of all rentals.
    pub billed_ms: i64,
    /// MiB of memory times billed milliseconds.
    pub ram_mib_ms: i64,
    /// Milliseconds in which nodes were provably there.
    pub covered_ms: i64,
    /// MiB that could be rented.
    pub rentable_ram_mib: i64,
    /// Nodes in it.
    pub nodes: i64,
}

/// What was earned in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earned {
    /// The provider's share.
    pub share: Money,
    /// The platform's.
    pub fee: Money,
}

impl ProviderPoint {
    /// Of the step's time, how much the nodes were there, thousandths.
    #[must_use]
    pub fn uptime_permille(&self, step: Step) -> i64 {
        permille(
            self.covered_ms,
            i128::from(step.us() / 1_000).saturating_mul(i128::from(self.nodes)),
        )
    }

    /// Of the memory that could be rented in the step, how much was, thousandths.
    #[must_use]
    pub fn utilisation_permille(&self, step: Step) -> i64 {
        permille(
            self.ram_mib_ms,
            i128::from(step.us() / 1_000).saturating_mul(i128::from(self.rentable_ram_mib)),
        )
    }
}

fn permille(part: i64, whole: i128) -> i64 {
    let share = i128::from(part)
        .saturating_mul(1_000)
        .checked_div(whole)
        .unwrap_or(0);
    i64::try_from(share.clamp(0, 1_000)).unwrap_or(0)
}

/// What a consumer spent in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerPoint {
    /// Where the step begins.
    pub at: Timestamp,
    /// What was charged, by currency.
    pub spent: Vec<Money>,
    /// Billed milliseconds.
    pub billed_ms: i64,
}

/// What the market looked like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketPoint {
    /// When.
    pub at: Timestamp,
    /// Prices per unit and hour, by currency, atomic units: of ten offers, one is as cheap or cheaper; half; nine.
    pub prices: Vec<(Asset, [i64; 3])>,
    /// What could be rented.
    pub available: i64,
}

/// The tenth, fiftieth and ninetieth hundredth of sorted prices: each a price that was asked (nearest rank).
#[must_use]
pub fn percentiles(sorted: &[i64]) -> Option<[i64; 3]> {
    let rank = |hundredths: usize| {
        let rank = sorted.len().saturating_mul(hundredths).div_ceil(100).max(1);
        sorted.get(rank.saturating_sub(1)).copied()
    };
    Some([rank(10)?, rank(50)?, rank(90)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_prices_that_were_asked() {
        assert_eq!(percentiles(&[]), None);
        assert_eq!(percentiles(&[7]), Some([7, 7, 7]));
        assert_eq!(percentiles(&[1, 2]), Some([1, 1, 2]));
        let ten: Vec<i64> = (1..=10).collect();
        assert_eq!(percentiles(&ten), Some([1, 5, 9]));
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!(percentiles(&hundred), Some([10, 50, 90]));
    }

    #[test]
    fn a_range_is_whole_steps_and_bounded() {
        let at = |us| Timestamp::from_micros(us);
        let now = at(100 * DAY_US + HOUR_US / 2);
        let last_day = Range::new(None, None, Step::Hour, now).expect("fine");
        assert_eq!(
            (last_day.from, last_day.to),
            (at(99 * DAY_US + HOUR_US), at(100 * DAY_US + HOUR_US))
        );
        let exact =
            Range::new(Some(at(DAY_US)), Some(at(3 * DAY_US)), Step::Day, now).expect("fine");
        assert_eq!((exact.from, exact.to), (at(DAY_US), at(3 * DAY_US)));
        for (from, to) in [
            (at(2 * DAY_US), at(DAY_US)),
            (at(DAY_US), at(DAY_US)),
            (at(i64::MIN), at(i64::MAX)),
            (at(0), now),
        ] {
            assert!(
                Range::new(Some(from), Some(to), Step::Hour, now).is_err(),
                "{from:?} {to:?}"
            );
        }
    }

    #[test]
    fn shares_are_thousandths() {
        let point = ProviderPoint {
            at: Timestamp::from_micros(0),
            earned: Vec::new(),
            billed_ms: 0,
            ram_mib_ms: 512 * 3_600_000,
            covered_ms: 2 * 3_600_000,
            rentable_ram_mib: 2_048,
            nodes: 2,
        };
        assert_eq!(
            (
                point.uptime_permille(Step::Hour),
                point.utilisation_permille(Step::Hour)
            ),
            (1_000, 250)
        );
        let none = ProviderPoint {
            nodes: 0,
            rentable_ram_mib: 0,
            ..point.clone()
        };
        assert_eq!(
            (
                none.uptime_permille(Step::Day),
                none.utilisation_permille(Step::Day)
            ),
            (0, 0)
        );
    }
}
