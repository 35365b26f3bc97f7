//! Several currencies: what the market takes, and what it refuses before a row is written.

use serde_json::{Value, json};
use shared::{
    clock::Clock as _,
    money::{Amount, Asset},
    x402::{
        client,
        header::{PAYMENT_REQUIRED, decode},
        network::BASE_SEPOLIA_EURC,
        signature::PayerKey,
    },
};

use super::payments::{RENT, count};
use crate::{
    config::{AssetConfig, Config},
    testing::{
        Answer, TestApp,
        market::{Market, rental_of},
        payer::paid,
        request,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn euros_pay_what_is_priced_in_dollars_on_sqlite() {
    euros_pay_what_is_priced_in_dollars(TestApp::with(euros).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn euros_pay_what_is_priced_in_dollars_on_postgres() {
    euros_pay_what_is_priced_in_dollars(TestApp::on_postgres_with(euros).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_currency_that_is_not_accepted_is_refused_and_nothing_is_written() {
    let market = Market::open(TestApp::new().await).await;
    let consumer = market.test.signup("a@example.org", &["consumer"]).await;
    let offer = json!({
        "node_id": market.node.id, "currency": "GBPX", "prices": {"ram_gib_hour": "1", "cpu_hour": "0"},
    });
    let mut rent = market.order(600);
    rent["max_spend"] = json!({"amount": "1", "currency": "GBPX"});
    let topup = json!({"amount": {"amount": "1", "currency": "GBPX"}});
    for (path, token, body, pointer) in [
        (
            "/api/v1/offers",
            market.provider.as_str(),
            offer,
            "/currency",
        ),
        (RENT, "", rent, "/max_spend/currency"),
        (
            "/api/v1/balance/topups",
            &consumer,
            topup,
            "/amount/currency",
        ),
    ] {
        let mut asked = request("POST", path, token, &body);
        let key = "currency-1".parse().expect("a header value");
        asked.headers_mut().insert("idempotency-key", key);
        let answer = market.test.send(asked).await;
        assert_eq!(answer.status, 422, "{path}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        let said = problem["errors"][0]["message"].as_str().unwrap_or_default();
        assert!(said.contains("USDC"), "it says what is taken: {said}");
    }
    for (sql, rows) in [
        ("SELECT COUNT(*) FROM offers", 1),
        ("SELECT COUNT(*) FROM quotes", 0),
        ("SELECT COUNT(*) FROM transfers", 0),
        ("SELECT COUNT(*) FROM idempotency_keys", 0),
    ] {
        assert_eq!(count(&market, sql).await, rows, "{sql}");
    }
}

/// A market that takes both, one euro for 1.25 dollars, without a spread.
pub(super) fn euros(config: &mut Config) {
    config.payments.assets = vec![AssetConfig::of(Asset::USDC), AssetConfig::of(Asset::EURC)];
    config.rates.fixed = vec!["EURC/USDC=1.25".to_owned()];
    config.rates.spread_bps = 0;
}

/// Signs in euros what a 402 asks for; with the header of either version.
pub(super) fn signed_in_euros(asked: &Answer, market: &Market, nonce: u8) -> client::SignedPayment {
    let offer = decode(asked.headers[PAYMENT_REQUIRED].as_bytes()).expect("terms");
    let limit = Amount::from_atomic(1_000_000).expect("positive");
    let key = PayerKey::from_bytes(&[7; 32]).expect("a key");
    client::choose_in(&offer, Asset::EURC, limit)
        .and_then(|chosen| chosen.pay(&key, [nonce; 32], market.test.clock.now()))
        .expect("euros are taken")
}

async fn euros_pay_what_is_priced_in_dollars(test: TestApp) {
    let mut market = Market::open(test).await;
    let order = market.order(3_600);
    // without a rate euros aren't offered
    let asked = market.test.post(RENT, "", &order).await;
    assert_eq!(asked.json()["accepts"].as_array().map(Vec::len), Some(1));
    let purchases = &market.test.app.purchases;
    purchases
        .rates
        .refresh(market.test.clock.now())
        .await
        .expect("the settings' rates");
    let asked = market.test.post(RENT, "", &order).await;
    let body = asked.json();
    let v2: Value = decode(asked.headers[PAYMENT_REQUIRED].as_bytes()).expect("terms");
    // 256 MiB for an hour cost 500 atomic units: the price's own currency comes first
    for (place, amount) in [(0, "500"), (1, "400")] {
        assert_eq!(v2["accepts"][place]["amount"], amount, "{v2}");
        assert_eq!(
            body["accepts"][place]["maxAmountRequired"], amount,
            "{body}"
        );
    }
    assert_eq!(
        v2["accepts"][1]["asset"],
        BASE_SEPOLIA_EURC.address.to_string()
    );
    assert_eq!(body["options"][0]["rate"], Value::Null);
    let rate = &body["options"][1]["rate"];
    assert_eq!(
        (&rate["rate"], &rate["source"]),
        (&json!("0.80000000"), &json!("settings"))
    );
    assert!(rate["at"].is_string(), "{body}");
    let signed = signed_in_euros(&asked, &market, 1);
    let answer = market
        .test
        .send(paid(RENT, "", &order, &signed.header_v2))
        .await;
    let rental = rental_of(&answer);
    // the same payment again, in the other version, which names no token
    let mut again = request("POST", RENT, "", &order);
    let header = signed.header_v1.parse().expect("a header value");
    again.headers_mut().insert("x-payment", header);
    assert_eq!(rental_of(&market.test.send(again).await), rental);
    let now = market.rental(rental).await;
    assert_eq!((now.asset, now.paid.atomic()), (Asset::USDC, 500));
    for (sql, expected) in [
        (
            "SELECT balance FROM accounts WHERE id = 'EURC/external:eip155:84532'",
            -400,
        ),
        (
            "SELECT balance FROM accounts WHERE id = 'EURC/external:exchange'",
            400,
        ),
        (
            "SELECT balance FROM accounts WHERE id = 'USDC/external:exchange'",
            -500,
        ),
        (
            "SELECT COUNT(*) FROM transfers WHERE code IN ('payment', 'exchange')",
            2,
        ),
        ("SELECT amount FROM sandbox_settlements", 400),
        (
            "SELECT granted - balance FROM sandbox_wallets WHERE granted > 0",
            400,
        ),
        ("SELECT COUNT(*) FROM sandbox_wallets", 2),
    ] {
        assert_eq!(count(&market, sql).await, expected, "{sql}");
    }
    market.check_books().await;
    // a rate that is too old is used no more, and what was quoted at it stays good
    let asked = market.test.post(RENT, "", &order).await;
    let signed = signed_in_euros(&asked, &market, 2);
    market.test.clock.advance_ms(200_000);
    market.node.beat(&market.test).await;
    let answer = market
        .test
        .send(paid(RENT, "", &order, &signed.header_v2))
        .await;
    rental_of(&answer);
    market.test.clock.advance_ms(450_000);
    market.node.beat(&market.test).await;
    let asked = market.test.post(RENT, "", &order).await;
    assert_eq!(asked.json()["accepts"].as_array().map(Vec::len), Some(1));
    market.check_books().await;
}
