//! Filling a balance by x402: credited once whatever happens, and only to whoever asked for it.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::{
    id::PaymentId,
    x402::header::{PAYMENT_RESPONSE, X_PAYMENT_RESPONSE, decode},
};

use super::payments::{count, with_double};
use crate::testing::{
    Answer, TestApp,
    facilitator::{Double, Turn},
    market::{Market, rental_of},
    on_both_stores,
    payer::{Payer, paid},
    request,
};

on_both_stores!(
    a_balance_is_filled_by_a_wallet_and_spent,
    twenty_at_once_are_credited_once_each,
    a_crash_at_each_step_credits_once,
    what_one_asked_for_is_not_credited_to_another,
);

const TOP_UP: &str = "/api/v1/balance/topups";

fn amount(amount: &str) -> Value {
    json!({"amount": {"amount": amount, "currency": "USDC"}})
}

async fn available(market: &Market, token: &str) -> String {
    let balance = market.test.get("/api/v1/balance", token).await.json();
    let text = balance["items"][0]["available"]["amount"].as_str();
    text.expect("an amount").to_owned()
}

async fn a_balance_is_filled_by_a_wallet_and_spent(test: TestApp) {
    let mut market = Market::open(test).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let body = amount("0.25");
    let asked = market.test.post(TOP_UP, &ada, &body).await;
    assert_eq!(asked.status, StatusCode::PAYMENT_REQUIRED, "{asked:?}");
    let terms = asked.json();
    assert_eq!(terms["accepts"][0]["maxAmountRequired"], "250000");
    let resource = terms["accepts"][0]["resource"].as_str().expect("a URL");
    assert!(resource.ends_with(TOP_UP), "{resource}");
    assert_eq!(available(&market, &ada).await, "0.000000");
    let signed = market.payer.sign(&asked, &market.test);
    let again = || paid(TOP_UP, &ada, &body, &signed.header_v2);
    let first = market.test.send(again()).await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    assert_eq!(first.json()["items"][0]["available"]["amount"], "0.250000");
    let receipt: Value = decode(first.headers[PAYMENT_RESPONSE].as_bytes()).expect("a receipt");
    assert_eq!(receipt["success"], true);
    assert!(first.headers.contains_key(X_PAYMENT_RESPONSE));
    // the same signed payment is the same answer and moves nothing
    let second = market.test.send(again()).await;
    assert_eq!((second.status, second.body), (first.status, first.body));
    let path = first.headers["location"]
        .to_str()
        .expect("a path")
        .to_owned();
    let payment = market.test.get(&path, &ada).await.json();
    assert_eq!(payment["state"], "credited", "{payment}");
    assert!(payment.get("rental_id").is_none(), "{payment}");
    // nobody else sees it, whether they hold its id or its signature
    let eve = market.test.signup("eve@example.org", &["consumer"]).await;
    for token in ["", &eve] {
        assert_eq!(
            market.test.get(&path, token).await.status,
            StatusCode::NOT_FOUND
        );
    }
    let stolen = market
        .test
        .send(paid(TOP_UP, &eve, &body, &signed.header_v2))
        .await;
    assert_eq!(stolen.status, StatusCode::NOT_FOUND, "{stolen:?}");
    // it is money like any other
    let mut order = market.order(600);
    order["pay_with"] = json!("balance");
    let mut rent = request("POST", "/api/v1/rentals", &ada, &order);
    rent.headers_mut()
        .insert("idempotency-key", "one".parse().expect("a value"));
    rental_of(&market.test.send(rent).await);
    assert_eq!(available(&market, &ada).await, "0.249916");
    let credits = "SELECT COUNT(*) FROM events WHERE kind = 'balance.credited'";
    assert_eq!(count(&market, credits).await, 1);
    market.check_books().await;
}

async fn twenty_at_once_are_credited_once_each(test: TestApp) {
    let market = Market::open(test).await;
    let body = amount("0.5");
    let mut wallets = Vec::new();
    for person in 0..4 {
        let email = format!("u{person}@example.org");
        let token = market.test.signup(&email, &["consumer"]).await;
        for wallet in 0..5 {
            let asked = market.test.post(TOP_UP, &token, &body).await;
            let signed = Payer::numbered(10 + 5 * person + wallet).sign(&asked, &market.test);
            wallets.push((token.clone(), signed));
        }
    }
    // each is sent twice at once
    let sent = wallets.iter().chain(&wallets).map(|(token, signed)| {
        let request = paid(TOP_UP, token, &body, &signed.header_v2);
        market.test.send(request)
    });
    let answers: Vec<Answer> = futures_util::future::join_all(sent).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }
    for (token, _) in &wallets {
        assert_eq!(available(&market, token).await, "2.500000");
    }
    for sql in [
        "SELECT COUNT(*) FROM transfers WHERE code = 'payment'",
        "SELECT COUNT(*) FROM payments WHERE state = 'credited' AND user_id IS NOT NULL",
        "SELECT COUNT(*) FROM sandbox_settlements",
        "SELECT COUNT(DISTINCT payer) FROM payments",
    ] {
        assert_eq!(count(&market, sql).await, 20, "{sql}");
    }
    market.check_books().await;
}

