//! What a client presented, read but not yet checked.
//!
//! # Invariants
//! - Two presentations of one signed authorization, in whatever version, key order or letter case, have the same
//!   [`Identity`] and the same `payload_sha256`.
//! - `verbatim` is what goes to a facilitator: nothing of the client's JSON is dropped.

use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    address::Address,
    authorization::{Authorization, ExactPayload, MalformedPayload},
    network::{self, Network, Token},
    signature::PaymentSignature,
    wire_v1,
    wire_v2::{self, PaymentRequirements},
};

/// Longest signature that is read, as text; longer ones are of smart wallets.
const SIGNATURE_CHARS_MAX: usize = 4 * 1024;

/// The protocol's version that the client speaks, and what only that version says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    /// `X-PAYMENT`.
    V1 {
        /// `exact`, if the client is right.
        scheme: String,
        /// The network's version 1 name.
        network: String,
    },
    /// `PAYMENT-SIGNATURE`.
    V2 {
        /// The terms that the client says it accepts.
        accepted: PaymentRequirements,
    },
}

/// A payment as presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedPayment {
    /// In which version.
    pub spoken: Spoken,
    /// What was signed.
    pub authorization: Authorization,
    /// The signature as the client wrote it, lower case.
    pub signature: String,
    /// The whole JSON.
    pub verbatim: Value,
}

/// What makes a payment the same payment: the token's contract takes each of these once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The chain.
    pub network: &'static Network,
    /// The token.
    pub asset: Address,
    /// Who pays.
    pub payer: Address,
    /// The payer's number for it.
    pub nonce: [u8; 32],
    /// SHA-256 over the canonical form: network, asset, every field of the authorization, signature. A payment with
    /// the rest equal but another value here isn't a repetition: it is another payload under the same nonce.
    pub payload_sha256: [u8; 32],
}

impl Identity {
    /// The nonce as the wire writes it: `0x` and 64 digits.
    #[must_use]
    pub fn nonce_hex(&self) -> String {
        format!("0x{}", hex::encode(self.nonce))
    }
}

impl PresentedPayment {
    /// Reads a decoded payment; its `x402Version` says in which form it is.
    ///
    /// # Errors
    /// Which field can't be read.
    pub fn from_json(verbatim: Value) -> Result<Self, MalformedPayload> {
        match verbatim.get("x402Version").and_then(Value::as_i64) {
            Some(wire_v1::VERSION) => {
                let wire: wire_v1::PaymentPayload = read("payload", &verbatim)?;
                let spoken = Spoken::V1 {
                    scheme: wire.scheme,
                    network: wire.network,
                };
                Self::new(spoken, &wire.payload, verbatim)
            }
            Some(wire_v2::VERSION) => {
                let wire: wire_v2::PaymentPayload = read("payload", &verbatim)?;
                let spoken = Spoken::V2 {
                    accepted: wire.accepted,
                };
                Self::new(spoken, &wire.payload, verbatim)
            }
            _ => Err(MalformedPayload::new("x402Version", "expected 1 or 2")),
        }
    }

    fn new(spoken: Spoken, payload: &Value, verbatim: Value) -> Result<Self, MalformedPayload> {
        let exact: ExactPayload = read("payload", payload)?;
        if exact.signature.len() > SIGNATURE_CHARS_MAX {
            return Err(MalformedPayload::new("signature", "it is too long"));
        }
        Ok(Self {
            spoken,
            authorization: Authorization::try_from(&exact.authorization)?,
            signature: exact.signature.to_ascii_lowercase(),
            verbatim,
        })
    }

    /// 1 or 2.
    #[must_use]
    pub const fn version(&self) -> i64 {
        match self.spoken {
            Spoken::V1 { .. } => wire_v1::VERSION,
            Spoken::V2 { .. } => wire_v2::VERSION,
        }
    }

    /// The terms that a version 2 client accepted.
    #[must_use]
    pub const fn accepted(&self) -> Option<&PaymentRequirements> {
        match &self.spoken {
            Spoken::V1 { .. } => None,
            Spoken::V2 { accepted } => Some(accepted),
        }
    }

    /// Under which key it is stored, or `None` when the client names a network or a token that we don't know: then it
    /// can't satisfy any terms either. Version 1 doesn't name the token: it is the one that the payer signed for.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let (network, asset) = match &self.spoken {
            Spoken::V1 { network, .. } => {
                let network = network::by_v1_name(network)?;
                (network, self.signed_token(network)?.address)
            }
            Spoken::V2 { accepted } => {
                let network = network::by_caip2(&accepted.network)?;
                (network, accepted.asset.parse().ok()?)
            }
        };
        Some(Identity {
            network,
            asset,
            payer: self.authorization.from,
            nonce: self.authorization.nonce,
            payload_sha256: self.sha256(network, &asset),
        })
    }

    /// The token over whose domain the payer's signature is, or the network's first one if it is over none.
    fn signed_token(&self, network: &Network) -> Option<&'static Token> {
        let signature = self.signature.parse::<PaymentSignature>().ok();
        let signed = network.tokens.iter().find(|token| {
            let digest = self.authorization.digest(network.chain_id, token);
            let signer = signature.as_ref().map(|s| s.recover(&digest));
            matches!(signer, Some(Ok(signer)) if signer == self.authorization.from)
        });
        signed.or_else(|| network.tokens.first())
    }

    fn sha256(&self, network: &Network, asset: &Address) -> [u8; 32] {
        let signed = &self.authorization;
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(b"ramarket/x402-exact/v1\0");
        bytes.extend_from_slice(&network.chain_id.to_be_bytes());
        bytes.extend_from_slice(asset.as_bytes());
        bytes.extend_from_slice(signed.from.as_bytes());
        bytes.extend_from_slice(signed.to.as_bytes());
        for number in [signed.value, signed.valid_after, signed.valid_before] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&signed.nonce);
        bytes.extend_from_slice(self.signature.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        hash
    }
}

fn read<T: DeserializeOwned>(field: &'static str, json: &Value) -> Result<T, MalformedPayload> {
    T::deserialize(json).map_err(|error| MalformedPayload::new(field, error))
}
