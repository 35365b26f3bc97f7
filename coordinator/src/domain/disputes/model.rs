//! What a dispute is, whether a rental may still be reported, and who bears what is given back: pure decisions.
//!
//! # Invariants
//! - A dispute is decided once.
//! - What is given back never exceeds what was charged, and its parts add up to it.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    id::{DisputeId, RentalId, UserId},
    money::{Amount, Money},
    time::Timestamp,
};

use crate::{
    domain::rentals::model::{Rental, State as RentalState},
    error::{Error, Result},
};

/// Longest statement, bytes.
pub const STATEMENT_BYTES_MAX: usize = 4 * 1024;
/// Most statements of one party, besides the report itself.
pub const STATEMENTS_MAX: i64 = 20;

/// What is wrong with a rental, as whoever rents it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It couldn't be reached or used.
    Unreachable,
    /// It was much slower than a machine of this size is.
    Slow,
    /// It wasn't what the offer said.
    NotAsDescribed,
    /// It stopped or was disturbed while it should have run.
    Interrupted,
    /// Something else: the statement says it.
    Other,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Unreachable,
        Self::Slow,
        Self::NotAsDescribed,
        Self::Interrupted,
        Self::Other,
    ];

    /// The name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Slow => "slow",
            Self::NotAsDescribed => "not_as_described",
            Self::Interrupted => "interrupted",
            Self::Other => "other",
        }
    }

    /// The reason of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// Where a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits for an administrator.
    Open,
    /// It is over.
    Decided,
}

impl State {
    /// The name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Decided => "decided",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Decided]
            .into_iter()
            .find(|state| state.name() == name)
    }

    /// The state after something happened.
    ///
    /// # Errors
    /// 409 `dispute_decided`: nothing happens to a decided dispute any more.
    pub fn next(self, happening: Happening) -> Result<Self> {
        match (self, happening) {
            (Self::Open, Happening::Report | Happening::Say) => Ok(Self::Open),
            (Self::Open, Happening::Decide) => Ok(Self::Decided),
            (Self::Decided, _) => Err(Error::conflict(
                "dispute_decided",
                "this dispute is decided: the decision is final",
            )),
        }
    }
}

/// What may happen to a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The same rental is reported again.
    Report,
    /// Somebody adds a statement.
    Say,
    /// An administrator decides.
    Decide,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// Whoever rents.
    Consumer,
    /// Whose machine it is.
    Provider,
    /// Whoever runs the market.
    Admin,
}

impl Author {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Provider => "provider",
            Self::Admin => "admin",
        }
    }

    /// The author of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Consumer, Self::Provider, Self::Admin]
            .into_iter()
            .find(|author| author.name() == name)
    }
}

/// A dispute about a rental.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispute {
    /// Which.
    pub id: DisputeId,
    /// About which rental.
    pub rental: RentalId,
    /// Who rents, if they have an account.
    pub consumer: Option<UserId>,
    /// Whose machine it is.
    pub provider: UserId,
    /// What is wrong.
    pub reason: Reason,
    /// In the words of whoever rents.
    pub statement: String,
    /// How things stood at that moment.
    pub evidence: Value,
    /// When it was reported: nothing after this is billed.
    pub reported_at: Timestamp,
    /// What was decided; nothing while it is open.
    pub outcome: Option<Outcome>,
}

