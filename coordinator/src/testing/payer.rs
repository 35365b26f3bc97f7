//! A wallet that pays 402 with a real signature, through the router.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::Value;
use shared::{
    clock::Clock as _,
    money::Amount,
    x402::{
        client::{self, SignedPayment},
        header::{PAYMENT_REQUIRED, PAYMENT_SIGNATURE, decode},
        sign_in::Claim,
        signature::PayerKey,
    },
};

use super::{Answer, TestApp, request};

/// The most that it pays at once: 1,000 USDC.
const LIMIT: i64 = 1_000_000_000;

/// A wallet.
#[derive(Debug)]
pub struct Payer {
    key: PayerKey,
    payments: u64,
}

impl Payer {
    /// The wallet of a number; the same number is the same wallet.
    ///
    /// # Panics
    /// For number 0, which is no key.
    #[must_use]
    pub fn numbered(number: u8) -> Self {
        let mut secret = [0; 32];
        secret[31] = number;
        Self {
            key: PayerKey::from_bytes(&secret).expect("a key"),
            payments: 0,
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        self.key.address().to_string()
    }

    /// Signs what a 402 asks for, under a new nonce.
    ///
    /// # Panics
    /// If the answer isn't a 402 that can be paid.
    #[must_use]
    pub fn sign(&mut self, asked: &Answer, test: &TestApp) -> SignedPayment {
        self.payments += 1;
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.payments.to_be_bytes());
        self.sign_under(nonce, asked, test)
    }

    /// Signs what a 402 asks for, under this nonce.
    ///
    /// # Panics
    /// If the answer isn't a 402 that can be paid.
    #[must_use]
    pub fn sign_under(&self, nonce: [u8; 32], asked: &Answer, test: &TestApp) -> SignedPayment {
        assert_eq!(asked.status, StatusCode::PAYMENT_REQUIRED, "{asked:?}");
        let offer = decode(asked.headers[PAYMENT_REQUIRED].as_bytes()).expect("terms");
        let limit = Amount::from_atomic(LIMIT).expect("positive");
        client::choose(&offer, limit)
            .and_then(|chosen| chosen.pay(&self.key, nonce, test.clock.now()))
            .expect("terms that can be paid")
    }

    /// Signs a challenge: the value of the header `SIGN-IN-WITH-X`.
    ///
    /// # Panics
    /// If it isn't a challenge that can be signed.
    #[must_use]
    pub fn sign_in(&self, asked: &Value) -> String {
        let info = serde_json::from_value(asked["info"].clone()).expect("a challenge");
        let chain = asked["supportedChains"][0]["chainId"].as_str();
        Claim::sign(info, chain.expect("a chain"), &self.key)
            .expect("signed")
            .to_header()
    }

    /// Orders, signs what is asked and repeats the order paid: the last answer.
    pub async fn buy(&mut self, test: &TestApp, path: &str, token: &str, body: &Value) -> Answer {
        let asked = test.post(path, token, body).await;
        let signed = self.sign(&asked, test);
        test.send(paid(path, token, body, &signed.header_v2)).await
    }
}

/// A `POST` with a payment.
///
/// # Panics
/// If the payment isn't a header value.
#[must_use]
pub fn paid(path: &str, token: &str, body: &Value, payment: &str) -> Request<Body> {
    let mut request = request("POST", path, token, body);
    let value = payment.parse().expect("a header value");
    request.headers_mut().insert(PAYMENT_SIGNATURE, value);
    request
}
