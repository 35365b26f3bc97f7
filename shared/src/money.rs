//! Money: integers in atomic units of an asset, prices per hour, and the rule that turns time into money.
//!
//! # Invariants
//! - No floats anywhere; every operation is checked and overflow is an error, never a wrap.
//! - Rounding is decided here and nowhere else: charges round down, what a payer must bring rounds up.
//! - An amount that the asset's scale can't represent is refused, not rounded.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::resources::Resources;

/// Decimal places of every asset in the ledger: 1 USDC is 1,000,000 atomic units.
pub const SCALE: u32 = 6;
const ONE: i64 = 1_000_000;
/// Parts of an atomic unit that a [`Rate`] resolves.
const MICRO: i128 = 1_000_000;
const HOUR_MS: i128 = 3_600_000;
const GIB: i128 = 1 << 30;

/// A sum left the range of 64-bit atomic units, or went below zero where that is impossible.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("the amount leaves the range of the ledger")]
pub struct AmountOverflow;

/// An amount of money in atomic units of its asset (6 decimals), never negative. Text form: decimal, `"12.345678"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From atomic units.
    ///
    /// # Errors
    /// The number is negative.
    pub fn from_atomic(atomic: i64) -> Result<Self, AmountOverflow> {
        if atomic < 0 {
            Err(AmountOverflow)
        } else {
            Ok(Self(atomic))
        }
    }

    /// Atomic units.
    #[must_use]
    pub const fn atomic(self) -> i64 {
        self.0
    }

    /// The sum.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn plus(self, other: Self) -> Result<Self, AmountOverflow> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountOverflow)
    }

    /// The difference.
    ///
    /// # Errors
    /// It would be negative.
    pub fn minus(self, other: Self) -> Result<Self, AmountOverflow> {
        self.0
            .checked_sub(other.0)
            .ok_or(AmountOverflow)
            .and_then(Self::from_atomic)
    }

    /// `floor(self × bps / 10,000)`: a fee in basis points.
    ///
    /// # Errors
    /// The result doesn't fit.
    pub fn basis_points(self, bps: u32) -> Result<Self, AmountOverflow> {
        i128::from(self.0)
            .checked_mul(i128::from(bps))
            .and_then(|product| product.checked_div(10_000))
            .ok_or(AmountOverflow)
            .and_then(Self::from_i128)
    }

    /// The part of a gross amount that a rate of `bps` basis points of the net amount makes: `self × bps / (10,000 + bps)`, half a unit
    /// rounded up.
    ///
    /// # Errors
    /// The result doesn't fit.
    pub fn part_in_gross(self, bps: u32) -> Result<Self, AmountOverflow> {
        let whole = i128::from(bps).checked_add(10_000).ok_or(AmountOverflow)?;
        i128::from(self.0)
            .checked_mul(i128::from(bps))
            .and_then(|product| product.checked_mul(2)?.checked_add(whole))
            .and_then(|twice| twice.checked_div(whole.checked_mul(2)?))
            .ok_or(AmountOverflow)
            .and_then(Self::from_i128)
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    fn from_i128(value: i128) -> Result<Self, AmountOverflow> {
        i64::try_from(value)
            .map_err(|_| AmountOverflow)
            .and_then(Self::from_atomic)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.checked_div(ONE).unwrap_or_default();
        let part = self.0.checked_rem(ONE).unwrap_or_default();
        write!(f, "{whole}.{part:06}")
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text isn't an amount.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error(
    "not an amount: write a decimal such as \"12.345678\", not negative, with at most 6 decimals"
)]
pub struct ParseAmountError;

impl FromStr for Amount {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |s: &str| !s.is_empty() && s.len() <= 18 && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > SCALE as usize {
            return Err(ParseAmountError);
        }
        let whole: i64 = whole.parse().map_err(|_| ParseAmountError)?;
        let part: i64 = format!("{part:0<6}")
            .parse()
            .map_err(|_| ParseAmountError)?;
        whole
            .checked_mul(ONE)
            .and_then(|w| w.checked_add(part))
            .map(Self)
            .ok_or(ParseAmountError)
    }
}

impl TryFrom<String> for Amount {
    type Error = ParseAmountError;

    fn try_from(text: String) -> Result<Self, ParseAmountError> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> Self {
        amount.to_string()
    }
}

/// An amount with its currency, as the API shows it: `{"amount": "12.345678", "currency": "USDC"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Decimal text.
    pub amount: Amount,
    /// The asset's code.
    pub currency: Asset,
}

/// An asset of the ledger, by its code: 2 to 8 upper-case ASCII letters and digits, a letter first. Each has its own books; all have
/// [`SCALE`] decimals. That a code is well-formed doesn't mean that a market accepts it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Asset([u8; CODE_CHARS_MAX]);

/// Longest code of an [`Asset`]; shorter ones are filled up with zero bytes.
const CODE_CHARS_MAX: usize = 8;

/// Why a text isn't an asset's code.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("not a currency: write its code such as \"USDC\", 2 to 8 upper-case letters and digits")]
pub struct ParseAssetError;

impl Asset {
    /// USD Coin.
    pub const USDC: Self = Self(*b"USDC\0\0\0\0");
    /// Euro Coin.
    pub const EURC: Self = Self(*b"EURC\0\0\0\0");

