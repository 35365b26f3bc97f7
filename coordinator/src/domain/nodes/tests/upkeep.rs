//! What a provider plans for a node, by the API and by orders of the machine itself, and what becomes of rentals there.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::{
    clock::Clock as _,
    resources::OomKills,
    wire::operator::{DONE, Maintenance, Order, Standing, Wish},
};

use crate::{
    domain::rentals::model::{EndReason, State},
    params,
    tasks::{Task as _, market_feed, upkeep::Upkeep},
    testing::{
        TestApp,
        market::{Market, rental_of},
        on_both_stores,
        payer::paid,
        request,
    },
};

on_both_stores!(
    a_cordon_by_the_machine_closes_offers_and_quotes_within_one_beat,
    nothing_is_rented_that_would_run_into_maintenance,
    a_drain_ends_what_still_runs_at_its_deadline,
    a_drain_leaves_whoever_was_promised_notice_their_time,
    a_share_never_goes_below_what_is_rented,
    want_of_memory_is_told_once,
);

/// Gives an order and beats; how the node stands then.
async fn order(market: &mut Market, number: i64, wish: Wish) -> Standing {
    market.node.orders.push(Order { number, wish });
    beat(market).await
}

async fn beat(market: &mut Market) -> Standing {
    let reply = market.node.beat(&market.test).await;
    let app = &market.test.app;
    market_feed::load(app).await.expect("the index loads");
    reply.standing.expect("it asked")
}

async fn upkeep(market: &Market) {
    let done = Upkeep(market.test.app.clone()).activate().await;
    assert_eq!(done.expect("it runs")["failed"], 0);
}

async fn quote(market: &Market, seconds: i64) -> (StatusCode, Value) {
    let order = market.order(seconds);
    let answer = market.test.post("/api/v1/rentals", "", &order).await;
    let code = answer.json()["code"].clone();
    (answer.status, code)
}

async fn offer(market: &Market) -> Value {
    let path = format!("/api/v1/offers/{}", market.offer);
    market.test.get(&path, "").await.json()
}

/// What was told of a kind: (to a consumer or of a rental, payload).
async fn told(market: &Market, kind: &'static str) -> Vec<(bool, Value)> {
    let db = &market.test.app.db;
    let read = db.read("test.told", move |tx| {
        let rows = tx.query(
            "SELECT payload, rental_id FROM events WHERE kind = $1 ORDER BY id",
            params![kind],
        )?;
        rows.iter()
            .map(|row| Ok((row.opt_text(1)?.is_some(), row.text(0)?.to_owned())))
            .collect::<crate::error::Result<Vec<_>>>()
    });
    let texts = read.await.expect("events are read").into_iter();
    texts
        .map(|(of_rental, text)| (of_rental, serde_json::from_str(&text).expect("JSON")))
        .collect()
}

