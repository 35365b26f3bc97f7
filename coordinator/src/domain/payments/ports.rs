//! What payments need from outside: someone who moves the money.
//!
//! # Invariants
//! - [`Facilitator::settle`] may be repeated with the identical request: it never moves money twice.
//! - `Refused` is said only when the money has certainly not moved; everything doubtful is `Unknown`, and the caller asks
//!   again later.

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;
use shared::{
    id::PaymentId,
    x402::{address::Address, terms::Terms},
};

/// A payment to be verified or settled.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// Which of our payments it is: the `payment-identifier`.
    pub payment_id: PaymentId,
    /// What was offered, from our own records.
    pub terms: Terms,
    /// What the client sent, verbatim.
    pub payload: Value,
    /// Protocol version of the payload, 1 or 2.
    pub version: i64,
}

/// What a facilitator says about a payment before it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// It could be settled now.
    Valid {
        /// Who pays.
        payer: Address,
    },
    /// It can't.
    Invalid {
        /// An opaque code.
        reason: String,
    },
    /// No answer that can be relied on.
    Unknown {
        /// For the log.
        detail: String,
    },
}

/// What became of the money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// It has moved.
    Settled {
        /// In which transaction of the network.
        transaction: String,
        /// Who paid.
        payer: Address,
    },
    /// It hasn't moved and won't by this request.
    Refused {
        /// An opaque code.
        reason: String,
    },
    /// It may have moved, or may still.
    Unknown {
        /// For the log.
        detail: String,
    },
}

/// Verifies and settles payments.
#[async_trait]
pub trait Facilitator: Send + Sync + Debug {
    /// Whether the payment could be settled now. Moves nothing.
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome;

    /// Moves the money, once however often it is asked.
    async fn settle(&self, request: &SettleRequest) -> SettleOutcome;

    /// Which one it is, for records and logs: `sandbox`, or a host name.
    fn name(&self) -> &str;
}
