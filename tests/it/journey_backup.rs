//! A backup is taken while rentals run, and a coordinator on the copy knows them and its books add up.

use std::fs;

use coordinator::store::testing::TempDir;
use serde_json::Value;
use system_tests::{
    books::{adds_up, check},
    market::{Market, Store},
    payer::Payer,
    stage::Stage,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_while_rentals_run_is_whole() {
    let stage = Stage::set(Store::Sqlite).await;
    let order = stage.order(&["sleep", "600"], 600);
    let (api, payer) = (stage.market.api(), Payer::new());
    let first = payer.rent(&api, &order).await;
    first.until("running").await;
    let second = payer.rent(&api, &order).await;
    let copy = stage.market.folder().join("copy.db");
    let backup = stage.market.run(&["backup", copy.to_str().expect("text")]);
    assert!(backup.status.success(), "{backup:?}");
    // life goes on after the copy
    let third = payer.rent(&api, &order).await;

    let restored = restore(&stage, &copy).await;
    check(&restored);
    let anew = restored.api().bearing(first.api.token());
    let view = anew.get(&format!("/rentals/{}", first.id)).await.is(200);
    assert_eq!(view["state"], "running", "{view}");
    assert_eq!(view["paid"], first.body["paid"]);
    let anew = restored.api().bearing(second.api.token());
    anew.get(&format!("/rentals/{}", second.id)).await.is(200);
    let anew = restored.api().bearing(third.api.token());
    let later = anew.get(&format!("/rentals/{}", third.id)).await;
    assert_eq!(later.status, 404, "what came after the copy isn't in it");
    // a signed-in provider is known there by the old session's token
    let provider = restored.api().bearing(stage.provider.token());
    let nodes: Value = provider.get("/nodes").await.is(200);
    assert_eq!(nodes["items"][0]["id"], stage.node.id());

    for rented in [first, second, third] {
        rented.stop().await;
        rented.until_settled().await;
        adds_up(&rented.split().await);
    }
    check(&stage.market);
}

/// A coordinator on a copy of the database, with the keys of the first.
async fn restore(stage: &Stage, copy: &std::path::Path) -> Market {
    let folder = TempDir::new();
    let keys = folder.path().join("data/keys");
    fs::create_dir_all(&keys).expect("a folder");
    for entry in fs::read_dir(stage.market.data_dir().join("keys")).expect("keys") {
        let entry = entry.expect("a key");
        fs::copy(entry.path(), keys.join(entry.file_name())).expect("a copy");
    }
    // what names a coordinator in its tokens is its public URL
    let public = stage.market.url();
    let database = format!("sqlite://{}", copy.display());
    Market::on(folder, database, &[("http.public_url", &public)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_over_an_earlier_one_and_one_that_cant_be_written() {
    let market = Market::start(Store::Sqlite).await;
    let copy = market.folder().join("copy.db");
    let copy = copy.to_str().expect("text");
    for _ in 0..2 {
        let backup = market.run(&["backup", copy]);
        assert!(backup.status.success(), "{backup:?}");
    }
    let nowhere = market.run(&["backup", "/nowhere/at/all.db"]);
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    let on_postgres = Market::start(Store::Postgres).await;
    let refused = on_postgres.run(&["backup", copy]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("pg_dump"),
        "it says what to do instead: {said}"
    );
}
