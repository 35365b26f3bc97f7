//! x402's extensions: a payment by its client's own name, and echoes that were changed.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::x402::{client::SignedPayment, header};

use super::payments::{RENT, count, exactly_one, with_double};
use crate::testing::{
    Answer, TestApp,
    facilitator::Turn,
    market::{Market, rental_of},
    on_both_stores,
    payer::{Payer, paid},
};

on_both_stores!(
    one_name_is_one_payment_however_often_it_is_signed,
    many_signatures_under_one_name_at_once_pay_once,
);

const NAME: &str = "order-0192f0c1_a2b3";

/// The payment with something of it changed.
fn changed(signed: &SignedPayment, change: impl FnOnce(&mut Value)) -> String {
    let mut payload: Value = header::decode(signed.header_v2.as_bytes()).expect("our own");
    change(&mut payload);
    header::encode(&payload)
}

fn named(signed: &SignedPayment, id: &Value) -> String {
    changed(signed, |payload| {
        payload["extensions"]["payment-identifier"]["info"]["id"] = id.clone();
    })
}

async fn ask_and_sign(market: &Market, payer: &mut Payer, body: &Value) -> SignedPayment {
    let asked = market.test.post(RENT, "", body).await;
    payer.sign(&asked, &market.test)
}

async fn send(market: &Market, body: &Value, payment: &str) -> Answer {
    market.test.send(paid(RENT, "", body, payment)).await
}

fn refused(answer: &Answer, status: StatusCode, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
}

async fn one_name_is_one_payment_however_often_it_is_signed(test: TestApp) {
    let (market, double) = with_double(test, &[Turn::Refuse]).await;
    let mut payer = Payer::numbered(1);
    let order = market.order(600);
    // a payment that came to nothing gives its name back
    let first = ask_and_sign(&market, &mut payer, &order).await;
    let answer = send(&market, &order, &named(&first, &json!(NAME))).await;
    refused(&answer, StatusCode::PAYMENT_REQUIRED, "payment_rejected");
    let mut rented = None;
    for _ in 0..3 {
        let signed = ask_and_sign(&market, &mut payer, &order).await;
        let answer = send(&market, &order, &named(&signed, &json!(NAME))).await;
        let id = rental_of(&answer);
        assert_eq!(*rented.get_or_insert(id), id);
        assert!(answer.headers.contains_key("payment-response"));
    }
    exactly_one(&market).await;
    // for something else it is refused, and nothing of that is taken
    let other = market.order(660);
    let signed = ask_and_sign(&market, &mut payer, &other).await;
    let answer = send(&market, &other, &named(&signed, &json!(NAME))).await;
    refused(&answer, StatusCode::CONFLICT, "payment_identifier_reused");
    // whoever writes the payer's address into a payment isn't the payer
    let signed = ask_and_sign(&market, &mut payer, &order).await;
    let forged = changed(&signed, |payload| {
        payload["extensions"]["payment-identifier"]["info"]["id"] = json!(NAME);
        payload["payload"]["authorization"]["nonce"] = json!(format!("0x{}", "ab".repeat(32)));
    });
    let answer = send(&market, &order, &forged).await;
    refused(
        &answer,
        StatusCode::BAD_REQUEST,
        "payment_identifier_invalid",
    );
    for bad in [
        json!("too-short"),
        json!("x".repeat(129)),
        json!("with a space in it"),
        json!(1),
        json!({}),
    ] {
        let answer = send(&market, &order, &named(&signed, &bad)).await;
        refused(
            &answer,
            StatusCode::BAD_REQUEST,
            "payment_identifier_invalid",
        );
    }
    exactly_one(&market).await;
    let payments = "SELECT COUNT(*) FROM payments";
    assert_eq!(count(&market, payments).await, 2);
    // another wallet's name is another name
    let mut other_wallet = Payer::numbered(2);
    let signed = ask_and_sign(&market, &mut other_wallet, &order).await;
    let answer = send(&market, &order, &named(&signed, &json!(NAME))).await;
    assert_ne!(Some(rental_of(&answer)), rented);
    drop(double);
}

async fn many_signatures_under_one_name_at_once_pay_once(test: TestApp) {
    let market = Market::open(test).await;
    let mut payer = Payer::numbered(1);
    let order = market.order(600);
    let mut payments = Vec::new();
    for _ in 0..10 {
        let signed = ask_and_sign(&market, &mut payer, &order).await;
        payments.push(named(&signed, &json!(NAME)));
    }
    let sent = payments
        .iter()
        .map(|payment| send(&market, &order, payment));
    let answers: Vec<Answer> = futures_util::future::join_all(sent).await;
    let first = rental_of(&answers[0]);
    for answer in &answers {
        assert_eq!(rental_of(answer), first);
    }
    exactly_one(&market).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_offered_must_be_echoed_as_it_was() {
    let market = Market::open(TestApp::new().await).await;
    let mut payer = Payer::numbered(1);
    let order = market.order(600);
    let signed = ask_and_sign(&market, &mut payer, &order).await;
    for (name, field, value) in [
        ("payment-identifier", "required", json!(true)),
        ("bazaar", "output", json!({"type": "text"})),
        ("sign-in-with-x", "domain", json!("evil.example")),
    ] {
        let wrong = changed(&signed, |payload| {
            payload["extensions"][name]["info"][field] = value.clone();
        });
        let answer = send(&market, &order, &wrong).await;
        assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED, "{answer:?}");
        let why = answer.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            why.starts_with("extension_echo_mismatch") && why.contains(name),
            "{why}"
        );
    }
    let payments = "SELECT COUNT(*) FROM payments";
    assert_eq!(count(&market, payments).await, 0);
    // left out altogether it is fine, and so is an unknown one
    let bare = changed(&signed, |payload| {
        payload["extensions"] = json!({"unknown": {"info": {}}});
    });
    rental_of(&send(&market, &order, &bare).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_say_who_sells_and_how_to_ask() {
    let market = Market::open(TestApp::new().await).await;
    let order = market.order(600);
    let asked = market.test.post(RENT, "", &order).await;
    let terms: Value = header::decode(asked.headers["payment-required"].as_bytes()).expect("terms");
    assert_eq!(terms["resource"]["serviceName"], "RAMarket");
    assert_eq!(
        terms["resource"]["tags"],
        json!(["compute", "memory", "containers"])
    );
    let bazaar = &terms["extensions"]["bazaar"];
    assert_eq!(bazaar["info"]["input"]["method"], "POST");
    // the example that it gives is an order that this market takes
    let example = bazaar["info"]["input"]["body"].clone();
    let taken = market.test.post(RENT, "", &example).await;
    assert_eq!(taken.status, StatusCode::PAYMENT_REQUIRED, "{taken:?}");
    let chains = &terms["extensions"]["sign-in-with-x"]["supportedChains"];
    assert_eq!(
        *chains,
        json!([{"chainId": "eip155:84532", "type": "eip191"}])
    );
    assert_eq!(
        terms["extensions"]["payment-identifier"]["info"],
        json!({"required": false})
    );
    // what is told of renting isn't told of filling a balance
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let fill = json!({"amount": {"amount": "1", "currency": "USDC"}});
    let asked = market
        .test
        .post("/api/v1/balance/topups", &ada, &fill)
        .await;
    let terms: Value = header::decode(asked.headers["payment-required"].as_bytes()).expect("terms");
    let names: Vec<&String> = terms["extensions"]
        .as_object()
        .expect("some")
        .keys()
        .collect();
    assert_eq!(names, ["payment-identifier", "sign-in-with-x"]);
}
