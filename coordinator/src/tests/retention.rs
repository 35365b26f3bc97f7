//! What is old is forgotten in batches; what is new, unbilled, unseen or the last of its kind stays.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::id::RentalId;

use crate::{
    domain::events::{self, Event, Feed},
    params,
    store::Tx,
    tasks::{Task as _, event_relay::EventRelay, retention::Retention, webhooks::Webhooks},
    testing::{TestApp, market::Market, on_both_stores},
};

const DAY_MS: i64 = 86_400_000;

on_both_stores!(
    events_go_once_they_are_old_and_seen,
    records_go_once_their_rental_is_settled,
    the_last_price_before_stays,
    keys_and_runs_go_by_age,
);

async fn forget(test: &TestApp) -> Value {
    let mut task = Retention::new(Arc::clone(&test.app));
    task.activate().await.expect("it runs")
}

async fn number(test: &TestApp, sql: &'static str) -> i64 {
    let read = move |tx: &mut dyn Tx| Ok(tx.query(sql, params![])?[0].int(0)?);
    test.app
        .db
        .read("test.number", read)
        .await
        .expect("a number")
}

async fn happen(test: &TestApp, count: u32) {
    let ctx = test.app.task_context("test");
    let write = move |tx: &mut dyn Tx| {
        let event = |n| Event::new("test.happened", json!({ "number": n }));
        (0..count).try_for_each(|n| events::append(tx, &ctx, event(n)))
    };
    test.app
        .db
        .write("test.events", write)
        .await
        .expect("written");
    let mut relay = EventRelay::new(&test.app);
    relay.activate().await.expect("placed");
}

async fn events_go_once_they_are_old_and_seen(test: TestApp) {
    // more than two batches
    happen(&test, 1_200).await;
    test.clock.advance_ms(90 * DAY_MS - 1_000);
    happen(&test, 3).await;
    let count = "SELECT COUNT(*) FROM events";
    let all = number(&test, count).await;
    test.clock.advance_ms(1_001);
    assert_eq!(
        forget(&test).await["events"],
        0,
        "webhooks haven't seen them"
    );
    let mut webhooks = Webhooks(Arc::clone(&test.app));
    webhooks.activate().await.expect("handed out");
    let gone = forget(&test).await["events"].as_i64().expect("a number");
    assert!(gone >= 1_200, "{gone}");
    assert_eq!((all - gone, number(&test, count).await), (3, 3));
    assert_eq!(forget(&test).await["events"], 0);
    // whoever resumes at what is gone goes on with what is left, without end or gap
    let mut feed = Feed::open(&test.app.db, &test.app.events, Some(1))
        .await
        .expect("open");
    let mut seqs = Vec::new();
    for _ in 0..3 {
        seqs.push(feed.next().await.expect("read").expect("an event").seq);
    }
    assert_eq!(seqs, [all - 2, all - 1, all]);
    happen(&test, 1).await;
    let next = feed.next().await.expect("read").expect("an event");
    assert_eq!(next.seq, all + 1, "places go on");
}

async fn records_go_once_their_rental_is_settled(test: TestApp) {
    let mut market = Market::open(test).await;
    let unsettled = market.rent(600).await;
    let (test, node) = (&market.test, market.node.id);
    let unknown: RentalId = "rnt_00000000000000000000000000000009"
        .parse()
        .expect("an id");
    let now = test.app.clock.now();
    // numbers behind those of the node's own journal
    let write = move |tx: &mut dyn Tx| {
        for (seq, rental) in (1_000_000..1_000_700)
            .map(|n| (n, unknown))
            .chain([(2_000_000, unsettled)])
        {
            tx.execute(
                "INSERT INTO usage_records (node_id, seq, hash, rental_id, body, received_at) VALUES ($1, $2, $3, $4, $5, $6)",
                params![node, seq, &b"hash"[..], rental, "{}", now.plus_ms(seq % 7)],
            )?;
        }
        Ok(())
    };
    test.app
        .db
        .write("test.records", write)
        .await
        .expect("written");
    let left = "SELECT COUNT(*) FROM usage_records WHERE seq >= 1000000";
    test.clock.advance_ms(180 * DAY_MS);
    forget(test).await;
    assert_eq!(number(test, left).await, 701, "not a day too early");
    test.clock.advance_ms(10);
    let gone = forget(test).await["usage_records"]
        .as_i64()
        .expect("a number");
    assert!(gone >= 700, "{gone}");
    assert_eq!(number(test, left).await, 1);
    let whose = "SELECT COUNT(*) FROM usage_records WHERE seq = 2000000";
    assert_eq!(number(test, whose).await, 1, "what isn't billed yet stays");
    let settled = move |tx: &mut dyn Tx| {
        let set = "UPDATE rentals SET settled_at = created_at WHERE id = $1";
        Ok(tx.execute(set, params![unsettled])?)
    };
    assert_eq!(
        test.app
            .db
            .write("test.settled", settled)
            .await
            .expect("set"),
        1
    );
    forget(test).await;
    assert_eq!(number(test, left).await, 0);
}