async fn a_cordon_by_the_machine_closes_offers_and_quotes_within_one_beat(test: TestApp) {
    let mut market = Market::open(test).await;
    assert_eq!(quote(&market, 600).await.0, StatusCode::PAYMENT_REQUIRED);
    let standing = order(&mut market, 7, Wish::Cordon {}).await;
    assert_eq!(standing.schedulability, "cordoned");
    assert_eq!((standing.orders_seen, standing.outcomes.len()), (7, 1));
    assert_eq!(standing.outcomes[0].code, DONE);
    assert_eq!(
        quote(&market, 600).await,
        (StatusCode::CONFLICT, json!("node_cordoned"))
    );
    assert_eq!(offer(&market).await["available"], false);

    // people open it again; the machine says the old order once more, as after a lost reply
    let path = format!("/api/v1/nodes/{}/uncordon", market.node.id);
    let opened = market
        .test
        .post(&path, &market.provider, &Value::Null)
        .await;
    assert_eq!(opened.status, StatusCode::OK);
    let standing = order(&mut market, 7, Wish::Cordon {}).await;
    assert_eq!(
        (standing.schedulability.as_str(), standing.orders_seen),
        ("active", 7)
    );
    assert_eq!(quote(&market, 600).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(told(&market, "node.cordoned").await.len(), 1);
    assert!(market.node.orders.is_empty(), "it was answered");
}

async fn nothing_is_rented_that_would_run_into_maintenance(test: TestApp) {
    let mut market = Market::open(test).await;
    let long = market.run(7_200).await;
    let short = market.order(600);
    let short = market
        .payer
        .buy(&market.test, "/api/v1/rentals", "", &short);
    let short = short.await;
    let token = short.json()["rental_token"].as_str().map(str::to_owned);
    let (short, token) = (rental_of(&short), token.expect("its token"));
    market.node.beat(&market.test).await;
    market.node.start(short);
    market.node.beat(&market.test).await;
    let now = market.test.clock.now();
    let window = Maintenance {
        starts_at: now.plus_ms(3_600_000),
        ends_at: now.plus_ms(2 * 3_600_000),
        note: "a new disk".into(),
    };
    // what was quoted before and is paid after is refused too
    let ordered = market.order(4_000);
    let quoted = market.test.post("/api/v1/rentals", "", &ordered).await;
    let payment = market.payer.sign(&quoted, &market.test);
    let announce = Wish::Announce {
        window: window.clone(),
    };
    let standing = order(&mut market, 1, announce).await;
    assert_eq!(standing.maintenance, [window]);
    let paid = paid("/api/v1/rentals", "", &ordered, &payment.header_v2);
    let paid = market.test.send(paid).await;
    assert_eq!(paid.json()["code"], "maintenance_planned", "{paid:?}");
    assert_eq!(
        quote(&market, 3_601).await,
        (StatusCode::CONFLICT, json!("maintenance_planned"))
    );
    assert_eq!(quote(&market, 3_599).await.0, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(offer(&market).await["maintenance"][0]["note"], "a new disk");

    // who rents for longer is told, once; who is gone by then isn't
    upkeep(&market).await;
    upkeep(&market).await;
    let told = told(&market, crate::domain::nodes::MAINTENANCE_PLANNED).await;
    let to_renters = told.iter().filter(|(of_rental, _)| *of_rental).count();
    assert_eq!((told.len(), to_renters), (2, 1), "{told:?}");
    let more = json!({"duration_seconds": 3_600});
    let path = format!("/api/v1/rentals/{short}/extend");
    let extended = market.test.post(&path, &token, &more).await;
    assert_eq!(
        extended.json()["code"],
        "maintenance_planned",
        "{extended:?}"
    );
    assert_eq!(market.rental(long).await.state, State::Active);

    // withdrawn by people
    let path = format!("/api/v1/nodes/{}/maintenance", market.node.id);
    let none = json!({"windows": []});
    let planned = request("PUT", &path, &market.provider, &none);
    assert_eq!(market.test.send(planned).await.status, StatusCode::OK);
    assert_eq!(quote(&market, 3_601).await.0, StatusCode::PAYMENT_REQUIRED);
    for wrong in [
        json!({"windows": [{"starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}]}),
        json!({"windows": [{"starts_at": "2099-01-01T00:00:00Z", "ends_at": "2099-01-02T00:00:00Z"}]}),
    ] {
        let refused = request("PUT", &path, &market.provider, &wrong);
        let refused = market.test.send(refused).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
}

async fn a_drain_ends_what_still_runs_at_its_deadline(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(7_200).await;
    let deadline = market.test.clock.now().plus_ms(600_000);
    let drain = Wish::Drain {
        deadline: Some(deadline),
    };
    let standing = order(&mut market, 1, drain).await;
    assert_eq!(standing.schedulability, "draining");
    assert_eq!(standing.drain_deadline, Some(deadline));
    assert_eq!(quote(&market, 60).await.1, "node_cordoned");
    market.pass(590_000).await;
    upkeep(&market).await;
    assert_eq!(market.rental(id).await.state, State::Active);
    market.pass(15_000).await;
    upkeep(&market).await;
    upkeep(&market).await;
    assert_eq!(
        market.rental(id).await.stop_reason,
        Some(EndReason::Preempted)
    );
    market.pass(10_000).await;
    let ended = market.rental(id).await;
    assert_eq!(
        (ended.state, ended.end_reason),
        (State::Ended, Some(EndReason::Preempted))
    );
    market.settle().await;
    let settled = market.rental(id).await;
    let ran_ms = settled
        .finished_at
        .expect("it ended")
        .ms_since(settled.started_at.expect("it ran"));
    assert!(
        settled.billed_ms <= ran_ms && settled.billed_ms > 590_000,
        "{settled:?}"
    );
    assert_eq!(
        settled.charged.plus(settled.refunded).expect("fits"),
        settled.paid
    );
    market.check_books().await;
    let standing = beat(&mut market).await;
    assert_eq!(
        (standing.schedulability.as_str(), standing.drain_deadline),
        ("drained", None)
    );
    assert_eq!(told(&market, "node.drained").await.len(), 1);
}

async fn a_drain_leaves_whoever_was_promised_notice_their_time(test: TestApp) {
    let mut market = Market::open(test).await;
    market.change_offer(&json!({"notice_seconds": 900})).await;
    let promised = market.run(7_200).await;
    market.change_offer(&json!({"notice_seconds": 0})).await;
    let other = market.run(7_200).await;
    let deadline = market.test.clock.now().plus_ms(300_000);
    let drain = Wish::Drain {
        deadline: Some(deadline),
    };
    order(&mut market, 1, drain).await;
    market.pass(305_000).await;
    upkeep(&market).await;
    assert_eq!(
        market.rental(other).await.stop_reason,
        Some(EndReason::Preempted)
    );
    assert_eq!(market.rental(promised).await.stop_reason, None);
    market.pass(590_000).await;
    upkeep(&market).await;
    assert_eq!(market.rental(promised).await.stop_reason, None);
    market.pass(10_000).await;
    upkeep(&market).await;
    assert_eq!(
        market.rental(promised).await.stop_reason,
        Some(EndReason::Preempted)
    );
}

async fn a_share_never_goes_below_what_is_rented(test: TestApp) {
    let mut market = Market::open(test).await;
    market.run(600).await;
    let ram = |ram_bytes| Wish::Share {
        ram_bytes: Some(ram_bytes),
        cpu_millis: None,
        gpu_count: None,
        disk_bytes: None,
    };
    let standing = order(&mut market, 1, ram(100 << 20)).await;
    assert_eq!(standing.outcomes[0].code, "capacity_in_use");
    let most = standing.rentable_max.ram_bytes;
    let standing = order(&mut market, 2, ram(most + 1)).await;
    assert_eq!(standing.outcomes[1].code, "invalid");
    assert!(
        standing.outcomes[1].detail.contains("host's reserve"),
        "{standing:?}"
    );
    let standing = order(&mut market, 3, ram(1 << 30)).await;
    assert_eq!(standing.outcomes[2].code, DONE);
    assert_eq!(standing.rentable.ram_bytes, 1 << 30);
    assert_eq!(standing.free.ram_bytes, (1 << 30) - (256 << 20));
    assert_eq!(
        offer(&market).await["ram_free_bytes"],
        standing.free.ram_bytes
    );
}

async fn want_of_memory_is_told_once(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(600).await;
    market.node.memory_pressure = Some("programs wait for memory 20 % of the time".into());
    let kills = |count| {
        vec![OomKills {
            rental_id: id,
            count,
        }]
    };
    market.node.oom_kills = kills(2);
    beat(&mut market).await;
    beat(&mut market).await;
    let killed = told(&market, "rental.oom_killed").await;
    assert_eq!(killed.len(), 1, "{killed:?}");
    assert_eq!(killed[0].1["processes_killed"], 2);
    let pressed = told(&market, "node.pressure").await;
    assert_eq!(
        pressed.len(),
        2,
        "to its owner and to who rents: {pressed:?}"
    );
    let path = format!("/api/v1/nodes/{}", market.node.id);
    let node = market.test.get(&path, &market.provider).await.json();
    assert!(node["memory_pressure"].is_string(), "{node}");
    market.node.memory_pressure = None;
    market.node.oom_kills = kills(3);
    beat(&mut market).await;
    assert_eq!(told(&market, "rental.oom_killed").await.len(), 2);
    assert_eq!(told(&market, "node.pressure").await.len(), 4);
    let node = market.test.get(&path, &market.provider).await.json();
    assert!(node["memory_pressure"].is_null(), "{node}");
}
