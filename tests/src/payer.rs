//! Somebody with a key and no account, who pays what a 402 asks. The signing is the product's own client's.

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;
use shared::{
    clock::{Clock as _, SystemClock},
    money::Amount,
    time::Timestamp,
    x402::{
        client::{self, SignedPayment},
        header,
        signature::PayerKey,
        wire_v2::PaymentRequired,
    },
};

use crate::api::{self, Answer, Api};

/// The most that a test pays at once, atomic units: 200 USDC.
const LIMIT_ATOMIC: i64 = 200_000_000;

/// A payer.
#[derive(Debug)]
pub struct Payer {
    key: PayerKey,
    key_hex: String,
}

/// What a payment bought.
#[derive(Debug)]
pub struct Rented {
    /// `rnt_…`.
    pub id: String,
    /// The API with the rental's token.
    pub api: Api,
    /// The rental, as it was answered.
    pub body: Value,
    /// The payment, to be repeated.
    pub payment: SignedPayment,
}

impl Payer {
    /// With a new key, to which the sandbox gives play money.
    ///
    /// # Panics
    /// If there are no random numbers.
    #[must_use]
    pub fn new() -> Self {
        let secret = random();
        Self {
            key: PayerKey::from_bytes(&secret).expect("nearly every number is a key"),
            key_hex: format!("0x{}", hex::encode(secret)),
        }
    }

    /// The private key, `0x…`.
    #[must_use]
    pub fn key_hex(&self) -> &str {
        &self.key_hex
    }

    /// The address, `0x…`.
    #[must_use]
    pub fn address(&self) -> String {
        self.key.address().to_string()
    }

    /// Signs what a 402 asks for, under a new nonce.
    ///
    /// # Panics
    /// If the answer isn't a 402 with terms that can be paid.
    #[must_use]
    pub fn sign(&self, asked: &Answer) -> SignedPayment {
        assert_eq!(asked.status, 402, "{}", asked.body);
        let terms = asked.header(header::PAYMENT_REQUIRED).expect("terms");
        self.sign_terms(terms, SystemClock.now())
    }

    /// Signs the terms of a `PAYMENT-REQUIRED` header, as if it was `now`.
    ///
    /// # Panics
    /// If they can't be paid.
    #[must_use]
    pub fn sign_terms(&self, terms: &str, now: Timestamp) -> SignedPayment {
        let terms: PaymentRequired = header::decode(terms.as_bytes()).expect("readable terms");
        let limit = Amount::from_atomic(LIMIT_ATOMIC).expect("an amount");
        let chosen = client::choose(&terms, limit).expect("terms that can be paid");
        let signed = chosen.pay(&self.key, random(), now);
        signed.expect("a signature")
    }

    /// Asks, is answered 402, signs; returns the payment unsent.
    ///
    /// # Panics
    /// If the answer isn't a 402.
    pub async fn ask_and_sign(&self, api: &Api, path: &str, body: &Value) -> SignedPayment {
        self.sign(&api.post(path, body).await)
    }

    /// Asks, signs and pays; returns the last answer.
    pub async fn pay(&self, api: &Api, path: &str, body: &Value) -> Answer {
        let payment = self.ask_and_sign(api, path, body).await;
        send(api, path, body, &payment).await
    }

    /// Rents: `POST /rentals` until 201.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn rent(&self, api: &Api, body: &Value) -> Rented {
        let payment = self.ask_and_sign(api, "/rentals", body).await;
        let body = send(api, "/rentals", body, &payment).await.is(201);
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        Rented {
            id: text("id").expect("an id"),
            api: api.bearing(&text("rental_token").expect("a token")),
            payment,
            body,
        }
    }
}

impl Default for Payer {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends a request with a payment; the same again is harmless.
pub async fn send(api: &Api, path: &str, body: &Value, payment: &SignedPayment) -> Answer {
    api::send(paid(api, path, body, payment)).await
}

/// A request with a payment, unsent.
#[must_use]
pub fn paid(
    api: &Api,
    path: &str,
    body: &Value,
    payment: &SignedPayment,
) -> reqwest::RequestBuilder {
    api.request("POST", path)
        .header(header::PAYMENT_SIGNATURE, &payment.header_v2)
        .json(body)
}

impl Rented {
    /// The rental now.
    pub async fn view(&self) -> Value {
        self.api.get(&format!("/rentals/{}", self.id)).await.is(200)
    }

    /// Asks for its end.
    pub async fn stop(&self) -> Value {
        let path = format!("/rentals/{}/stop", self.id);
        self.api.post(&path, &Value::Null).await.is(200)
    }

    /// Waits until its state is this one, and returns it.
    ///
    /// # Panics
    /// If it ends before.
    pub async fn until(&self, state: &str) -> Value {
        crate::wait::until(&format!("{} is {state}", self.id), || async {
            let view = self.view().await;
            assert!(
                view["state"] == state || view["state"] != "ended",
                "it ended: {view}"
            );
            (view["state"] == state).then_some(view)
        })
        .await
    }

    /// Waits until its money is split for good, and returns it.
    pub async fn until_settled(&self) -> Value {
        crate::wait::until(&format!("{} is settled", self.id), || async {
            let view = self.view().await;
            (!view["settled_at"].is_null()).then_some(view)
        })
        .await
    }

    /// The split of its money.
    pub async fn split(&self) -> Value {
        let body = serde_json::json!({"rental_id": self.id});
        self.api.post("/payments/settle", &body).await.is(200)
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("random numbers");
    bytes
}
