//! What a payer signs: `TransferWithAuthorization` of EIP-3009, and its text form on the wire.
//!
//! # Invariants
//! - (chain, token, `from`, `nonce`) is used at most once, by the token's contract: it identifies a payment.
//! - Numbers are decimal digits on the wire, 128 bits here: larger ones could never be paid and are refused.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{address::Address, eip712, network::Token, signature::PaymentSignature};

/// A permission to move money once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorization {
    /// Who pays.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// Atomic units of the token.
    pub value: u128,
    /// Not valid until after this moment: seconds since the Unix epoch.
    pub valid_after: u128,
    /// Valid before this moment: seconds since the Unix epoch.
    pub valid_before: u128,
    /// Chosen by the payer at random.
    pub nonce: [u8; 32],
}

impl Authorization {
    /// The EIP-712 digest for `token` on the chain `chain_id`.
    #[must_use]
    pub fn digest(&self, chain_id: u64, token: &Token) -> [u8; 32] {
        eip712::digest(chain_id, token, self)
    }
}

/// Why what a client sent can't be read as a payment by `exact`.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("the payment's `{field}` can't be read: {why}")]
pub struct MalformedPayload {
    /// Which field.
    pub field: &'static str,
    /// What is expected there.
    pub why: String,
}

impl MalformedPayload {
    pub(super) fn new(field: &'static str, why: impl fmt::Display) -> Self {
        Self {
            field,
            why: why.to_string(),
        }
    }
}

/// The scheme's part of a payload on the wire, the same in both versions:
/// `{"signature":"0x…","authorization":{"from":"0x…","to":"0x…","value":"10000","validAfter":"0","validBefore":"17…","nonce":"0x…"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactPayload {
    /// 65 bytes as hex.
    pub signature: String,
    /// What was signed.
    pub authorization: WireAuthorization,
}

/// An authorization on the wire: everything is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireAuthorization {
    /// Address.
    pub from: String,
    /// Address.
    pub to: String,
    /// Decimal.
    pub value: String,
    /// Decimal.
    pub valid_after: String,
    /// Decimal.
    pub valid_before: String,
    /// 32 bytes as hex.
    pub nonce: String,
}

impl ExactPayload {
    /// The wire form.
    #[must_use]
    pub fn new(authorization: &Authorization, signature: &PaymentSignature) -> Self {
        Self {
            signature: signature.to_string(),
            authorization: WireAuthorization {
                from: authorization.from.to_string(),
                to: authorization.to.to_string(),
                value: authorization.value.to_string(),
                valid_after: authorization.valid_after.to_string(),
                valid_before: authorization.valid_before.to_string(),
                nonce: format!("0x{}", hex::encode(authorization.nonce)),
            },
        }
    }
}

impl TryFrom<&WireAuthorization> for Authorization {
    type Error = MalformedPayload;

    fn try_from(wire: &WireAuthorization) -> Result<Self, MalformedPayload> {
        Ok(Self {
            from: address("authorization.from", &wire.from)?,
            to: address("authorization.to", &wire.to)?,
            value: number("authorization.value", &wire.value)?,
            valid_after: number("authorization.validAfter", &wire.valid_after)?,
            valid_before: number("authorization.validBefore", &wire.valid_before)?,
            nonce: nonce(&wire.nonce)?,
        })
    }
}

fn address(field: &'static str, text: &str) -> Result<Address, MalformedPayload> {
    text.parse()
        .map_err(|error| MalformedPayload::new(field, error))
}

fn number(field: &'static str, text: &str) -> Result<u128, MalformedPayload> {
    // `parse` alone would take a leading `+`
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| MalformedPayload::new(field, "write a decimal number of at most 128 bits"))
}

fn nonce(text: &str) -> Result<[u8; 32], MalformedPayload> {
    let mut bytes = [0; 32];
    text.strip_prefix("0x")
        .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
        .ok_or_else(|| {
            MalformedPayload::new("authorization.nonce", "write 0x and 64 hexadecimal digits")
        })?;
    Ok(bytes)
}
