//! Money and time that run out: told of in time and once, and a top-up within the grace rescues what would stop.

use serde_json::{Value, json};

use super::payments::count;
use crate::{
    domain::rentals::model::{EndReason, State},
    params,
    tasks::{Task, spending::Spending},
    testing::{
        Answer, TestApp,
        market::{Market, rental_of},
        on_both_stores, request,
    },
};

on_both_stores!(
    time_left_is_told_when_a_threshold_is_crossed,
    a_balance_that_ends_is_told_and_a_top_up_rescues,
    a_limit_of_its_own_is_told,
);

const TOP_UP: &str = "/api/v1/balance/topups";

/// Looks as the timer does, on two coordinators; nothing is told twice.
async fn look(market: &Market) {
    let other = market.test.beside();
    for app in [&market.test.app, &other.app] {
        let looked = Spending(std::sync::Arc::clone(app)).activate().await;
        assert_eq!(looked.expect("it looks")["failed"], 0);
    }
}

/// What was told of a kind: the payloads, oldest first.
async fn told(market: &Market, kind: &'static str) -> Vec<Value> {
    let db = &market.test.app.db;
    let read = db.read("test.told", move |tx| {
        let rows = tx.query(
            "SELECT payload FROM events WHERE kind = $1 ORDER BY id",
            params![kind],
        )?;
        rows.iter()
            .map(|row| Ok(row.text(0)?.to_owned()))
            .collect::<crate::error::Result<Vec<_>>>()
    });
    let texts = read.await.expect("events are read");
    texts
        .iter()
        .map(|text| serde_json::from_str(text).expect("JSON"))
        .collect()
}

async fn letters(market: &Market, subject: &str) -> i64 {
    let sql = match subject {
        "soon" => "SELECT COUNT(*) FROM mail_outbox WHERE subject = 'Your rental ends soon'",
        _ => {
            "SELECT COUNT(*) FROM mail_outbox WHERE subject = 'Your rental stops for want of funds'"
        }
    };
    count(market, sql).await
}

async fn keyed(
    market: &Market,
    path: &str,
    token: &str,
    body: &Value,
    key: &'static str,
) -> Answer {
    let mut request = request("POST", path, token, body);
    let key = axum::http::HeaderValue::from_static(key);
    request.headers_mut().insert("idempotency-key", key);
    market.test.send(request).await
}

/// Time passes, and each 30 s what runs out is looked at.
async fn pass(market: &mut Market, seconds: i64) {
    for _ in 0..seconds / 30 {
        market.pass(30_000).await;
        look(market).await;
    }
}

async fn time_left_is_told_when_a_threshold_is_crossed(test: TestApp) {
    let mut market = Market::open(test).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let order = market.order(2 * 86_400);
    let id = rental_of(
        &market
            .payer
            .buy(&market.test, "/api/v1/rentals", &ada, &order)
            .await,
    );
    let short = market.order(300);
    let short = rental_of(
        &market
            .payer
            .buy(&market.test, "/api/v1/rentals", "", &short)
            .await,
    );
    market.node.beat(&market.test).await;
    for rental in [id, short] {
        market.node.start(rental);
    }
    market.node.beat(&market.test).await;
    // nobody beats while the clock leaps: what is looked at is when the paid time ends
    let day = 86_400_000;
    let mut expected: Vec<i64> = Vec::new();
    for (leap_ms, threshold) in [
        (60_000, None),
        (day - 120_000, None),
        (120_000, Some(86_400)),
        (1_000, None),
        (day - 3_600_000, Some(3_600)),
        (60_000, None),
        (50 * 60_000, Some(600)),
        (60_000, None),
    ] {
        market.test.clock.advance_ms(leap_ms);
        look(&market).await;
        expected.extend(threshold);
        let seen = told(&market, "rental.time_left").await;
        let seen: Vec<i64> = seen
            .iter()
            .filter_map(|facts| facts["threshold_seconds"].as_i64())
            .collect();
        assert_eq!(seen, expected, "after {leap_ms} ms");
    }
    // the short one had none of them ahead of it, and letters go to accounts
    assert_eq!(letters(&market, "soon").await, 3);
    let rental = market.rental(id).await;
    let ends = rental.paid_until().expect("it runs").to_string();
    let seen = told(&market, "rental.time_left").await;
    assert!(
        seen.iter()
            .all(|facts| facts["ends_at"] == ends && facts["is_forecast"] == false),
        "{seen:?}"
    );
    // more time has its own thresholds
    let body = json!({"duration_seconds": 3_600});
    let login = json!({"email": "ada@example.org", "password": "a long password"});
    let login = market
        .test
        .post("/api/v1/auth/login", "", &login)
        .await
        .json();
    let ada = login["access_token"].as_str().expect("a token").to_owned();
    let path = format!("/api/v1/rentals/{id}/extend");
    let extended = market.payer.buy(&market.test, &path, &ada, &body).await;
    assert_eq!(extended.status, 201, "{extended:?}");
    look(&market).await;
    assert_eq!(told(&market, "rental.time_left").await.len(), 3);
    market.test.clock.advance_ms(3_600_000);
    look(&market).await;
    assert_eq!(told(&market, "rental.time_left").await.len(), 4);
}

async fn with_funds(market: &Market, amount: &str) -> String {
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let money = json!({"amount": {"amount": amount, "currency": "USDC"}, "source": "sandbox"});
    let filled = keyed(market, TOP_UP, &ada, &money, "fill").await;
    assert_eq!(filled.status, 201, "{filled:?}");
    ada
}

