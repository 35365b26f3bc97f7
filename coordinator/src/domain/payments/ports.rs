//! What payments need from outside: someone who moves the money.
//!
//! # Invariants
//! - [`Facilitator::settle`] may be repeated with the identical request: it never moves money twice.
//! - `Refused` is said only when the money has certainly not moved; everything doubtful is `Unknown`, and the caller asks
//!   again later.

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;
use shared::x402::{
    address::Address,
    network::{Network, Token},
    terms::Terms,
};

/// A payment to be verified or settled.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// Which of our payments or payouts it is: the `payment-identifier`.
    pub reference: String,
    /// What was offered, from our own records.
    pub terms: Terms,
    /// What the client sent, verbatim.
    pub payload: Value,
    /// Protocol version of the payload, 1 or 2.
    pub version: i64,
    /// Whether settling it was asked for before this time, without a clear answer.
    pub asked_before: bool,
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
        /// Which of its transfers, where a chain was asked: the place of its log in the block.
        log_index: Option<i64>,
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

/// Whether a facilitator can be paid through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// It settles `exact` payments on this network.
    Yes,
    /// It says that it doesn't.
    No,
    /// No answer that can be relied on.
    Unknown {
        /// For the log.
        detail: String,
    },
}

/// What a chain shows of a signed authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnChain {
    /// Its nonce is used, deep enough to stay so.
    Used {
        /// By which transaction.
        transaction: String,
        /// The place in the block of the transfer that belongs to it, if there is one. One transaction may use several authorizations; each
        /// has a transfer of its own.
        log_index: Option<i64>,
        /// Whether that moved the whole amount from the payer to us.
        paid: bool,
    },
    /// Its nonce isn't used, deep enough to stay so.
    Unused {
        /// Whether it can no longer be: its time is over on the chain.
        expired: bool,
    },
    /// No answer that can be relied on.
    Unknown {
        /// For the log.
        detail: String,
    },
}

/// Whether a token's contract signs by the EIP-712 domain that our settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// It does.
    Same,
    /// It doesn't: nothing that is signed by ours is taken by it.
    Differs {
        /// What it says itself.
        detail: String,
    },
    /// No answer that can be relied on.
    Unknown {
        /// For the log.
        detail: String,
    },
}

/// Looks at a chain itself.
#[async_trait]
pub trait Chain: Send + Sync + Debug {
    /// What became of a payment's authorization.
    async fn look(&self, request: &SettleRequest) -> OnChain;

    /// What the contract of a token says of its own EIP-712 domain.
    async fn domain(&self, network: &'static Network, token: &Token) -> Domain {
        Domain::Unknown {
            detail: format!("nobody asks {} on {}", token.address, network.caip2),
        }
    }

    /// How much of a token an address has, atomic units, deep enough to stay so.
    ///
    /// # Errors
    /// For the log: no answer that can be relied on.
    async fn balance(
        &self,
        network: &'static Network,
        token: &Token,
        of: &Address,
    ) -> Result<i64, String> {
        Err(format!(
            "nobody knows what {of} has of {} on {}",
            token.address, network.caip2
        ))
    }
}

/// Verifies and settles payments.
#[async_trait]
pub trait Facilitator: Send + Sync + Debug {
    /// Whether the payment could be settled now. Moves nothing.
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome;

    /// Moves the money, once however often it is asked.
    async fn settle(&self, request: &SettleRequest) -> SettleOutcome;

    /// Whether it settles payments on a network.
    async fn supports(&self, network: &'static Network) -> Support;

    /// Which one it is, for records and logs: `sandbox`, or a host name.
    fn name(&self) -> &str;
}