    /// The code in the API and in the database.
    #[must_use]
    pub fn code(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0);
        let code = self.0.get(..end.unwrap_or(CODE_CHARS_MAX));
        code.and_then(|code| std::str::from_utf8(code).ok())
            .unwrap_or_default()
    }

    /// The asset of a code, or `None` if no code can look like that.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let well_formed = code.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
            && code
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            && code.len() >= 2;
        let mut bytes = [0; CODE_CHARS_MAX];
        bytes
            .get_mut(..code.len())?
            .copy_from_slice(code.as_bytes());
        well_formed.then_some(Self(bytes))
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Asset {
    type Err = ParseAssetError;

    fn from_str(code: &str) -> Result<Self, ParseAssetError> {
        Self::from_code(code).ok_or(ParseAssetError)
    }
}

impl TryFrom<String> for Asset {
    type Error = ParseAssetError;

    fn try_from(code: String) -> Result<Self, ParseAssetError> {
        code.parse()
    }
}

impl From<Asset> for String {
    fn from(asset: Asset) -> Self {
        asset.code().to_owned()
    }
}

/// Unit prices of an offer, each in atomic units per hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitPrices {
    /// For a GiB of RAM.
    pub ram_gib_hour: Amount,
    /// For a whole CPU.
    pub cpu_hour: Amount,
    /// For a whole GPU.
    #[serde(default)]
    pub gpu_hour: Amount,
    /// For a GiB of disk.
    #[serde(default)]
    pub disk_gib_hour: Amount,
}

/// What a slice of a machine costs: millionths of an atomic unit per hour, so that a few MiB still have a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(i64);

impl Rate {
    /// The rate of `resources` at `prices`: the sum of all parts, rounded down once to a millionth of an atomic unit per hour.
    ///
    /// # Errors
    /// The rate doesn't fit.
    pub fn of(resources: &Resources, prices: &UnitPrices) -> Result<Self, AmountOverflow> {
        let part = |quantity: i128, unit: i128, price: Amount| {
            quantity
                .checked_mul(i128::from(price.0))
                .and_then(|v| v.checked_mul(MICRO))
                .and_then(|v| v.checked_mul(GIB.checked_div(unit)?))
                .ok_or(AmountOverflow)
        };
        // every part over the common denominator of one GiB; 1,000 divides 1024 × 1,000 but not a GiB, so CPU goes apart
        let bytes = part(i128::from(resources.ram_bytes), GIB, prices.ram_gib_hour)?
            .checked_add(part(
                i128::from(resources.disk_bytes),
                GIB,
                prices.disk_gib_hour,
            )?)
            .ok_or(AmountOverflow)?;
        let gpu = part(i128::from(resources.gpu_count), 1, prices.gpu_hour)?;
        let cpu = i128::from(resources.cpu_millis)
            .checked_mul(i128::from(prices.cpu_hour.0))
            .and_then(|v| v.checked_mul(MICRO / 1_000))
            .and_then(|v| v.checked_mul(GIB))
            .ok_or(AmountOverflow)?;
        let sum = bytes
            .checked_add(gpu)
            .and_then(|v| v.checked_add(cpu))
            .ok_or(AmountOverflow)?;
        Self::from_micro_per_hour(i64::try_from(sum / GIB).map_err(|_| AmountOverflow)?)
    }

    /// From millionths of an atomic unit per hour.
    ///
    /// # Errors
    /// The number is negative.
    pub fn from_micro_per_hour(micro: i64) -> Result<Self, AmountOverflow> {
        if micro < 0 {
            Err(AmountOverflow)
        } else {
            Ok(Self(micro))
        }
    }

    /// Millionths of an atomic unit per hour.
    #[must_use]
    pub const fn micro_per_hour(self) -> i64 {
        self.0
    }

    /// What `total_ms` cost so far: `floor(rate × total_ms / 3,600,000)`. Always of the *total*, so that nothing is lost to rounding
    /// in small windows (the window's charge is this minus what was charged before).
    ///
    /// # Errors
    /// `total_ms` is negative or the result doesn't fit.
    pub fn charge_for_ms(self, total_ms: i64) -> Result<Amount, AmountOverflow> {
        let product = self.product(total_ms)?;
        Amount::from_i128(product / (HOUR_MS * MICRO))
    }

    /// What must be brought to pay for `total_ms`: the same, rounded up.
    ///
    /// # Errors
    /// As [`Rate::charge_for_ms`].
    pub fn price_for_ms(self, total_ms: i64) -> Result<Amount, AmountOverflow> {
        let product = self.product(total_ms)?;
        let up = product
            .checked_add(HOUR_MS * MICRO - 1)
            .ok_or(AmountOverflow)?;
        Amount::from_i128(up / (HOUR_MS * MICRO))
    }

    fn product(self, total_ms: i64) -> Result<i128, AmountOverflow> {
        if total_ms < 0 {
            return Err(AmountOverflow);
        }
        i128::from(self.0)
            .checked_mul(i128::from(total_ms))
            .ok_or(AmountOverflow)
    }
}

#[cfg(test)]
mod tests;
