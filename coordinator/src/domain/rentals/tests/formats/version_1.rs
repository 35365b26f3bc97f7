//! The official client of version 1, npm's `x402-fetch`, as it was recorded paying a coordinator (`tests/x402-client/record_v1.mjs`; with
//! what and when is in the file): what it sent is sent again, at that time, and is answered alike.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use shared::{
    time::Timestamp,
    x402::header::{self, X_PAYMENT, X_PAYMENT_RESPONSE},
};

use super::RENT;
use crate::testing::{
    Answer, TestApp,
    market::{Market, rental_of},
    request,
};

const RECORDED: &str = include_str!("../testdata/x402_v1_exchange.json");
/// The client lets its payments hold from so long ago, seconds.
const SINCE_S: i64 = 600;

/// What one of the two requests carried besides its body, and what was answered.
struct Turn<'a> {
    request: &'a Value,
    response: &'a Value,
}

impl Turn<'_> {
    fn body(&self) -> Value {
        let text = self.request["body"].as_str().expect("a body");
        serde_json::from_str(text).expect("JSON")
    }

    fn answered(&self) -> Value {
        let text = self.response["body"].as_str().expect("a body");
        serde_json::from_str(text).expect("JSON")
    }

    /// Sends it again, about the market's own offer.
    async fn again(&self, market: &Market) -> Answer {
        let mut order = self.body();
        order["offer_id"] = json!(market.offer);
        let mut request = request("POST", RENT, "", &order);
        for (name, value) in self.request["headers"].as_object().expect("headers") {
            let name: HeaderName = name.parse().expect("a header's name");
            let value = HeaderValue::from_str(value.as_str().expect("text")).expect("a value");
            request.headers_mut().insert(name, value);
        }
        market.test.send(request).await
    }
}

/// What the client reads of a 402, and where it pays: without the URL of the resource, which is that of the market.
fn offered(body: &Value) -> Value {
    let mut offered = body["accepts"][0].clone();
    let fields = offered.as_object_mut().expect("terms");
    assert!(fields["resource"].is_string());
    fields.remove("resource");
    fields.remove("description");
    // it fails on its null
    assert!(!fields.contains_key("outputSchema"));
    json!({"x402Version": body["x402Version"], "accepts": offered})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_of_version_1_is_understood() {
    let recorded: Value = serde_json::from_str(RECORDED).expect("JSON");
    let turn = |number: usize| Turn {
        request: &recorded["exchange"][number]["request"],
        response: &recorded["exchange"][number]["response"],
    };
    let (asked, paid) = (turn(0), turn(1));
    let payment = paid.request["headers"][X_PAYMENT].as_str();
    let payment: Value = header::decode(payment.expect("a payment").as_bytes()).expect("readable");
    let signed = &payment["payload"]["authorization"];
    let since: i64 = signed["validAfter"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("seconds");
    let payee = signed["to"].as_str().expect("an address").to_owned();
    let test = TestApp::starting_at(Timestamp::from_secs(since + SINCE_S), |config| {
        config.payments.pay_to = Some(payee);
    });
    let market = Market::open(test.await).await;

    let terms = asked.again(&market).await;
    assert_eq!(terms.status, StatusCode::PAYMENT_REQUIRED, "{terms:?}");
    assert_eq!(asked.response["status"], 402);
    assert_eq!(offered(&terms.json()), offered(&asked.answered()));

    let answer = paid.again(&market).await;
    rental_of(&answer);
    assert_eq!(paid.response["status"], 201);
    let receipt = |text: &[u8]| header::decode::<Value>(text).expect("a receipt");
    let ours = receipt(answer.headers[X_PAYMENT_RESPONSE].as_bytes());
    let then = paid.response["headers"][X_PAYMENT_RESPONSE].as_str();
    let then = receipt(then.expect("a receipt").as_bytes());
    for field in ["success", "network", "payer"] {
        assert_eq!(ours[field], then[field], "{field}");
    }
    assert_eq!(ours["payer"], signed["from"]);
    market.check_books().await;
}
