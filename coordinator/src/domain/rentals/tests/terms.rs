//! What a payment must fit: the terms of its quote, its own nonce, and the purpose it was signed for.

use serde_json::{Value, json};
use shared::x402::header::{decode, encode};

use super::payments::{RENT, count, exactly_one, with_double};
use crate::testing::{
    TestApp,
    facilitator::Turn,
    market::{Market, rental_of},
    payer::{Payer, paid},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_terms_is_asked_for_again() {
    let mut market = Market::open(TestApp::new().await).await;
    let order = market.order(600);
    let asked = market.test.post(RENT, "", &order).await;
    let body = asked.json();
    assert_eq!(body["x402Version"], 1, "{body}");
    assert!(body["quote_id"].is_string() && body["accepts"].is_array());
    let v2: Value = decode(asked.headers["payment-required"].as_bytes()).expect("terms");
    assert_eq!(v2["x402Version"], 2);
    assert_eq!(
        v2["accepts"][0]["amount"],
        body["accepts"][0]["maxAmountRequired"]
    );
    let signed = market.payer.sign(&asked, &market.test);
    let whole: Value = decode(signed.header_v2.as_bytes()).expect("a payment");
    let cases = [
        ("/payload/authorization/value", json!("1"), "no open quote"),
        (
            "/payload/authorization/to",
            json!("0x00000000000000000000000000000000000000aa"),
            "recipient_mismatch",
        ),
        (
            "/payload/authorization/validBefore",
            json!("1800000001"),
            "valid_before",
        ),
        (
            "/payload/authorization/validAfter",
            json!("1900000000"),
            "valid_after",
        ),
        (
            "/payload/authorization/from",
            json!(Payer::numbered(9).address()),
            "signature",
        ),
    ];
    for (pointer, value, why) in cases {
        let mut other = whole.clone();
        *other.pointer_mut(pointer).expect("it is there") = value;
        let answer = market
            .test
            .send(paid(RENT, "", &order, &encode(&other)))
            .await;
        assert_eq!(answer.status, 402, "{pointer}: {answer:?}");
        let error = answer.json()["error"].as_str().unwrap_or("").to_owned();
        assert!(error.contains(why), "{pointer}: {error}");
    }
    // a quote that is too old is asked for again too
    market.test.clock.advance_ms(301_000);
    market.node.beat(&market.test).await;
    let late = market
        .test
        .send(paid(RENT, "", &order, &signed.header_v2))
        .await;
    assert_eq!(late.status, 402, "{late:?}");
    assert_ne!(late.json()["quote_id"], body["quote_id"]);
    assert_eq!(count(&market, "SELECT COUNT(*) FROM payments").await, 0);
    market.check_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_pays_one_thing_only() {
    let market = Market::open(TestApp::new().await).await;
    let (short, long) = (market.order(600), market.order(1_200));
    let payer = Payer::numbered(7);
    let asked = market.test.post(RENT, "", &short).await;
    let signed = payer.sign_under([9; 32], &asked, &market.test);
    let answer = market.test.send(paid(RENT, "", &short, &signed.header_v2));
    rental_of(&answer.await);
    let asked = market.test.post(RENT, "", &long).await;
    let signed = payer.sign_under([9; 32], &asked, &market.test);
    let answer = market
        .test
        .send(paid(RENT, "", &long, &signed.header_v2))
        .await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(answer.json()["code"], "payment_conflict");
    exactly_one(&market).await;
}

/// `authorize` only holds: even if its process dies, nobody is charged before `complete`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_only_authorized_is_never_charged() {
    let plan = [Turn::HangInVerify];
    let (mut market, double) = with_double(TestApp::new().await, &plan).await;
    let mut order = market.order(600);
    let quote = json!({
        "offer_id": order["offer_id"], "resources": order["resources"], "duration_seconds": 600,
    });
    let quote = market.test.post("/api/v1/payments/quote", "", &quote).await;
    order["quote_id"] = quote.json()["id"].clone();
    let path = "/api/v1/payments/authorize";
    let asked = market.test.post(path, "", &order).await;
    let signed = market.payer.sign(&asked, &market.test);
    tokio::select! {
        answer = market.test.send(paid(path, "", &order, &signed.header_v2)) => panic!("{answer:?}"),
        () = double.begun.notified() => {}
    }
    market.test = market.test.restarted();
    market.test.clock.advance_ms(80_000);
    let purchases = &market.test.app.purchases;
    purchases.reconcile().await.expect("it is taken up");
    let settled = "SELECT COUNT(*) FROM sandbox_settlements";
    assert_eq!(count(&market, settled).await, 0);
    market.test.clock.advance_ms(80_000);
    let lapsed = market.test.app.purchases.lapse().await;
    assert_eq!(lapsed.ok(), Some(1));
    assert_eq!(count(&market, settled).await, 0);
    market.check_books().await;
}
