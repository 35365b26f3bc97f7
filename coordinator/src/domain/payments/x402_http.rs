//! x402 in HTTP headers: reading what a client presents, and saying what is asked and what was received.
//!
//! # Invariants
//! - Pure: headers and values in, headers and values out.
//! - Every 402 speaks both versions, v2 in `PAYMENT-REQUIRED` and v1 in the body; every receipt has both headers.

use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};
use serde_json::{Value, json};
use shared::x402::{
    address::Address,
    authorization::MalformedPayload,
    header::{self, HeaderError},
    network::Network,
    payment::PresentedPayment,
    terms::Terms,
    wire_v2::{self, Object, SettleResponse},
};

use crate::error::{Error, Result};

/// The response headers that browsers must be allowed to read (CORS).
pub const EXPOSED: [HeaderName; 3] = [PAYMENT_REQUIRED, PAYMENT_RESPONSE, X_PAYMENT_RESPONSE];

const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static(header::PAYMENT_REQUIRED);
const PAYMENT_RESPONSE: HeaderName = HeaderName::from_static(header::PAYMENT_RESPONSE);
const X_PAYMENT_RESPONSE: HeaderName = HeaderName::from_static(header::X_PAYMENT_RESPONSE);

/// Why a payment header can't be used. The answer is a 402 with fresh terms and this as its `error`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    /// Several payments in one request: it isn't clear which one is meant.
    #[error(
        "the request carries more than one payment; send one PAYMENT-SIGNATURE or one X-PAYMENT"
    )]
    SeveralPayments,
    /// Not base64, not JSON, or too long.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// JSON, but no payment by `exact`.
    #[error(transparent)]
    Payload(#[from] MalformedPayload),
}

/// The payment that a request carries, if any.
///
/// # Errors
/// There is one, but it can't be read.
pub fn presented(headers: &HeaderMap) -> std::result::Result<Option<PresentedPayment>, Unreadable> {
    let mut values = [header::PAYMENT_SIGNATURE, header::X_PAYMENT]
        .into_iter()
        .flat_map(|name| headers.get_all(name));
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Unreadable::SeveralPayments);
    }
    let json: Value = header::decode(value.as_bytes())?;
    Ok(Some(PresentedPayment::from_json(json)?))
}

/// The parts of a 402.
#[derive(Debug)]
pub struct PaymentRequired {
    /// `PAYMENT-REQUIRED` and `Cache-Control`.
    pub headers: HeaderMap,
    /// Version 1's terms: a JSON object, to which more members may be added.
    pub body: Value,
}

impl PaymentRequired {
    /// Adds more ways to pay the same, in both versions.
    ///
    /// # Errors
    /// Internal if what was made before can't be read.
    pub fn also(&mut self, others: &[Terms]) -> Result<()> {
        if others.is_empty() {
            return Ok(());
        }
        let before = self
            .headers
            .get(PAYMENT_REQUIRED)
            .map(HeaderValue::as_bytes);
        let mut v2: wire_v2::PaymentRequired =
            header::decode(before.unwrap_or_default()).map_err(Error::internal)?;
        v2.accepts.extend(others.iter().map(Terms::requirements_v2));
        self.headers
            .insert(PAYMENT_REQUIRED, base64_value(header::encode(&v2)));
        if let Some(v1) = self.body["accepts"].as_array_mut() {
            v1.extend(others.iter().map(|terms| json!(terms.requirements_v1())));
        }
        Ok(())
    }
}

/// Asks for `terms`; `error` says why the request isn't served yet, `extensions` what else may be said with a payment.
#[must_use]
pub fn payment_required(terms: &Terms, error: &str, extensions: &Object) -> PaymentRequired {
    let mut headers = HeaderMap::new();
    headers.insert(
        PAYMENT_REQUIRED,
        base64_value(terms.header_v2(error, extensions)),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    PaymentRequired {
        headers,
        body: terms.body_v1(error),
    }
}

/// The receipt of a settled payment, in both versions.
#[must_use]
pub fn settled(network: &Network, transaction: &str, payer: &Address) -> HeaderMap {
    receipt(network, |name| SettleResponse {
        success: true,
        transaction: transaction.to_owned(),
        network: name.to_owned(),
        payer: Some(payer.to_string()),
        ..SettleResponse::default()
    })
}

/// The receipt of a payment that was refused in settling, for a 402 without fresh terms.
#[must_use]
pub fn refused(network: &Network, reason: &str, payer: &Address) -> HeaderMap {
    receipt(network, |name| SettleResponse {
        success: false,
        network: name.to_owned(),
        payer: Some(payer.to_string()),
        error_reason: Some(reason.to_owned()),
        ..SettleResponse::default()
    })
}

fn receipt(network: &Network, response: impl Fn(&str) -> SettleResponse) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (header_name, network_name) in [
        (PAYMENT_RESPONSE, network.caip2),
        (X_PAYMENT_RESPONSE, network.v1_name),
    ] {
        headers.insert(
            header_name,
            base64_value(header::encode(&response(network_name))),
        );
    }
    // a receipt belongs to one payer
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers
}

