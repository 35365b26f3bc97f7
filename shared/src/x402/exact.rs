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
    network::Token,
    payment::{Identity, PresentedPayment, Spoken},
    signature::{PaymentSignature, SignatureError},
    terms::Terms,
};
use crate::time::Timestamp;

/// Seconds that a payment must still be valid for when it is presented: time to settle it.
pub const VALID_FOR_S_MIN: i64 = 60;
/// Seconds that a facilitator wants it to be valid for when it sends the transaction.
pub const SETTLE_VALID_FOR_S_MIN: i64 = 6;
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
    #[error("the payment expires too soon: it must be valid for another {0} s at least")]
    ExpiresTooSoon(i64),
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
            Self::ExpiresTooSoon(_) | Self::ExpiresTooLate => {
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
    /// When it began to be valid: seconds since the Unix epoch.
    pub valid_after_s: i64,
    /// When it ends to be valid: seconds since the Unix epoch. Until then a lost payment may still be taken.
    pub valid_before_s: i64,
}

/// Checks a payment that is presented at the moment `now` against the terms.
///
/// # Errors
/// The first check that fails.
pub fn check(
    terms: &Terms,
    payment: &PresentedPayment,
    now: Timestamp,
) -> Result<VerifiedPayment, Reject> {
    check_valid_for(terms, payment, now, VALID_FOR_S_MIN)
}

/// The same for a facilitator about to settle: the payment must be valid for [`SETTLE_VALID_FOR_S_MIN`] only.
///
/// # Errors
/// The first check that fails.
pub fn check_to_settle(
    terms: &Terms,
    payment: &PresentedPayment,
    now: Timestamp,
) -> Result<VerifiedPayment, Reject> {
    check_valid_for(terms, payment, now, SETTLE_VALID_FOR_S_MIN)
}

fn check_valid_for(
    terms: &Terms,
    payment: &PresentedPayment,
    now: Timestamp,
    valid_for_s_min: i64,
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
    check_sum(terms, &payment.authorization)?;
    let (valid_after_s, valid_before_s) =
        check_times(&payment.authorization, now, valid_for_s_min)?;
    check_signature(terms.network.chain_id, &terms.asset, payment)?;
    Ok(VerifiedPayment {
        identity,
        authorization: payment.authorization,
        valid_after_s,
        valid_before_s,
    })
}

/// Checks that the payer signed a payment, whatever it pays for and whenever: for whoever asks in the payer's name.
///
/// # Errors
/// An unknown network or token, or the signature isn't the payer's.
pub fn check_payer(payment: &PresentedPayment) -> Result<Identity, Reject> {
    let identity = payment.identity().ok_or(Reject::Network)?;
    let network = identity.network;
    let token = network
        .token_at(&identity.asset)
        .ok_or(Reject::Accepted { field: "asset" })?;
    check_signature(network.chain_id, token, payment)?;
    Ok(identity)
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

fn check_sum(terms: &Terms, signed: &Authorization) -> Result<(), Reject> {
    if signed.to != terms.pay_to {
        return Err(Reject::Recipient);
    }
    if i64::try_from(signed.value) != Ok(terms.amount.atomic()) {
        return Err(Reject::Value {
            value: signed.value,
            amount: terms.amount.atomic(),
        });
    }
    Ok(())
}

fn check_times(
    signed: &Authorization,
    now: Timestamp,
    valid_for_s_min: i64,
) -> Result<(i64, i64), Reject> {
    let now_s = now.as_secs();
    let valid_before_s = i64::try_from(signed.valid_before).map_err(|_| Reject::ExpiresTooLate)?;
    let valid_after_s = i64::try_from(signed.valid_after).map_err(|_| Reject::NotYetValid)?;
    if valid_before_s < now_s.saturating_add(valid_for_s_min) {
        Err(Reject::ExpiresTooSoon(valid_for_s_min))
    } else if valid_before_s > now_s.saturating_add(VALID_FOR_S_MAX) {
        Err(Reject::ExpiresTooLate)
    } else if valid_after_s > now_s {
        Err(Reject::NotYetValid)
    } else {
        Ok((valid_after_s, valid_before_s))
    }
}

fn check_signature(chain_id: u64, token: &Token, payment: &PresentedPayment) -> Result<(), Reject> {
    let reject = |error: SignatureError| Reject::Signature(error.to_string());
    let signature: PaymentSignature = payment.signature.parse().map_err(reject)?;
    let digest = payment.authorization.digest(chain_id, token);
    let signer = signature.recover(&digest).map_err(reject)?;
    if signer == payment.authorization.from {
        Ok(())
    } else {
        Err(Reject::Signature(format!(
            "it was made by {signer}, or over another message"
        )))
    }
}
