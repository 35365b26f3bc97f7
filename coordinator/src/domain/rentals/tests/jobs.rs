//! What time does: silence, leases, balances that extend, rentals that never start, and beats that say nothing.

use axum::http::HeaderValue;
use serde_json::{Value, json};
use shared::id::RentalId;

use crate::{
    context::Role,
    domain::{
        auth::{self, model::Email},
        rentals::model::{EndReason, State},
    },
    testing::{
        Answer, CRON_TOKEN, TestApp,
        dump::{changed, dump},
        market::{Market, rental_of},
        on_both_stores, request,
    },
};

on_both_stores!(
    silence_makes_a_node_suspect_and_then_offline,
    a_balance_extends_its_rental_until_it_is_empty,
    a_rental_that_never_starts_costs_nothing,
    a_quiet_beat_writes_nothing,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jobs_run_for_admins_and_the_cron_token_only() {
    let test = TestApp::new().await;
    let lifecycle = test.start_tasks();
    let path = "/api/v1/cron/metering";
    let consumer = test.signup("consumer@example.org", &["consumer"]).await;
    assert_eq!(test.post(path, "", &Value::Null).await.status, 401);
    assert_eq!(test.post(path, "wrong", &Value::Null).await.status, 401);
    assert_eq!(test.post(path, &consumer, &Value::Null).await.status, 403);
    let ctx = test.app.task_context("test");
    let email = Email::parse("consumer@example.org").expect("an address");
    let granted = test.app.db.write("test.grant", move |tx| {
        auth::grant(tx, &ctx, &email, Role::Admin)
    });
    granted.await.expect("the role is granted");
    let login = json!({"email": "consumer@example.org", "password": "a long password"});
    let login = test.post("/api/v1/auth/login", "", &login).await.json();
    let admin = login["access_token"].as_str().expect("a token").to_owned();
    for token in [admin.as_str(), CRON_TOKEN] {
        let answer = test.post(path, token, &Value::Null).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let tasks = answer.json()["tasks"].clone();
        let names: Vec<&str> = tasks
            .as_array()
            .expect("a list")
            .iter()
            .map(|task| {
                assert!(task["status"].is_object(), "{task}");
                assert_eq!(task["failures"], 0, "{task}");
                task["task"].as_str().expect("a name")
            })
            .collect();
        assert_eq!(
            names,
            [
                "liveness",
                "leases",
                "spending",
                "expiry",
                "payments",
                "settlement",
                "invoices",
                "payouts"
            ]
        );
    }
    lifecycle.stop().await.expect("timers stop");
}

async fn availability(market: &Market) -> String {
    let path = format!("/api/v1/nodes/{}", market.node.id);
    let node = market.test.get(&path, &market.provider).await.json();
    node["availability"].as_str().unwrap_or("").to_owned()
}

async fn silence_makes_a_node_suspect_and_then_offline(test: TestApp) {
    let mut market = Market::open(test).await;
    assert_eq!(availability(&market).await, "online");
    let mut at_s = 0;
    for (after_s, expected) in [
        (14, "online"),
        (15, "suspect"),
        (59, "suspect"),
        (60, "offline"),
    ] {
        market.test.clock.advance_ms((after_s - at_s) * 1_000);
        at_s = after_s;
        market.timers().await;
        assert_eq!(availability(&market).await, expected, "after {after_s} s");
    }
    let offers = market.test.get("/api/v1/offers", "").await;
    assert_eq!(offers.status, 200);
    let order = market.order(600);
    let refused = market.test.post("/api/v1/rentals", "", &order).await;
    assert_eq!(refused.json()["code"], "capacity_gone", "{refused:?}");
    market.node.beat(&market.test).await;
    assert_eq!(availability(&market).await, "online");
    // after a restart a node is waited for before anything is said of it
    let test = market.test.restarted();
    test.start_ingest();
    market.test = test;
    market.test.clock.advance_ms(14_000);
    market.timers().await;
    let soon = availability(&market).await;
    assert!(soon == "online" || soon == "warming", "{soon}");
}

async fn buy_from_balance(market: &Market, token: &str, body: &Value, key: &'static str) -> Answer {
    let path = if body["amount"].is_null() {
        "/api/v1/rentals"
    } else {
        "/api/v1/balance/topups"
    };
    let mut request = request("POST", path, token, body);
    let key = HeaderValue::from_static(key);
    request.headers_mut().insert("idempotency-key", key);
    market.test.send(request).await
}

async fn a_balance_extends_its_rental_until_it_is_empty(test: TestApp) {
    let mut market = Market::open(test).await;
    let consumer = market
        .test
        .signup("consumer@example.org", &["consumer"])
        .await;
    // 256 MiB cost 84 units for ten minutes: enough for the first ten, two whole extensions and 72 s
    let money = json!({"amount": {"amount": "0.000260", "currency": "USDC"}, "source": "sandbox"});
    let filled = buy_from_balance(&market, &consumer, &money, "fill").await;
    assert_eq!(filled.status, 201, "{filled:?}");
    let mut order = market.order(600);
    order["pay_with"] = json!("balance");
    order["auto_extend"] = json!(true);
    let id = rental_of(&buy_from_balance(&market, &consumer, &order, "rent").await);
    let again = buy_from_balance(&market, &consumer, &order, "rent").await;
    assert_eq!(rental_of(&again), id, "the same key is the same rental");
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    market.pass(32 * 60_000).await;
    market.settle().await;
    market.check_books().await;
    let rental = market.rental(id).await;
    assert_eq!(rental.duration_ms, 1_872_000);
    assert_eq!(rental.end_reason, Some(EndReason::OutOfFunds));
    assert_eq!(rental.billed_ms, 1_872_000);
    assert_eq!(rental.charged.atomic(), 260);
    let login = json!({"email": "consumer@example.org", "password": "a long password"});
    let login = market
        .test
        .post("/api/v1/auth/login", "", &login)
        .await
        .json();
    let consumer = login["access_token"].as_str().expect("a token");
    let balance = market.test.get("/api/v1/balance", consumer).await.json();
    assert_eq!(
        balance["items"][0]["available"]["amount"], "0.000000",
        "{balance}"
    );
}

async fn a_rental_that_never_starts_costs_nothing(test: TestApp) {
    let mut market = Market::open(test).await;
    let id: RentalId = market.rent(3_600).await;
    market.pass(29 * 60_000).await;
    let waiting = market.rental(id).await;
    assert_eq!((waiting.state, waiting.started_at), (State::Active, None));
    market.pass(2 * 60_000).await;
    market.settle().await;
    market.check_books().await;
    let ended = market.rental(id).await;
    assert_eq!(ended.end_reason, Some(EndReason::FailedToStart));
    assert!(ended.charged.is_zero() && ended.refunded == ended.paid);
    assert!(market.node.containers.is_empty());
}

async fn a_quiet_beat_writes_nothing(test: TestApp) {
    let mut market = Market::open(test).await;
    market.node.beat(&market.test).await;
    let db = market.test.app.db.clone();
    let before = dump(&db, &[]).await;
    let mut commits = db.committed();
    commits.borrow_and_update();
    for _ in 0..10 {
        market.test.clock.advance_ms(5_000);
        let reply = market.node.beat(&market.test).await;
        assert!(!reply.more && reply.desired.rentals.is_empty());
    }
    assert!(!commits.has_changed().expect("the database is open"));
    let after = dump(&db, &[]).await;
    assert_eq!(changed(&before, &after), Vec::<String>::new());
    // but a changed inventory is written
    market.node.inventory.kernel = "6.2.0".into();
    market.node.beat(&market.test).await;
    assert!(commits.has_changed().expect("the database is open"));
    let after = dump(&db, &[]).await;
    assert_eq!(
        changed(&before, &after),
        ["events", "node_chains", "node_coverage", "nodes"]
    );
}