async fn the_last_price_before_stays(test: TestApp) {
    let market = Market::open(test).await;
    let test = &market.test;
    let path = format!("/api/v1/offers/{}", market.offer);
    for (days, price) in [(100, "0.005"), (100, "0.006"), (200, "0.007")] {
        test.clock.advance_ms(days * DAY_MS);
        // the token from before expired
        let sign_in = json!({"email": "provider@example.org", "password": "a long password"});
        let signed_in = test.post("/api/v1/auth/login", "", &sign_in).await.json();
        let provider = signed_in["access_token"].as_str().expect("a token");
        let prices = json!({"prices": {"ram_gib_hour": price, "cpu_hour": "0"}});
        let changed = crate::testing::request("PATCH", &path, provider, &prices);
        assert_eq!(test.send(changed).await.status, StatusCode::OK);
    }
    // changed at 0, 100, 200 and 400 days; a year ago is day 100 now: the price of day 0 held until then
    test.clock.advance_ms(65 * DAY_MS);
    assert_eq!(forget(test).await["offer_prices"], 0);
    test.clock.advance_ms(1);
    assert_eq!(forget(test).await["offer_prices"], 1);
    let history = test.get(&format!("{path}/price-history"), "").await.json();
    let prices: Vec<&Value> = history["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| &item["prices"]["ram_gib_hour"])
        .collect();
    assert_eq!(prices, ["0.007000", "0.006000", "0.005000"]);
    test.clock.advance_ms(1_000 * DAY_MS);
    forget(test).await;
    let count = "SELECT COUNT(*) FROM offer_prices";
    assert_eq!(number(test, count).await, 1, "what it costs stays");
}

async fn keys_and_runs_go_by_age(test: TestApp) {
    let write = move |tx: &mut dyn Tx| {
        for n in 0..1_200 {
            let sql = "INSERT INTO idempotency_keys (scope, key, request_sha256, resource_id, created_at) VALUES ('test', $1, $2, '', $3)";
            tx.execute(sql, params![n.to_string(), vec![0_u8; 32], i64::from(n)])?;
        }
        let sql = "INSERT INTO uptime (epoch, started_at, alive_until) VALUES ('before', 0, 1)";
        Ok(tx.execute(sql, params![])?)
    };
    let written = test.app.db.write("test.keys", write).await;
    assert_eq!(written.expect("written"), 1);
    let done = forget(&test).await;
    assert_eq!(
        (&done["idempotency_keys"], &done["runs"]),
        (&json!(1_200), &json!(1))
    );
    let kept = test.app.clock.now().plus_ms(-30 * DAY_MS);
    let write = move |tx: &mut dyn Tx| {
        let sql = "INSERT INTO idempotency_keys (scope, key, request_sha256, resource_id, created_at) VALUES ('test', 'young', $1, '', $2)";
        Ok(tx.execute(sql, params![vec![0_u8; 32], kept])?)
    };
    let written = test.app.db.write("test.key", write).await;
    assert_eq!(written.expect("written"), 1);
    assert_eq!(forget(&test).await["idempotency_keys"], 0);
    test.clock.advance_ms(1);
    assert_eq!(forget(&test).await["idempotency_keys"], 1);
}