async fn signed_in_again(market: &Market) -> String {
    let login = json!({"email": "ada@example.org", "password": "a long password"});
    let login = market
        .test
        .post("/api/v1/auth/login", "", &login)
        .await
        .json();
    login["access_token"].as_str().expect("a token").to_owned()
}

/// 256 MiB cost 500 units an hour: 260 units are 1,872 s.
async fn a_balance_that_ends_is_told_and_a_top_up_rescues(test: TestApp) {
    let mut market = Market::open(test).await;
    let ada = with_funds(&market, "0.000260").await;
    let mut order = market.order(600);
    order["pay_with"] = json!("balance");
    order["auto_extend"] = json!(true);
    let id = rental_of(&keyed(&market, "/api/v1/rentals", &ada, &order, "rent").await);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    let balance = market.test.get("/api/v1/balance", &ada).await.json();
    assert_eq!(
        balance["items"][0]["burn_rate_per_hour"]["amount"], "0.000500",
        "{balance}"
    );
    // 176 units
    assert_eq!(balance["items"][0]["hours_left"], 0.35, "{balance}");
    pass(&mut market, 1_200).await;
    assert_eq!(told(&market, "rental.time_left").await.len(), 0);
    assert_eq!(told(&market, "rental.out_of_funds").await.len(), 0);
    pass(&mut market, 360).await;
    let seen = told(&market, "rental.time_left").await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        (&seen[0]["threshold_seconds"], &seen[0]["is_forecast"]),
        (&json!(600), &json!(true))
    );
    pass(&mut market, 60).await;
    // the last step was as long as the balance allowed, and it is said when that ends
    let rental = market.rental(id).await;
    assert_eq!((rental.duration_ms, rental.paid.atomic()), (1_872_000, 260));
    let seen = told(&market, "rental.out_of_funds").await;
    let stops_at = rental.paid_until().expect("it runs").to_string();
    assert_eq!(seen, [json!({"stops_at": stops_at, "reason": "balance"})]);
    assert_eq!(
        (
            letters(&market, "funds").await,
            letters(&market, "soon").await
        ),
        (1, 1)
    );
    pass(&mut market, 120).await;
    assert_eq!(told(&market, "rental.out_of_funds").await.len(), 1);
    // a wallet fills the balance: the rental goes on without being asked to
    let ada = signed_in_again(&market).await;
    let fill = json!({"amount": {"amount": "0.000100", "currency": "USDC"}});
    let filled = market.payer.buy(&market.test, TOP_UP, &ada, &fill).await;
    assert_eq!(filled.status, 201, "{filled:?}");
    pass(&mut market, 240).await;
    let rental = market.rental(id).await;
    assert_eq!(rental.state, State::Active, "{rental:?}");
    assert_eq!(rental.duration_ms, 1_872_000 + 600_000);
    assert_eq!(told(&market, "rental.out_of_funds").await.len(), 1);
    // and ends when that is gone, too: 17 units more than ten minutes
    pass(&mut market, 900).await;
    market.settle().await;
    market.check_books().await;
    let ended = market.rental(id).await;
    assert_eq!(ended.end_reason, Some(EndReason::OutOfFunds), "{ended:?}");
    assert_eq!((ended.paid.atomic(), ended.charged.atomic()), (360, 360));
    assert_eq!(ended.billed_ms, ended.duration_ms);
    assert_eq!(told(&market, "rental.out_of_funds").await.len(), 2);
    let watched = "SELECT COUNT(*) FROM rental_alerts";
    assert_eq!(count(&market, watched).await, 0);
}

async fn a_limit_of_its_own_is_told(test: TestApp) {
    let mut market = Market::open(test).await;
    let ada = with_funds(&market, "5").await;
    let mut order = market.order(600);
    order["pay_with"] = json!("balance");
    order["auto_extend"] = json!(true);
    order["max_spend"] = json!({"amount": "0.000100", "currency": "USDC"});
    let id = rental_of(&keyed(&market, "/api/v1/rentals", &ada, &order, "rent").await);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    pass(&mut market, 540).await;
    let rental = market.rental(id).await;
    assert_eq!((rental.duration_ms, rental.paid.atomic()), (720_000, 100));
    let seen = told(&market, "rental.out_of_funds").await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0]["reason"], "max_spend");
    // nor by any other way
    let path = format!("/api/v1/rentals/{id}/extend");
    let more = json!({"duration_seconds": 60, "pay_with": "balance"});
    let refused = keyed(&market, &path, &ada, &more, "more").await;
    assert_eq!(refused.status, 422, "{refused:?}");
    let by_wallet = market
        .test
        .post(&path, &ada, &json!({"duration_seconds": 60}))
        .await;
    assert_eq!(by_wallet.status, 422, "{by_wallet:?}");
    order["max_spend"] = json!({"amount": "0.000083", "currency": "USDC"});
    order["auto_extend"] = json!(false);
    for pay_with in ["balance", "x402"] {
        order["pay_with"] = json!(pay_with);
        let refused = keyed(
            &market,
            "/api/v1/rentals",
            &ada,
            &order,
            pay_with_key(pay_with),
        )
        .await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["code"]),
            (422, &json!("invalid")),
            "{refused:?}"
        );
    }
}

fn pay_with_key(pay_with: &str) -> &'static str {
    if pay_with == "balance" {
        "by-balance"
    } else {
        "by-wallet"
    }
}
