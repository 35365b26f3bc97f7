//! Does a presented payment satisfy the terms? The checks that a payee makes itself, before any facilitator is asked.
//!
//! # Invariants
//! - Pure: the same terms, payment and moment give the same answer.
//! - A facilitator compares a payment with the terms that *we* hand it and doesn't notice that the client accepted
//!   others; so `accepted` is compared here, field by field.
//! - Nothing in a signature names the resource: whoever calls this has looked the terms up from its own records, and
//!   reserves the payment's identity before it acts.

use super::{
    SCHEME_EXACT,
    authorization::Authorization,
    payment::{Identity, PresentedPayment, Spoken},
    signature::{PaymentSignature, SignatureError},
    terms::Terms,
};
use crate::time::Timestamp;

/// Seconds that a payment must still be valid for: time to settle it.
pub const VALID_FOR_S_MIN: i64 = 60;
/// Seconds that a payment may be valid for: how long a lost one could still be taken.
pub const VALID_FOR_S_MAX: i64 = 15 * 60;

/// Why a payment doesn't satisfy the terms.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Reject {
    /// Another scheme than `exact`.
    #[error("the payment is by another scheme than exact")]
    Scheme,
    /// Another network than offered.
    #[error("the payment is for another network than was offered")]
    Network,
    /// The terms that the client accepted aren't those of the offer.
    #[error("the payment accepts other terms than were offered: `{field}` differs")]
    Accepted {
        /// Which field differs.
        field: &'static str,
    },
    /// Pays somebody else.
    #[error("the payment is for another recipient")]
    Recipient,
    /// Another sum than the terms'.
    #[error("the payment is over {value} atomic units, but {amount} were asked")]
    Value {
        /// What was signed.
        value: u128,
        /// What was asked.
        amount: i64,
    },
    /// Expires too soon to be settled.
    #[error("the payment expires too soon: it must be valid for another 60 s at least")]
    ExpiresTooSoon,
    /// Is valid for longer than we allow.
    #[error("the payment is valid for too long: 15 min are allowed")]
    ExpiresTooLate,
    /// Isn't valid yet.
    #[error("the payment isn't valid yet")]
    NotYetValid,
    /// The signature isn't the payer's.
    #[error("the payment's signature isn't the payer's: {0}")]
    Signature(String),
}

impl Reject {
    /// The code that facilitators use for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Scheme => "invalid_exact_evm_scheme",
            Self::Network => "invalid_exact_evm_network_mismatch",
            Self::Accepted { .. } => "invalid_payment_requirements",
            Self::Recipient => "invalid_exact_evm_recipient_mismatch",
            Self::Value { .. } => "invalid_exact_evm_payload_authorization_value_mismatch",
            Self::ExpiresTooSoon | Self::ExpiresTooLate => {
                "invalid_exact_evm_payload_authorization_valid_before"
            }
            Self::NotYetValid => "invalid_exact_evm_payload_authorization_valid_after",
            Self::Signature(_) => "invalid_exact_evm_signature",
        }
    }
}

/// A payment that satisfies the terms it was checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPayment {
    /// Its key.
    pub identity: Identity,
    /// What was signed, by `identity.payer`.
    pub authorization: Authorization,
}

/// Checks a payment against the terms at the moment `now`.
///
/// # Errors
/// The first check that fails.
pub fn check(
    terms: &Terms,
    payment: &PresentedPayment,
    now: Timestamp,
) -> Result<VerifiedPayment, Reject> {
    match &payment.spoken {
        Spoken::V1 { scheme, network } => check_named(terms.network.v1_name, scheme, network)?,
        Spoken::V2 { accepted } => {
            check_named(terms.network.caip2, &accepted.scheme, &accepted.network)?;
            check_accepted(terms, accepted)?;
        }
    }
    let identity = payment.identity().ok_or(Reject::Network)?;
    if identity.asset != terms.asset.address {
        return Err(Reject::Accepted { field: "asset" });
    }
    check_signed(terms, &payment.authorization, now)?;
    check_signature(terms, payment)?;
    Ok(VerifiedPayment {
        identity,
        authorization: payment.authorization,
    })
}

fn check_named(offered: &str, scheme: &str, network: &str) -> Result<(), Reject> {
    if scheme != SCHEME_EXACT {
        Err(Reject::Scheme)
    } else if network != offered {
        Err(Reject::Network)
    } else {
        Ok(())
    }
}

fn check_accepted(
    terms: &Terms,
    accepted: &super::wire_v2::PaymentRequirements,
) -> Result<(), Reject> {
    let offered = terms.requirements_v2();
    let equal = [
        ("amount", accepted.amount == offered.amount),
        ("asset", accepted.asset == offered.asset),
        ("payTo", accepted.pay_to == offered.pay_to),
        (
            "maxTimeoutSeconds",
            accepted.max_timeout_seconds == offered.max_timeout_seconds,
        ),
        ("extra", {
            // the client may have added to what we offered, but not changed it
            let (offered, accepted) = (offered.extra.unwrap_or_default(), &accepted.extra);
            offered
                .iter()
                .all(|(key, value)| accepted.as_ref().and_then(|a| a.get(key)) == Some(value))
        }),
    ];
    match equal.into_iter().find(|(_, equal)| !equal) {
        Some((field, _)) => Err(Reject::Accepted { field }),
        None => Ok(()),
    }
}

fn check_signed(terms: &Terms, signed: &Authorization, now: Timestamp) -> Result<(), Reject> {
    let seconds = |s: i64| u128::try_from(s).unwrap_or(0);
    if signed.to != terms.pay_to {
        return Err(Reject::Recipient);
    }
    if signed.value != seconds(terms.amount.atomic()) {
        return Err(Reject::Value {
            value: signed.value,
            amount: terms.amount.atomic(),
        });
    }
    if signed.valid_before < seconds(now.as_secs().saturating_add(VALID_FOR_S_MIN)) {
        return Err(Reject::ExpiresTooSoon);
    }
    if signed.valid_before > seconds(now.as_secs().saturating_add(VALID_FOR_S_MAX)) {
        return Err(Reject::ExpiresTooLate);
    }
    if signed.valid_after > seconds(now.as_secs()) {
        return Err(Reject::NotYetValid);
    }
    Ok(())
}

fn check_signature(terms: &Terms, payment: &PresentedPayment) -> Result<(), Reject> {
    let reject = |error: SignatureError| Reject::Signature(error.to_string());
    let signature: PaymentSignature = payment.signature.parse().map_err(reject)?;
    let digest = payment
        .authorization
        .digest(terms.network.chain_id, &terms.asset);
    let signer = signature.recover(&digest).map_err(reject)?;
    if signer == payment.authorization.from {
        Ok(())
    } else {
        Err(Reject::Signature(format!(
            "it was made by {signer}, or over another message"
        )))
    }
}
