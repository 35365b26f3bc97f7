//! Quotes, payments and the payment's state machine.
//!
//! # Invariants
//! - A payment is credited at most once, and only after a settlement was seen.
//! - What isn't definitely settled or definitely refused is [`PaymentState::Pending`]: it is asked again, never guessed.

use shared::{
    id::{PaymentId, QuoteId},
    image::rules::PinnedImage,
    money::{Amount, Asset},
    time::Timestamp,
    x402::{
        address::Address,
        network::{Network, Token},
        terms::{Resource, Terms},
    },
};

pub use super::purpose::{Purpose, Slice, Target};
use super::ways::Way;
use crate::error::{Error, Result};

/// A priced order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Which.
    pub id: QuoteId,
    /// For what.
    pub purpose: Purpose,
    /// The image that it was made for, if its registry was asked.
    pub image: Option<PinnedImage>,
    /// Hash of the request that was answered with it.
    pub request_sha256: [u8; 32],
    /// What must be paid.
    pub amount: Amount,
    /// In which currency.
    pub asset: Asset,
    /// On which network.
    pub network: &'static Network,
    /// With which token.
    pub token: Token,
    /// To whom.
    pub pay_to: Address,
    /// What it may be paid with instead.
    pub others: Vec<Way>,
    /// The payment that used it.
    pub payment_id: Option<PaymentId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it may be used.
    pub expires_at: Timestamp,
}

/// How long a client may let its authorization be valid, seconds. Facilitators and we ourselves want time left to settle.
pub const MAX_TIMEOUT_S: i64 = 300;

impl Quote {
    /// The x402 terms of this quote; `public_url` has no slash at its end.
    #[must_use]
    pub fn terms(&self, public_url: &str) -> Terms {
        let play = if self.network.testnet {
            " (test network: play money)"
        } else {
            ""
        };
        Terms {
            network: self.network,
            asset: self.token,
            pay_to: self.pay_to,
            amount: self.amount,
            max_timeout_s: MAX_TIMEOUT_S,
            resource: Resource {
                url: format!("{public_url}{}", self.purpose.path()),
                description: format!("{}{play}", self.purpose.description()),
                mime_type: "application/json".to_owned(),
            },
        }
    }

    /// The platform's part of the price; a balance is filled for nothing.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn platform_fee(&self) -> Result<Amount> {
        let fee_bps = self.purpose.slice().map_or(0, |slice| slice.fee_bps);
        Ok(self.amount.basis_points(fee_bps)?)
    }
}

/// Where a payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentState {
    /// Durable, and its capacity reserved; nobody was asked yet.
    Received,
    /// The facilitator says that it could be settled.
    Verified,
    /// The facilitator is being asked to settle.
    Settling,
    /// The outcome isn't known: it will be asked again.
    Pending,
    /// Settled and in the books: one step.
    Credited,
    /// Definitely not paid.
    Rejected,
    /// Never settled, and no longer can be.
    Expired,
}

/// What happens to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentEvent {
    /// The facilitator accepted the signature.
    Verify,
    /// We are about to ask for settlement.
    BeginSettle,
    /// No answer, or an unclear one.
    Unclear,
    /// The facilitator settled.
    Settle,
    /// The facilitator refused for good.
    Refuse,
    /// Its time is over and it was never settled.
    Expire,
}

impl PaymentState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Received,
        Self::Verified,
        Self::Settling,
        Self::Pending,
        Self::Credited,
        Self::Rejected,
        Self::Expired,
    ];

    /// The name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Settling => "settling",
            Self::Pending => "pending",
            Self::Credited => "credited",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Credited | Self::Rejected | Self::Expired)
    }

    /// The next state.
    ///
    /// # Errors
    /// Internal for an event that can't happen in this state.
    pub fn next(self, event: PaymentEvent) -> Result<Self> {
        use PaymentEvent as E;
        match (self, event) {
            (Self::Received, E::Verify) => Ok(Self::Verified),
            (Self::Verified | Self::Settling | Self::Pending, E::BeginSettle) => Ok(Self::Settling),
            (Self::Received, E::Unclear) => Ok(Self::Received),
            (Self::Settling | Self::Pending, E::Unclear) => Ok(Self::Pending),
            (Self::Settling | Self::Pending, E::Settle) => Ok(Self::Credited),
            (Self::Received | Self::Verified | Self::Settling | Self::Pending, E::Refuse) => {
                Ok(Self::Rejected)
            }
            // once settlement was asked for, only an answer may end it: the money may have moved
            (Self::Received | Self::Verified, E::Expire) => Ok(Self::Expired),
            (state, event) => Err(Error::internal(format!(
                "payment: {event:?} can't happen in {state:?}"
            ))),
        }
    }
}