impl Dispute {
    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.outcome {
            None => State::Open,
            Some(_) => State::Decided,
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was given back.
    pub refund: Amount,
    /// Why.
    pub reason: String,
    /// By whom.
    pub decided_by: UserId,
    /// When.
    pub decided_at: Timestamp,
}

/// Something that was said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its place, from 1.
    pub place: i64,
    /// By whom.
    pub author: Author,
    /// In these words.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// Checks what somebody wrote.
///
/// # Errors
/// 422 at `pointer`.
pub fn statement(pointer: &str, text: &str) -> Result<String> {
    let text = text.trim();
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.is_empty() || text.len() > STATEMENT_BYTES_MAX || text.chars().any(odd) {
        return Err(Error::invalid(
            pointer,
            format!("say what happened in 1 to {STATEMENT_BYTES_MAX} bytes of plain text"),
        ));
    }
    Ok(text.to_owned())
}

/// Whether a rental may be reported now: while it runs, and for `window_ms` after its money was split.
///
/// # Errors
/// 409 `payment_in_progress`, `rental_not_paid`, `dispute_window_over`.
pub fn reportable(rental: &Rental, now: Timestamp, window_ms: i64) -> Result<()> {
    if rental.state == RentalState::Reserved {
        return Err(Error::conflict(
            "payment_in_progress",
            "it is being paid: wait for the payment to end",
        ));
    }
    if rental.paid_at.is_none() {
        return Err(Error::conflict(
            "rental_not_paid",
            "this rental was never paid: there is nothing to dispute",
        ));
    }
    let over = rental
        .settled_at
        .is_some_and(|settled| now.ms_since(settled) > window_ms);
    if over {
        return Err(Error::conflict(
            "dispute_window_over",
            "it ended too long ago: what it earned is its provider's",
        ));
    }
    Ok(())
}

/// How much is to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All that was charged.
    All,
    /// Nothing.
    Nothing,
    /// So much.
    Exactly(Money),
}

impl Wanted {
    /// The amount, of a rental of whose charge `before` was given back already.
    ///
    /// # Errors
    /// 422 at `/refund` for another currency, or for more than is left of the charge.
    pub fn amount(&self, rental: &Rental, before: Amount) -> Result<Amount> {
        let left = rental.charged.minus(before)?;
        match self {
            Self::All => Ok(left),
            Self::Nothing => Ok(Amount::ZERO),
            Self::Exactly(money) if money.currency != rental.asset => {
                let code = rental.asset.code();
                Err(Error::invalid(
                    "/refund",
                    format!("the rental was paid in {code}"),
                ))
            }
            Self::Exactly(money) if money.amount > left => Err(Error::invalid(
                "/refund",
                format!("at most what was charged and not given back yet: {left}"),
            )),
            Self::Exactly(money) => Ok(money.amount),
        }
    }
}

/// Who bears what is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// The provider.
    pub of_provider: Amount,
    /// The platform, out of the fee that it took for this rental.
    pub of_fee: Amount,
    /// The platform, out of its other fees.
    pub goodwill: Amount,
}

impl Parts {
    /// All of it.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn total(&self) -> Result<Amount> {
        Ok(self.of_provider.plus(self.of_fee)?.plus(self.goodwill)?)
    }

    /// Both together.
    ///
    /// # Errors
    /// They don't fit.
    pub fn plus(&self, other: &Self) -> Result<Self> {
        Ok(Self {
            of_provider: self.of_provider.plus(other.of_provider)?,
            of_fee: self.of_fee.plus(other.of_fee)?,
            goodwill: self.goodwill.plus(other.goodwill)?,
        })
    }
}

/// Shares `refund` of what was `charged` between provider and fee as the charge was shared: the fee's part is rounded down. What the
/// provider doesn't have any more (`provider_has`) is the platform's goodwill.
///
/// # Errors
/// More is to be given back than was charged.
pub fn parts(refund: Amount, charged: Amount, fee: Amount, provider_has: Amount) -> Result<Parts> {
    if refund.is_zero() {
        return Ok(Parts::default());
    }
    charged.minus(refund)?;
    let share = i128::from(fee.atomic())
        .checked_mul(i128::from(refund.atomic()))
        .and_then(|product| product.checked_div(i128::from(charged.atomic())))
        .and_then(|share| i64::try_from(share).ok())
        .ok_or(shared::money::AmountOverflow)?;
    let of_fee = Amount::from_atomic(share)?;
    let owed = refund.minus(of_fee)?;
    let of_provider = owed.min(provider_has);
    Ok(Parts {
        of_provider,
        of_fee,
        goodwill: owed.minus(of_provider)?,
    })
}

#[cfg(test)]
mod tests;
