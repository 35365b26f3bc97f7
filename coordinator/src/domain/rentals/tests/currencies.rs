//! Several currencies: what the market takes, and what it refuses before a row is written.

use serde_json::json;

use super::payments::{RENT, count};
use crate::testing::{TestApp, market::Market, request};

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
