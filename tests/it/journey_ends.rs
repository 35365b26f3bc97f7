//! The ways in which a rental ends or goes on: by itself, by time, by its renter, never started, extended, out of funds.

use serde_json::{Value, json};
use shared::clock::{Clock as _, SystemClock};
use system_tests::{
    api::Api,
    books::{adds_up, atomic, check},
    market::Store,
    payer::{Payer, Rented},
    people,
    stage::Stage,
    wait,
};

/// Short rentals are allowed.
const SHORT: [(&str, &str); 1] = [("market.min_duration_s", "1")];

async fn short_stage(store: Store) -> Stage {
    let stage = Stage::with(store, &SHORT).await;
    let path = format!("/offers/{}", stage.offer_id);
    let change = json!({"min_duration_seconds": 10});
    stage.provider.patch(&path, &change).await.is(200);
    stage
}

async fn settled(stage: &Stage, rented: &Rented) -> Value {
    let ended = rented.until_settled().await;
    adds_up(&rented.split().await);
    check(&stage.market);
    stage.until_no_container_is_left().await;
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_by_itself_ends_its_rental_with_its_exit_code() {
    let stage = Stage::set(Store::Sqlite).await;
    let order = stage.order(&["sh", "-c", "sleep 2; exit 7"], 600);
    let rented = Payer::new().rent(&stage.market.api(), &order).await;
    let ended = settled(&stage, &rented).await;
    assert_eq!(ended["reason"], "exited", "{ended}");
    let words = ended["state_reason"].as_str().expect("words");
    assert!(words.contains("exit code 7"), "{words}");
    let billed_ms = ended["billed_ms"].as_i64().expect("a figure");
    assert!((1_000..4_000).contains(&billed_ms), "{billed_ms}");
}

async fn completes(store: Store) {
    let stage = short_stage(store).await;
    let before = SystemClock.now();
    let order = stage.order(&["sleep", "600"], 10);
    let rented = Payer::new().rent(&stage.market.api(), &order).await;
    let ended = settled(&stage, &rented).await;
    assert_eq!(ended["reason"], "completed", "{ended}");
    let billed_ms = ended["billed_ms"].as_i64().expect("a figure");
    assert!(
        (9_000..=10_000).contains(&billed_ms),
        "never more than paid: {billed_ms}"
    );
    let life = stage
        .node
        .engine()
        .life_of(&rented.id, before, SystemClock.now());
    let ran_ms = life.died_at.ms_since(life.started_at);
    // the process has time to end after SIGTERM, on the house
    assert!(
        (10_000 - 1_000..10_000 + 15_000).contains(&ran_ms),
        "{ran_ms}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paid_time_that_is_over_completes_on_sqlite() {
    completes(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paid_time_that_is_over_completes_on_postgres() {
    completes(Store::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_isnt_there_fails_to_start_and_everything_comes_back() {
    let stage = Stage::set(Store::Sqlite).await;
    let mut order = stage.order(&["true"], 600);
    // nobody listens on that port: the pull fails at once
    order["image"] = json!("127.0.0.1:9/nothing/here:latest");
    let rented = Payer::new().rent(&stage.market.api(), &order).await;
    let ended = settled(&stage, &rented).await;
    assert_eq!(ended["reason"], "failed_to_start", "{ended}");
    assert!(!ended["state_reason"].as_str().expect("words").is_empty());
    assert_eq!(ended["billed_ms"], 0);
    let split = rented.split().await;
    assert_eq!(atomic(&split["refund"]), atomic(&split["paid"]));
    assert!(atomic(&split["paid"]) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_extends_with_a_second_payment_and_stops_twice_without_harm() {
    let stage = Stage::set(Store::Sqlite).await;
    let payer = Payer::new();
    let api = stage.market.api();
    let rented = payer.rent(&api, &stage.order(&["sleep", "600"], 600)).await;
    rented.until("running").await;
    let more = json!({"duration_seconds": 600});
    let path = format!("/rentals/{}/extend", rented.id);
    // nobody else may
    assert_eq!(api.post(&path, &more).await.status, 401);
    let payment = payer.ask_and_sign(&rented.api, &path, &more).await;
    for _ in 0..2 {
        // the repeat finds what the first did
        let longer = system_tests::payer::send(&rented.api, &path, &more, &payment).await;
        let longer = longer.is(201);
        assert_eq!(longer["duration_seconds"], 1_200);
        assert_eq!(atomic(&longer["paid"]), 312_000);
    }
    rented.stop().await;
    rented.stop().await;
    let ended = settled(&stage, &rented).await;
    assert_eq!(ended["reason"], "stopped");
    let late = rented.api.post(&path, &more).await;
    late.refused(409, "rental_not_active");
}

/// A consumer with so much play money.
async fn with_funds(stage: &Stage, amount: &str) -> Api {
    let consumer = people::consumer(&stage.market).await;
    let topup = json!({"amount": {"amount": amount, "currency": "USDC"}, "source": "sandbox"});
    for _ in 0..2 {
        // the same key fills it once
        let filled = consumer.post_once("/balance/topups", &topup, "first").await;
        let available = atomic(&filled.is(201)["items"][0]["available"]);
        assert_eq!(available, atomic(&topup["amount"]));
    }
    consumer
}

async fn available(api: &Api) -> i64 {
    atomic(&api.get("/balance").await.is(200)["items"][0]["available"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_pays_once_for_each_key() {
    let stage = Stage::set(Store::Sqlite).await;
    let consumer = with_funds(&stage, "1").await;
    let mut order = stage.order(&["sleep", "600"], 600);
    order["pay_with"] = json!("balance");
    consumer
        .post("/rentals", &order)
        .await
        .refused(400, "idempotency_key_missing");
    let nobody = stage.market.api().post_once("/rentals", &order, "k").await;
    assert_eq!(nobody.status, 401, "{}", nobody.body);

    let first = consumer.post_once("/rentals", &order, "k").await.is(201);
    let again = consumer.post_once("/rentals", &order, "k").await.is(201);
    assert_eq!(again["id"], first["id"]);
    assert_eq!(available(&consumer).await, 1_000_000 - 156_000);
    let mut other = order.clone();
    other["duration_seconds"] = json!(700);
    consumer
        .post_once("/rentals", &other, "k")
        .await
        .refused(422, "idempotency_key_reused");
    // the books refuse what the balance doesn't hold
    other["duration_seconds"] = json!(36_000);
    let poor = consumer.post_once("/rentals", &other, "too-much").await;
    poor.refused(409, "insufficient_funds");
    assert_eq!(available(&consumer).await, 1_000_000 - 156_000);

    let id = first["id"].as_str().expect("an id");
    let path = format!("/rentals/{id}/extend");
    let more = json!({"duration_seconds": 600, "pay_with": "balance"});
    for _ in 0..2 {
        let longer = consumer.post_once(&path, &more, "more").await.is(201);
        assert_eq!(longer["duration_seconds"], 1_200);
    }
    assert_eq!(available(&consumer).await, 1_000_000 - 312_000);
    let stopped = consumer
        .post(&format!("/rentals/{id}/stop"), &Value::Null)
        .await;
    assert_eq!(stopped.status, 200);
    let ended = until_settled(&consumer, id).await;
    // what wasn't used is back in the balance
    let left = 1_000_000 - 312_000 + atomic(&ended["refunded"]);
    assert_eq!(available(&consumer).await, left);
    check(&stage.market);
}

async fn until_settled(api: &Api, id: &str) -> Value {
    wait::until("it is settled", || async {
        let view = api.get(&format!("/rentals/{id}")).await.is(200);
        (!view["settled_at"].is_null()).then_some(view)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_extend_goes_on_while_the_balance_lasts_and_ends_out_of_funds() {
    let stage = short_stage(Store::Sqlite).await;
    // 10 s cost 0.0026, 610 s 0.1586: the first has funds for one extension and the second for none
    let consumer = with_funds(&stage, "0.1612").await;
    let mut order = stage.order(&["sleep", "600"], 10);
    order["pay_with"] = json!("balance");
    order["auto_extend"] = json!(true);
    let first = consumer.post_once("/rentals", &order, "1").await.is(201);
    let first = first["id"].as_str().expect("an id").to_owned();
    let path = format!("/rentals/{first}");
    wait::until("it is extended by ten minutes", || async {
        let view = consumer.get(&path).await.is(200);
        (view["duration_seconds"] == 610).then_some(())
    })
    .await;
    assert_eq!(available(&consumer).await, 2_600);
    let second = consumer.post_once("/rentals", &order, "2").await.is(201);
    assert_eq!(available(&consumer).await, 0);
    let second = until_settled(&consumer, second["id"].as_str().expect("an id")).await;
    assert_eq!(second["reason"], "out_of_funds", "{second}");
    // the first still runs, on what it was extended by
    assert_eq!(consumer.get(&path).await.is(200)["state"], "running");
    assert_eq!(
        consumer
            .post(&format!("{path}/stop"), &Value::Null)
            .await
            .status,
        200
    );
    let ended = until_settled(&consumer, &first).await;
    assert_eq!(ended["reason"], "stopped");
    stage.until_no_container_is_left().await;
    check(&stage.market);
}
