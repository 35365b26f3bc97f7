//! Tests of figures: they are the ledger's to the unit, whatever is repeated, cut off or forgotten.

#![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::{clock::Clock as _, money::Asset};

use super::*;
use crate::{
    config::{AssetConfig, Config},
    error::Error,
    params,
    tasks::{Task as _, analytics::Analytics, market_feed},
    testing::{
        TestApp,
        dump::{changed, dump},
        market::{Market, rental_of},
        on_both_stores,
    },
};

const HOUR_MS: i64 = 3_600_000;

on_both_stores!(
    sums_are_the_ledgers,
    coverage_and_use_are_told_by_hour_and_day,
    the_market_is_sampled_and_thinned,
    ranges_are_bounded_and_figures_are_ones_own,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_two_currencies_are_never_one_sum_on_sqlite() {
    figures_of_two_currencies_are_never_one_sum(TestApp::with(both).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_two_currencies_are_never_one_sum_on_postgres() {
    figures_of_two_currencies_are_never_one_sum(TestApp::on_postgres_with(both).await).await;
}

fn both(config: &mut Config) {
    config.payments.assets = vec![AssetConfig::of(Asset::USDC), AssetConfig::of(Asset::EURC)];
}

async fn roll(test: &TestApp) -> Value {
    Analytics(Arc::clone(&test.app))
        .activate()
        .await
        .expect("it runs")
}

/// A token that is good now: those from before expired while the clock was moved.
async fn again(test: &TestApp, email: &str) -> String {
    let body = json!({ "email": email, "password": "a long password" });
    let answer = test.post("/api/v1/auth/login", "", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["access_token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

/// A sum over a whole table, for the test only.
async fn sum(test: &TestApp, sql: &'static str) -> i64 {
    let read = test.app.db.read("test.sum", move |tx| {
        Ok(tx.query(sql, params![])?[0].int(0)?)
    });
    read.await.expect("a sum")
}

async fn assert_exact(test: &TestApp) {
    for grain in ["hour", "day"] {
        let (earned, fee, spent) = match grain {
            "hour" => (
                sum(test, "SELECT CAST(COALESCE(SUM(earned), 0) AS BIGINT) FROM node_earnings WHERE grain = 'hour'").await,
                sum(test, "SELECT CAST(COALESCE(SUM(fee), 0) AS BIGINT) FROM node_earnings WHERE grain = 'hour'").await,
                sum(test, "SELECT CAST(COALESCE(SUM(spent), 0) AS BIGINT) FROM consumer_spending WHERE grain = 'hour'").await,
            ),
            _ => (
                sum(test, "SELECT CAST(COALESCE(SUM(earned), 0) AS BIGINT) FROM node_earnings WHERE grain = 'day'").await,
                sum(test, "SELECT CAST(COALESCE(SUM(fee), 0) AS BIGINT) FROM node_earnings WHERE grain = 'day'").await,
                sum(test, "SELECT CAST(COALESCE(SUM(spent), 0) AS BIGINT) FROM consumer_spending WHERE grain = 'day'").await,
            ),
        };
        let ledger = "SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT) FROM accounts WHERE kind IN ('provider_pending', 'provider_available')";
        assert_eq!(earned, sum(test, ledger).await, "{grain}");
        let ledger = "SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT) FROM accounts WHERE kind = 'platform_fees'";
        assert_eq!(fee, sum(test, ledger).await, "{grain}");
        let ledger = "SELECT CAST(COALESCE(SUM(charged), 0) AS BIGINT) FROM rentals WHERE consumer IS NOT NULL";
        assert_eq!(spent, sum(test, ledger).await, "{grain}");
    }
}

/// Rents with an account.
async fn rent_signed_in(market: &mut Market, token: &str, seconds: i64) -> shared::id::RentalId {
    let order = market.order(seconds);
    let answer = market
        .payer
        .buy(&market.test, "/api/v1/rentals", token, &order)
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let id = rental_of(&answer);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    id
}

async fn sums_are_the_ledgers(test: TestApp) {
    let mut market = Market::open(test).await;
    let consumer = market
        .test
        .signup("consumer@example.org", &["consumer"])
        .await;
    market.run(5_000).await;
    rent_signed_in(&mut market, &consumer, 7_000).await;
    for _ in 0..4 {
        market.pass(27 * 60_000).await;
        market.settle().await;
        // a crash in the middle: nothing of it stays
        let ctx = market.test.app.task_context("test");
        let before = dump(&market.test.app.db, &[]).await;
        let cut: Result<()> = market
            .test
            .app
            .db
            .write("test", move |tx| {
                add_windows(tx, &ctx)?;
                Err(Error::conflict("cut", "off"))
            })
            .await;
        assert!(cut.is_err());
        assert_eq!(
            changed(&before, &dump(&market.test.app.db, &[]).await),
            Vec::<String>::new()
        );
        // two at once, then once more
        tokio::join!(roll(&market.test), roll(&market.test));
        assert_exact(&market.test).await;
        assert_eq!(roll(&market.test).await["windows"], 0);
        assert_exact(&market.test).await;
    }
    let earned = sum(
        &market.test,
        "SELECT CAST(SUM(earned) AS BIGINT) FROM node_earnings WHERE grain = 'day'",
    )
    .await;
    assert!(earned > 0);
    market.check_books().await;
}

async fn coverage_and_use_are_told_by_hour_and_day(test: TestApp) {
    let mut market = Market::open(test).await;
    roll(&market.test).await;
    let began = Step::Hour.floor(market.test.clock.now());
    // to the full hour, then one hour rented by a quarter of a GiB
    market
        .pass(HOUR_MS - market.test.clock.now().ms_since(began))
        .await;
    let id = market.run(3_600).await;
    market.pass(HOUR_MS + 15 * 60_000).await;
    market.settle().await;
    roll(&market.test).await;
    let provider = again(&market.test, "provider@example.org").await;
    let path = format!(
        "/api/v1/analytics/provider?step=hour&from={began}&node_id={}",
        market.node.id
    );
    let hours = market.test.get(&path, &provider).await;
    assert_eq!(hours.status, StatusCode::OK, "{hours:?}");
    let hours = hours.json();
    let rented = &hours["items"][1];
    assert!(rented["uptime_permille"].as_i64() >= Some(990), "{hours}");
    let rental = market.rental(id).await;
    let ram_mib = rental.resources.ram_bytes >> 20;
    let rentable = market
        .test
        .get(&format!("/api/v1/nodes/{}", market.node.id), &provider)
        .await
        .json();
    assert!(rentable["id"].is_string());
    assert!(rented["billed_ms"].as_i64() > Some(3_500_000), "{hours}");
    assert!(
        ram_mib > 0 && rented["utilisation_permille"].as_i64() > Some(0),
        "{hours}"
    );
    let days = market
        .test
        .get("/api/v1/analytics/provider?step=day", &provider)
        .await
        .json();
    let total: i64 = hours["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|hour| hour["billed_ms"].as_i64().expect("ms"))
        .sum();
    let by_day: i64 = days["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|day| day["billed_ms"].as_i64().expect("ms"))
        .sum();
    assert_eq!(total, by_day);
    // looking again changes nothing
    let before = dump(&market.test.app.db, &[]).await;
    let ctx = market.test.app.task_context("test");
    let db = &market.test.app.db;
    let again = db.write("test", move |tx| {
        store::move_position(tx, began, "")?;
        while add_coverage(tx, &ctx)?.is_some() {}
        Ok(())
    });
    again.await.expect("looked");
    assert_eq!(
        changed(&before, &dump(&market.test.app.db, &[]).await),
        Vec::<String>::new()
    );
}

async fn the_market_is_sampled_and_thinned(test: TestApp) {
    let market = Market::open(test).await;
    let test = &market.test;
    for _ in 0..24 {
        roll(test).await;
        test.clock.advance_ms(150_000);
    }
    market_feed::load(&test.app).await.expect("loaded");
    let samples = test
        .get("/api/v1/analytics/market?resource=ram&step=sample", "")
        .await;
    assert_eq!(samples.status, StatusCode::OK, "{samples:?}");
    let samples = samples.json();
    assert_eq!(
        samples["items"].as_array().map(Vec::len),
        Some(12),
        "{samples}"
    );
    assert_eq!(samples["items"][0]["prices"][0]["median"], "0.002000");
    assert!(samples["items"][0]["available"].as_i64() > Some(0));
    assert_eq!(
        test.get("/api/v1/analytics/market?resource=gpu&step=sample", "")
            .await
            .json()["items"][0]["available"],
        0
    );
    test.clock.advance_ms(8 * 24 * HOUR_MS);
    roll(test).await;
    let kept = sum(
        test,
        "SELECT COUNT(*) FROM market_samples WHERE resource = 'ram'",
    )
    .await;
    assert_eq!(kept, 2, "the full hour's and today's");
    test.clock.advance_ms(100 * 24 * HOUR_MS);
    roll(test).await;
    let kept = sum(
        test,
        "SELECT COUNT(*) FROM node_earnings WHERE grain = 'hour' AND earned > 0",
    )
    .await;
    assert_eq!(kept, 0);
}

async fn ranges_are_bounded_and_figures_are_ones_own(test: TestApp) {
    let market = Market::open(test).await;
    let test = &market.test;
    let other = test
        .signup("other@example.org", &["provider", "consumer"])
        .await;
    for query in [
        "step=hour&from=2020-01-01T00:00:00Z",
        "step=day&from=2030-01-01T00:00:00Z",
        "step=day&from=yesterday",
        "step=minute",
        "odd=1",
    ] {
        for path in ["provider", "consumer"] {
            let answer = test
                .get(&format!("/api/v1/analytics/{path}?{query}"), &other)
                .await;
            assert!(
                answer.status.is_client_error(),
                "{path} {query}: {answer:?}"
            );
        }
    }
    for path in ["provider", "consumer"] {
        let path = format!("/api/v1/analytics/{path}");
        assert_eq!(test.get(&path, "").await.status, StatusCode::UNAUTHORIZED);
    }
    let path = format!("/api/v1/analytics/provider?node_id={}", market.node.id);
    assert_eq!(
        test.get(&path, &other).await.json()["items"],
        serde_json::json!([])
    );
    let consumer = test.get("/api/v1/analytics/consumer", &other).await.json();
    assert_eq!(
        (
            consumer["running_rentals"].as_i64(),
            consumer["burn_rate_per_hour"].as_array().map(Vec::len)
        ),
        (Some(0), Some(0))
    );
    let history = test
        .get(
            &format!("/api/v1/offers/{}/price-history", market.offer),
            "",
        )
        .await;
    assert_eq!(history.status, StatusCode::OK, "{history:?}");
    assert_eq!(
        history.json()["items"][0]["prices"]["ram_gib_hour"],
        "0.002000"
    );
}

/// A market with an offer in each currency: what each earned, cost and asks is told apart.
async fn figures_of_two_currencies_are_never_one_sum(test: TestApp) {
    let consumer = test.signup("consumer@example.org", &["consumer"]).await;
    let mut market = Market::open(test).await;
    let body = json!({
        "node_id": market.node.id, "currency": "EURC", "prices": {"ram_gib_hour": "0.004", "cpu_hour": "0"},
    });
    let offered = market
        .test
        .post("/api/v1/offers", &market.provider, &body)
        .await;
    assert_eq!(offered.status, StatusCode::CREATED, "{offered:?}");
    market_feed::load(&market.test.app).await.expect("loaded");
    let dollars = rent_signed_in(&mut market, &consumer, 3_600).await;
    let usual = market.offer;
    market.offer = offered.json()["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("an id");
    let mut order = market.order(3_600);
    let money = json!({"amount": {"amount": "1", "currency": "EURC"}, "source": "sandbox"});
    let filled = keyed(&market, "/api/v1/balance/topups", &consumer, &money, "fill").await;
    assert_eq!(filled.status, StatusCode::CREATED, "{filled:?}");
    order["pay_with"] = json!("balance");
    let euros = rental_of(&keyed(&market, "/api/v1/rentals", &consumer, &order, "rent").await);
    market.offer = usual;
    market.node.beat(&market.test).await;
    market.node.start(euros);
    market.node.beat(&market.test).await;
    let now = market
        .test
        .get("/api/v1/analytics/consumer", &consumer)
        .await
        .json();
    assert_eq!(
        now["burn_rate_per_hour"],
        json!([{"amount": "0.001000", "currency": "EURC"}, {"amount": "0.000500", "currency": "USDC"}]),
    );
    market.pass(600_000).await;
    market.settle().await;
    roll(&market.test).await;
    let consumer = again(&market.test, "consumer@example.org").await;
    let provider = again(&market.test, "provider@example.org").await;
    let (dollars, euros) = (market.rental(dollars).await, market.rental(euros).await);
    let of = |amount: shared::money::Amount, currency: &str| json!({"amount": amount, "currency": currency});
    let spent = market
        .test
        .get("/api/v1/analytics/consumer?step=day", &consumer)
        .await
        .json();
    assert_eq!(
        spent["items"][0]["spent"],
        json!([of(euros.charged, "EURC"), of(dollars.charged, "USDC")]),
        "{spent}"
    );
    let share = |rental: &crate::domain::rentals::model::Rental| {
        rental.charged.minus(rental.fee).expect("fits")
    };
    for path in [
        "/api/v1/analytics/provider?step=day".to_owned(),
        format!(
            "/api/v1/analytics/provider?step=day&node_id={}",
            market.node.id
        ),
    ] {
        let earned = market.test.get(&path, &provider).await.json();
        let day = &earned["items"][0];
        assert_eq!(
            day["earned"],
            json!([of(share(&euros), "EURC"), of(share(&dollars), "USDC")]),
            "{earned}"
        );
        assert_eq!(
            day["platform_fee"],
            json!([of(euros.fee, "EURC"), of(dollars.fee, "USDC")]),
            "{earned}"
        );
    }
    // a range ends before the moment at which it is asked for, and the sample was made at this very one
    market.test.clock.advance_ms(1_000);
    let asked = market
        .test
        .get("/api/v1/analytics/market?resource=ram&step=sample", "")
        .await
        .json();
    let prices = &asked["items"]
        .as_array()
        .expect("a list")
        .last()
        .expect("a sample")["prices"];
    assert_eq!(
        (
            &prices[0]["currency"],
            &prices[0]["median"],
            &prices[1]["currency"],
            &prices[1]["median"]
        ),
        (
            &json!("EURC"),
            &json!("0.004000"),
            &json!("USDC"),
            &json!("0.002000")
        ),
        "{asked}"
    );
    // administrators see what the platform has of each
    let read = market
        .test
        .app
        .db
        .read("test.fees", |tx| crate::domain::admin::platform_fees(tx));
    let fees = serde_json::to_value(read.await.expect("read")).expect("JSON");
    assert_eq!(
        fees,
        json!([of(euros.fee, "EURC"), of(dollars.fee, "USDC")])
    );
}

async fn keyed(
    market: &Market,
    path: &str,
    token: &str,
    body: &Value,
    key: &'static str,
) -> crate::testing::Answer {
    let mut request = crate::testing::request("POST", path, token, body);
    let key = axum::http::HeaderValue::from_static(key);
    request.headers_mut().insert("idempotency-key", key);
    market.test.send(request).await
}