async fn a_crash_at_each_step_credits_once(test: TestApp) {
    let (mut market, mut double) = with_double(test, &[]).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let body = amount("0.000010");
    let turns = [
        Turn::HangInVerify,
        Turn::HangInSettle,
        Turn::HangAfterSettle,
        Turn::UnclearAfterSettle,
        Turn::Unclear,
    ];
    for (step, turn) in turns.into_iter().enumerate() {
        let hangs = !matches!(turn, Turn::Unclear | Turn::UnclearAfterSettle);
        double.plan(turn.clone());
        let asked = market.test.post(TOP_UP, &ada, &body).await;
        let signed = market.payer.sign(&asked, &market.test);
        let request = || paid(TOP_UP, &ada, &body, &signed.header_v2);
        if hangs {
            tokio::select! {
                answer = market.test.send(request()) => panic!("{turn:?}: {answer:?}"),
                () = double.begun.notified() => {}
            }
        } else {
            let answer = market.test.send(request()).await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{turn:?}: {answer:?}");
            assert!(answer.headers.contains_key("retry-after"));
            let id = &answer.json()["payment_id"];
            serde_json::from_value::<PaymentId>(id.clone()).expect("a payment's id");
            assert!(answer.json().get("rental_id").is_none(), "{answer:?}");
        }
        let test = market.test.restarted();
        double = Double::new(&super::payments::facilitator_of(&test), &[]);
        market.test = test.paid_through(std::sync::Arc::clone(&double) as _);
        market.test.clock.advance_ms(80_000);
        let ended = market.test.app.purchases.reconcile().await;
        assert_eq!(ended.ok(), Some(1), "{turn:?}");
        let filled = i64::try_from(step).expect("small") + 1;
        let expected = format!("0.0000{filled}0");
        assert_eq!(available(&market, &ada).await, expected, "{turn:?}");
        let answer = market.test.send(request()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{turn:?}: {answer:?}");
        let settlements = "SELECT COUNT(*) FROM sandbox_settlements";
        assert_eq!(count(&market, settlements).await, filled, "{turn:?}");
        market.check_books().await;
    }
}

async fn what_one_asked_for_is_not_credited_to_another(test: TestApp) {
    let mut market = Market::open(test).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let eve = market.test.signup("eve@example.org", &["consumer"]).await;
    let body = amount("1");
    let asked = market.test.post(TOP_UP, &ada, &body).await;
    let signed = market.payer.sign(&asked, &market.test);
    // the same request of somebody else's finds no quote of its own, so it is asked for payment
    let stolen = market
        .test
        .send(paid(TOP_UP, &eve, &body, &signed.header_v2))
        .await;
    assert_eq!(stolen.status, StatusCode::PAYMENT_REQUIRED, "{stolen:?}");
    let paid_by_her = market
        .test
        .send(paid(TOP_UP, &ada, &body, &signed.header_v2))
        .await;
    assert_eq!(paid_by_her.status, StatusCode::CREATED, "{paid_by_her:?}");
    assert_eq!(available(&market, &ada).await, "1.000000");
    assert_eq!(available(&market, &eve).await, "0.000000");
    let payments = "SELECT COUNT(*) FROM payments";
    assert_eq!(count(&market, payments).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_top_ups_a_minute_and_no_more() {
    let mut market = Market::open(TestApp::new().await).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    for _ in 0..10 {
        let filled = market
            .payer
            .buy(&market.test, TOP_UP, &ada, &amount("0.01"))
            .await;
        assert_eq!(filled.status, StatusCode::CREATED, "{filled:?}");
    }
    let more = market
        .payer
        .buy(&market.test, TOP_UP, &ada, &amount("0.01"))
        .await;
    assert_eq!(more.status, StatusCode::TOO_MANY_REQUESTS, "{more:?}");
    assert_eq!(available(&market, &ada).await, "0.100000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_top_up_credits_nothing() {
    let (mut market, _double) = with_double(TestApp::new().await, &[Turn::Refuse]).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let refused = market
        .payer
        .buy(&market.test, TOP_UP, &ada, &amount("2"))
        .await;
    assert_eq!(refused.status, StatusCode::PAYMENT_REQUIRED, "{refused:?}");
    assert_eq!(refused.json()["code"], "payment_rejected");
    assert_eq!(available(&market, &ada).await, "0.000000");
    let filled = market
        .payer
        .buy(&market.test, TOP_UP, &ada, &amount("2"))
        .await;
    assert_eq!(filled.status, StatusCode::CREATED, "{filled:?}");
    market.check_books().await;
}
