//! The main job, end to end: somebody without an account pays for RAM with the official x402 client, a real container
//! runs, is metered and stopped, and the money is split.

use node_agent::{data_dir::DataDir, identity::Identity};
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    journal::SignedRecord,
};
use system_tests::{
    MIB,
    books::{adds_up, atomic, check},
    market::Store,
    payer::Payer,
    stage::Stage,
    stock_client, wait,
};

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    rents_and_pays(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    rents_and_pays(Store::Postgres).await;
}

async fn rents_and_pays(store: Store) {
    let stage = Stage::set(store).await;
    let free_before = stage.node.free_ram_bytes().await;
    let api = stage.market.api();
    let order = stage.order(&["sleep", "600"], 600);
    let before = SystemClock.now();

    let payer = Payer::new();
    let answer = stock_client::pay(&api.url("/rentals"), Some(&order), payer.key_hex()).await;
    let answer = answer.expect("the official client pays");
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.receipt["success"], true);
    assert_eq!(answer.receipt["payer"], json!(payer.address()));
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    let token = answer.body["rental_token"].as_str().expect("a token");
    // 0.25 GiB × 3.60 + 0.1 CPU × 0.36 = 0.936 USDC an hour, for a sixth of an hour
    assert_eq!(atomic(&answer.body["paid"]), 156_000);
    let mine = api.bearing(token);
    let path = format!("/rentals/{id}");

    let engine = stage.node.engine();
    let container = wait::until("the container runs", || async {
        engine.of_rental(&id).await.filter(|found| found.running)
    })
    .await;
    assert_eq!(container.memory_bytes, 256 * MIB);
    let network = &container.network_mode;
    assert!(network.starts_with("ram-"), "{network}");
    assert_eq!(
        stage.node.free_ram_bytes().await,
        free_before - 256 * MIB,
        "the room is taken"
    );

    let running = wait::until("it costs something", || async {
        let view = mine.get(&path).await.is(200);
        (view["state"] == "running" && atomic(&view["cost_so_far"]) > 500).then_some(view)
    })
    .await;
    assert!(running["paid_until"].is_string(), "{running}");
    let stopped = mine.post(&format!("{path}/stop"), &Value::Null).await;
    assert!(["stopping", "ended"].contains(&stopped.is(200)["state"].as_str().unwrap_or("")));
    let ended = wait::until("it is settled", || async {
        let view = mine.get(&path).await.is(200);
        (!view["settled_at"].is_null()).then_some(view)
    })
    .await;
    assert_eq!(
        (&ended["state"], &ended["reason"]),
        (&json!("ended"), &json!("stopped"))
    );

    let billed_ms = ended["billed_ms"].as_i64().expect("a figure");
    let life = engine.life_of(&id, before, SystemClock.now());
    let ran_ms = life.died_at.ms_since(life.started_at);
    assert!(
        (billed_ms - ran_ms).abs() < 1_000,
        "{billed_ms} of {ran_ms} ms"
    );
    assert_eq!(life.starts, 1);

    let settle = json!({"rental_id": id});
    let split = mine.post("/payments/settle", &settle).await.is(200);
    adds_up(&split);
    assert_eq!(atomic(&split["paid"]), 156_000);
    // 0.936 USDC an hour are 0.26 millionths a millisecond; of that 5 % for the market
    let charged = 156_000 - atomic(&split["refund"]);
    assert_eq!(charged, billed_ms * 26 / 100);
    assert_eq!(atomic(&split["platform_fee"]), charged * 5 / 100);
    assert_eq!(atomic(&ended["refunded"]), atomic(&split["refund"]));

    receipts_verify(
        &stage,
        &mine
            .get(&format!("{path}/receipts?limit=100"))
            .await
            .is(200),
        &id,
    );
    // without its token it is nobody's business
    assert_eq!(api.get(&path).await.status, 401);
    stage.until_no_container_is_left().await;
    assert_eq!(
        stage.node.free_ram_bytes().await,
        free_before,
        "the room is free again"
    );
    check(&stage.market);
}

/// Every receipt is signed by the node's own key, and the last says that the container ended.
fn receipts_verify(stage: &Stage, page: &Value, rental_id: &str) {
    let identity = Identity::load(&DataDir::new(stage.node.data_dir())).expect("an identity");
    let key = identity.key.public();
    let items = page["items"].as_array().expect("a page");
    let records: Vec<SignedRecord> = items
        .iter()
        .map(|item| serde_json::from_value(item["record"].clone()).expect("a record"))
        .collect();
    let last = records.last().expect("at least one");
    assert!(last.record.exit.is_some(), "{last:?}");
    for signed in &records {
        signed.verify(&key).expect("the node's signature");
        assert_eq!(signed.record.rental_id.to_string(), rental_id);
        let mut forged = signed.clone();
        forged.record.cum_cpu_ns += 1;
        assert!(
            forged.verify(&key).is_err(),
            "a changed record isn't signed"
        );
    }
    let seqs: Vec<i64> = records.iter().map(|signed| signed.record.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
}
