//! Exchange rates as ratios of integers, and the rule that turns a price into what is paid in another currency.
//!
//! # Invariants
//! - No floats. A rate is positive and bounded, so that no product leaves 128 bits unnoticed.
//! - What a payer must bring rounds up: the market never loses a unit to an exchange.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shared::{
    money::{Amount, AmountOverflow, Asset},
    time::Timestamp,
};

/// Decimal places of a rate in text.
const DECIMALS: usize = 8;
const ONE: i64 = 100_000_000;
/// Highest rate: a million of one currency for one of another.
const RATE_MAX: i64 = 1_000_000 * ONE;
const BASIS: i64 = 10_000;

/// What one of `base` costs in `quote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// What is bought.
    pub base: Asset,
    /// What it is bought with.
    pub quote: Asset,
    /// How much of that, hundred-millionths.
    rate: i64,
}

/// Why a text isn't a rate.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("not a rate: write two currencies and a decimal above zero such as EURC/USDC=1.08")]
pub struct ParsePairError;

impl Pair {
    /// From its parts; `rate` is decimal text.
    ///
    /// # Errors
    /// It isn't a decimal above zero and at most a million, with at most 8 decimals; or both currencies are the same.
    pub fn new(base: Asset, quote: Asset, rate: &str) -> Result<Self, ParsePairError> {
        let (whole, part) = rate.split_once('.').unwrap_or((rate, "0"));
        let digits =
            |s: &str| !s.is_empty() && s.len() <= 10 && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > DECIMALS || base == quote {
            return Err(ParsePairError);
        }
        let whole: i64 = whole.parse().map_err(|_| ParsePairError)?;
        let part: i64 = format!("{part:0<8}").parse().map_err(|_| ParsePairError)?;
        let rate = whole.checked_mul(ONE).and_then(|w| w.checked_add(part));
        match rate {
            Some(rate) if rate > 0 && rate <= RATE_MAX => Ok(Self { base, quote, rate }),
            _ => Err(ParsePairError),
        }
    }

    /// Whether it is about the same two currencies, in either direction.
    #[must_use]
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        (self.base, self.quote) == (other.base, other.quote)
            || (self.base, self.quote) == (other.quote, other.base)
    }

    /// What one of `priced` costs in `paid`, as a ratio, if this pair says so.
    fn ratio(&self, priced: Asset, paid: Asset) -> Option<(i64, i64)> {
        if (self.base, self.quote) == (priced, paid) {
            Some((self.rate, ONE))
        } else if (self.base, self.quote) == (paid, priced) {
            Some((ONE, self.rate))
        } else {
            None
        }
    }
}

impl FromStr for Pair {
    type Err = ParsePairError;

    fn from_str(text: &str) -> Result<Self, ParsePairError> {
        let (currencies, rate) = text.split_once('=').ok_or(ParsePairError)?;
        let (base, quote) = currencies.split_once('/').ok_or(ParsePairError)?;
        let asset = |code: &str| Asset::from_code(code.trim()).ok_or(ParsePairError);
        Self::new(asset(base)?, asset(quote)?, rate.trim())
    }
}

/// Rates of one moment, from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateTable {
    /// Who says so.
    pub source: String,
    /// When they held.
    pub at: Timestamp,
    /// What they are.
    pub pairs: Vec<Pair>,
}

/// A rate with its spread, fixed for one quote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedRate {
    /// `numerator / denominator` of what is paid is one of what is priced.
    pub numerator: i64,
    /// More than zero.
    pub denominator: i64,
    /// Who says so.
    pub source: String,
    /// When it held.
    pub at: Timestamp,
}

impl FixedRate {
    /// What must be paid for a price: rounded up.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn convert(&self, price: Amount) -> Result<Amount, AmountOverflow> {
        let scaled = i128::from(price.atomic()).checked_mul(i128::from(self.numerator));
        let denominator = i128::from(self.denominator);
        let up = scaled
            .zip(denominator.checked_sub(1))
            .and_then(|(scaled, most)| scaled.checked_add(most))
            .and_then(|sum| sum.checked_div(denominator))
            .ok_or(AmountOverflow)?;
        i64::try_from(up)
            .map_err(|_| AmountOverflow)
            .and_then(Amount::from_atomic)
    }

    /// The highest price that so much pays for: what it costs is never more than that.
    #[must_use]
    pub fn covers(&self, paid: Amount) -> Amount {
        let scaled = i128::from(paid.atomic()).saturating_mul(i128::from(self.denominator));
        let down = scaled.checked_div(i128::from(self.numerator)).unwrap_or(0);
        let atomic = i64::try_from(down).unwrap_or(i64::MAX);
        Amount::from_atomic(atomic).unwrap_or_default()
    }

    /// As decimal text with 8 places, rounded up: for people.
    #[must_use]
    pub fn text(&self) -> String {
        let scaled = i128::from(self.numerator).saturating_mul(i128::from(ONE));
        let denominator = i128::from(self.denominator).max(1);
        let up = scaled.saturating_add(denominator - 1) / denominator;
        format!("{}.{:08}", up / i128::from(ONE), up % i128::from(ONE))
    }
}

/// How a price is paid in a currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// As it is: it is the price's own.
    Same,
    /// At a rate.
    At(FixedRate),
}

impl Course {
    /// What must be paid for a price: rounded up.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn convert(&self, price: Amount) -> Result<Amount, AmountOverflow> {
        match self {
            Self::Same => Ok(price),
            Self::At(rate) => rate.convert(price),
        }
    }

    /// The highest price that so much pays for.
    #[must_use]
    pub fn covers(&self, paid: Amount) -> Amount {
        match self {
            Self::Same => paid,
            Self::At(rate) => rate.covers(paid),
        }
    }
}

impl RateTable {
    /// The rate for paying in `paid` what is priced in `priced`, with a spread in the market's favour.
    #[must_use]
    pub fn rate(&self, priced: Asset, paid: Asset, spread_bps: u32) -> Option<FixedRate> {
        let (numerator, denominator) = self
            .pairs
            .iter()
            .find_map(|pair| pair.ratio(priced, paid))?;
        Some(FixedRate {
            numerator: numerator.checked_mul(BASIS.checked_add(i64::from(spread_bps))?)?,
            denominator: denominator.checked_mul(BASIS)?,
            source: self.source.clone(),
            at: self.at,
        })
    }
}
