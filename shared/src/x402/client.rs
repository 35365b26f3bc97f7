//! How a client pays: choose terms within its limits, sign, and make the header.
//!
//! # Invariants
//! - Only known networks and their tokens are paid with, in the currency that the caller names, and never more than the caller's limit: terms come from a
//!   server that isn't trusted.
//! - A payment is made once and repeated as it is: payer and nonce are what makes a repetition harmless.

use serde_json::json;

use super::{
    SCHEME_EXACT,
    authorization::{Authorization, ExactPayload},
    header,
    network::{self, Network, Token},
    signature::{PayerKey, SignatureError},
    wire_v1, wire_v2,
};
use crate::{
    money::{Amount, Asset},
    time::Timestamp,
};

/// Longest validity that is signed, seconds, whatever the terms say.
const VALID_FOR_S_MAX: i64 = 600;

/// Why nothing was paid.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Refusal {
    /// None of the offered ways is one that we can pay.
    #[error("none of the offered ways to pay is `exact` with {asset} on a known network")]
    NoKnownTerms {
        /// The currency to pay with.
        asset: Asset,
    },
    /// The cheapest known way costs more than the limit.
    #[error("the price is {price} {asset}, above the limit of {limit} {asset}")]
    AboveLimit {
        /// The currency of both.
        asset: Asset,
        /// What is asked.
        price: Amount,
        /// What the caller allows.
        limit: Amount,
    },
    /// The key can't sign.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Terms that can be paid, chosen from an offer.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Where.
    pub network: &'static Network,
    /// With what.
    pub token: &'static Token,
    /// How much.
    pub amount: Amount,
    requirements: wire_v2::PaymentRequirements,
    pay_to: super::address::Address,
    resource: wire_v2::ResourceInfo,
    extensions: Option<wire_v2::Object>,
}

/// A signed payment.
#[derive(Debug, Clone)]
pub struct SignedPayment {
    /// For version 2: the value of `PAYMENT-SIGNATURE`.
    pub header_v2: String,
    /// For version 1: the value of `X-PAYMENT`.
    pub header_v1: String,
    /// What was signed.
    pub authorization: Authorization,
}

/// Chooses the cheapest of the terms in USDC that can be paid.
///
/// # Errors
/// None is known, or the cheapest is above `limit`.
pub fn choose(offer: &wire_v2::PaymentRequired, limit: Amount) -> Result<Chosen, Refusal> {
    choose_in(offer, Asset::USDC, limit)
}

/// Chooses the cheapest of the terms in a currency that can be paid.
///
/// # Errors
/// None is known, or the cheapest is above `limit`.
pub fn choose_in(
    offer: &wire_v2::PaymentRequired,
    asset: Asset,
    limit: Amount,
) -> Result<Chosen, Refusal> {
    let chosen = offer
        .accepts
        .iter()
        .filter_map(|requirements| payable(offer, requirements))
        .filter(|chosen| chosen.token.asset == asset)
        .min_by_key(|chosen| chosen.amount)
        .ok_or(Refusal::NoKnownTerms { asset })?;
    if chosen.amount > limit {
        return Err(Refusal::AboveLimit {
            asset,
            price: chosen.amount,
            limit,
        });
    }
    Ok(chosen)
}

fn payable(
    offer: &wire_v2::PaymentRequired,
    requirements: &wire_v2::PaymentRequirements,
) -> Option<Chosen> {
    let network = network::by_caip2(&requirements.network)?;
    let token = network.token_at(&requirements.asset.parse().ok()?)?;
    let says = |key: &str, value: &str| {
        let extra = requirements.extra.as_ref();
        extra
            .and_then(|extra| extra.get(key))
            .and_then(|v| v.as_str())
            == Some(value)
    };
    let known = requirements.scheme == SCHEME_EXACT
        && says("name", token.eip712_name)
        && says("version", token.eip712_version);
    let amount = requirements.amount.parse().ok()?;
    known
        .then(|| {
            Some(Chosen {
                network,
                token,
                amount: Amount::from_atomic(amount).ok()?,
                requirements: requirements.clone(),
                pay_to: requirements.pay_to.parse().ok()?,
                resource: offer.resource.clone(),
                extensions: offer.extensions.clone(),
            })
        })
        .flatten()
}

impl Chosen {
    /// Signs a payment under `nonce`, which must be random and new.
    ///
    /// # Errors
    /// The key can't sign.
    pub fn pay(
        &self,
        key: &PayerKey,
        nonce: [u8; 32],
        now: Timestamp,
    ) -> Result<SignedPayment, Refusal> {
        let valid_for_s = self
            .requirements
            .max_timeout_seconds
            .clamp(0, VALID_FOR_S_MAX);
        let seconds = |s: i64| u128::try_from(s).unwrap_or(0);
        let authorization = Authorization {
            from: key.address(),
            to: self.pay_to,
            value: seconds(self.amount.atomic()),
            valid_after: 0,
            valid_before: seconds(now.as_secs().saturating_add(valid_for_s)),
            nonce,
        };
        let digest = authorization.digest(self.network.chain_id, self.token);
        let payload = json!(ExactPayload::new(&authorization, &key.sign(&digest)?));
        Ok(SignedPayment {
            header_v2: header::encode(&wire_v2::PaymentPayload {
                x402_version: wire_v2::VERSION,
                payload: payload.clone(),
                resource: Some(json!(self.resource)),
                accepted: self.requirements.clone(),
                extensions: self.extensions.clone(),
            }),
            header_v1: header::encode(&wire_v1::PaymentPayload {
                x402_version: wire_v1::VERSION,
                scheme: SCHEME_EXACT.to_owned(),
                network: self.network.v1_name.to_owned(),
                payload,
            }),
            authorization,
        })
    }
}