fn base64_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("base64 has only characters that a header takes")
}

#[cfg(test)]
mod tests {
    use shared::{
        money::Amount,
        time::Timestamp,
        x402::{
            client,
            network::{BASE_SEPOLIA, BASE_SEPOLIA_USDC},
            signature::PayerKey,
            terms::Resource,
            wire_v1,
        },
    };

    use super::*;

    fn terms() -> Terms {
        Terms {
            network: &BASE_SEPOLIA,
            asset: BASE_SEPOLIA_USDC,
            pay_to: Address::from_bytes([1; 20]),
            amount: Amount::from_atomic(500).expect("positive"),
            max_timeout_s: 300,
            resource: Resource {
                url: "https://market.example/api/v1/rentals".into(),
                description: "256 MiB for 1 h".into(),
                mime_type: "application/json".into(),
            },
        }
    }

    fn signed() -> client::SignedPayment {
        let parts = payment_required(&terms(), "payment required", &Object::new());
        let offer = header::decode(parts.headers[PAYMENT_REQUIRED].as_bytes()).expect("terms");
        let key = PayerKey::from_bytes(&[3; 32]).expect("a key");
        client::choose(&offer, terms().amount)
            .and_then(|chosen| chosen.pay(&key, [4; 32], Timestamp::from_secs(1_800_000_000)))
            .expect("payable")
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn one_payment_is_read_from_either_header() {
        let signed = signed();
        let v2 = presented(&headers(&[("payment-signature", &signed.header_v2)]));
        let v1 = presented(&headers(&[("x-payment", &signed.header_v1)]));
        let (v2, v1) = (
            v2.expect("read").expect("some"),
            v1.expect("read").expect("some"),
        );
        assert_eq!((v2.version(), v1.version()), (2, 1));
        assert_eq!(v2.identity(), v1.identity());
        assert_eq!(v2.accepted(), Some(&terms().requirements_v2()));
        assert_eq!(presented(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn several_or_unreadable_payments_are_refused() {
        let signed = signed();
        let both = headers(&[
            ("payment-signature", &signed.header_v2),
            ("x-payment", &signed.header_v1),
        ]);
        assert_eq!(presented(&both), Err(Unreadable::SeveralPayments));
        let twice = headers(&[
            ("payment-signature", &signed.header_v2),
            ("payment-signature", &signed.header_v2),
        ]);
        assert_eq!(presented(&twice), Err(Unreadable::SeveralPayments));
        let garbage = headers(&[("payment-signature", "%")]);
        assert_eq!(
            presented(&garbage),
            Err(Unreadable::Header(HeaderError::NotBase64))
        );
        let empty = headers(&[("x-payment", &header::encode(&json!({})))]);
        assert!(matches!(presented(&empty), Err(Unreadable::Payload(_))));
    }

    #[test]
    fn a_402_says_the_same_in_both_versions() {
        let parts = payment_required(&terms(), "why", &Object::new());
        let v2: wire_v2::PaymentRequired =
            header::decode(parts.headers[PAYMENT_REQUIRED].as_bytes()).expect("v2");
        let v1: wire_v1::PaymentRequired = serde_json::from_value(parts.body).expect("v1");
        assert_eq!(v2.accepts[0].amount, v1.accepts[0].max_amount_required);
        assert_eq!(v2.accepts[0].pay_to, v1.accepts[0].pay_to);
        assert_eq!(v2.resource.url, v1.accepts[0].resource);
        assert_eq!(
            (v2.error, v1.error),
            (Some("why".into()), Some("why".into()))
        );
        assert_eq!(parts.headers[CACHE_CONTROL], "no-store");
    }

    #[test]
    fn receipts_name_the_network_in_their_version() {
        let payer = Address::from_bytes([5; 20]);
        let good = settled(&BASE_SEPOLIA, "0xabc", &payer);
        let v2: Value = header::decode(good[PAYMENT_RESPONSE].as_bytes()).expect("v2");
        assert_eq!(
            v2,
            json!({"success": true, "transaction": "0xabc", "network": "eip155:84532", "payer": payer})
        );
        let v1: Value = header::decode(good[X_PAYMENT_RESPONSE].as_bytes()).expect("v1");
        assert_eq!(v1["network"], "base-sepolia");
        let bad = refused(&BASE_SEPOLIA, "insufficient_funds", &payer);
        let v2: Value = header::decode(bad[PAYMENT_RESPONSE].as_bytes()).expect("v2");
        assert_eq!(
            (&v2["success"], &v2["errorReason"]),
            (&json!(false), &json!("insufficient_funds"))
        );
    }
}
