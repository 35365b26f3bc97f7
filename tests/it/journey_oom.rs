//! A rental that takes more memory than it rented is killed by the kernel, says so, and costs only the time that it ran.

use serde_json::json;
use shared::clock::{Clock as _, SystemClock};
use system_tests::{
    books::{adds_up, atomic, check},
    market::Store,
    payer::Payer,
    stage::Stage,
};

/// Fills a shell variable with 300 MiB, after the time that makes billing visible.
const TAKES_300_MIB: &str =
    "usleep 2500000; x=$(dd if=/dev/zero bs=1M count=300 | tr '\\0' x); echo ${#x}";

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_mib_in_256_end_as_oom_killed_on_sqlite() {
    is_killed(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_mib_in_256_end_as_oom_killed_on_postgres() {
    is_killed(Store::Postgres).await;
}

async fn is_killed(store: Store) {
    let stage = Stage::set(store).await;
    let mut order = stage.order(&["sh", "-c", TAKES_300_MIB], 600);
    // a whole CPU: a tenth of one takes a while to fill memory
    order["resources"]["cpu_millis"] = json!(1_000);
    let before = SystemClock.now();
    let rented = Payer::new().rent(&stage.market.api(), &order).await;
    let ended = rented.until_settled().await;
    assert_eq!(ended["reason"], "oom_killed", "{ended}");

    let life = stage
        .node
        .engine()
        .life_of(&rented.id, before, SystemClock.now());
    let ran_ms = life.died_at.ms_since(life.started_at);
    let billed_ms = ended["billed_ms"].as_i64().expect("a figure");
    assert!(ran_ms >= 2_500, "it ran for {ran_ms} ms");
    assert!(
        (billed_ms - ran_ms).abs() < 1_000,
        "{billed_ms} of {ran_ms} ms: {life:?}, {ended}"
    );
    assert_eq!(life.starts, 1, "what was killed isn't started again");

    let split = rented.split().await;
    adds_up(&split);
    assert!(
        atomic(&split["refund"]) > atomic(&split["paid"]) * 9 / 10,
        "{split}"
    );
    stage.until_no_container_is_left().await;
    check(&stage.market);
}