/// A payment.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    /// Which.
    pub id: PaymentId,
    /// What it pays.
    pub quote_id: QuoteId,
    /// Where the money goes.
    pub target: Target,
    /// CAIP-2.
    pub network: String,
    /// Token address.
    pub token: String,
    /// Whose money.
    pub payer: String,
    /// `0x` and 64 digits.
    pub nonce: String,
    /// To whom.
    pub pay_to: String,
    /// How much.
    pub amount: Amount,
    /// From when the authorization holds, seconds since the Unix epoch.
    pub valid_after_s: i64,
    /// Until when.
    pub valid_before_s: i64,
    /// 1 or 2.
    pub x402_version: i64,
    /// What the client sent, verbatim JSON.
    pub payload: String,
    /// What was signed and the signature.
    pub payload_sha256: [u8; 32],
    /// Where it is.
    pub state: PaymentState,
    /// How often settlement was asked for.
    pub attempts: i64,
    /// The settlement's transaction.
    pub tx_hash: Option<String>,
    /// Which of its transfers, if a chain was asked.
    pub log_index: Option<i64>,
    /// Why it isn't settled.
    pub last_error: Option<String>,
    /// When it is looked at again.
    pub next_try_at: Timestamp,
    /// When it arrived.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

impl Payment {
    /// Whether its authorization is over without anybody having been asked to settle it. Once somebody was, only an answer counts.
    #[must_use]
    pub fn can_no_longer_be_settled(&self, now: Timestamp) -> bool {
        matches!(self.state, PaymentState::Received | PaymentState::Verified)
            && self.valid_before_s <= now.as_secs()
    }
}

/// How long to wait before asking again: 1, 2, 4 … 60 seconds.
#[must_use]
pub fn retry_delay_ms(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(0, 6)).unwrap_or(6);
    2_i64
        .saturating_pow(doublings)
        .min(60)
        .saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_decided() {
        use PaymentEvent as E;
        use PaymentState as S;
        let allowed = [
            (S::Received, E::Verify, S::Verified),
            (S::Received, E::Unclear, S::Received),
            (S::Received, E::Refuse, S::Rejected),
            (S::Received, E::Expire, S::Expired),
            (S::Verified, E::BeginSettle, S::Settling),
            (S::Verified, E::Refuse, S::Rejected),
            (S::Verified, E::Expire, S::Expired),
            (S::Settling, E::BeginSettle, S::Settling),
            (S::Settling, E::Unclear, S::Pending),
            (S::Settling, E::Settle, S::Credited),
            (S::Settling, E::Refuse, S::Rejected),
            (S::Pending, E::BeginSettle, S::Settling),
            (S::Pending, E::Unclear, S::Pending),
            (S::Pending, E::Settle, S::Credited),
            (S::Pending, E::Refuse, S::Rejected),
        ];
        for state in S::ALL {
            for event in [
                E::Verify,
                E::BeginSettle,
                E::Unclear,
                E::Settle,
                E::Refuse,
                E::Expire,
            ] {
                let expected = allowed
                    .iter()
                    .find(|(s, e, _)| (*s, *e) == (state, event))
                    .map(|(_, _, to)| *to);
                assert_eq!(state.next(event).ok(), expected, "{state:?} {event:?}");
            }
            assert_eq!(PaymentState::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn waiting_grows_to_a_minute() {
        assert_eq!(
            [0, 1, 2, 6, 60].map(retry_delay_ms),
            [1_000, 2_000, 4_000, 60_000, 60_000]
        );
    }
}
