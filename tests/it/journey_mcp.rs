//! A program rents by `ramarket mcp`, through the official client of the protocol: it searches, quotes, rents, looks and stops, and
//! can't spend more than it was given.

use std::time::Duration;

use serde_json::{Value, json};
use system_tests::{
    books::{atomic, check},
    client::Client,
    market::Store,
    npm,
    stage::Stage,
};
use tokio::process::Command;

const TIMEOUT: Duration = Duration::from_secs(300);

/// The answers to calls of a server that was started with `flags`.
async fn call(client: &Client, flags: &[&str], calls: &Value) -> Value {
    let folder = npm::installed("mcp-client").await.expect("installed");
    let mut command = Command::new("node");
    command.arg("rent.mjs").arg(calls.to_string());
    command.args(client.line(&[&["mcp"], flags].concat()));
    command.current_dir(folder);
    let said = npm::run(command, TIMEOUT).await.expect("it runs");
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("not JSON: {said}"))
}

fn order(more: Value) -> Value {
    let mut order = json!({"ram": "256MiB", "cpu": "0.1", "duration": "10m"});
    if let (Some(order), Value::Object(more)) = (order.as_object_mut(), more) {
        order.extend(more);
    }
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_rents_by_its_tools_and_keeps_to_its_limit() {
    let stage = Stage::set(Store::Sqlite).await;
    let client = Client::of(&stage.market.url());
    client.json(&["wallet", "new", "--plain"]).await;
    let rent = order(
        json!({"image": "busybox:latest", "command": ["sleep", "600"], "offer_id": stage.offer_id,
        "wait_seconds": 300}),
    );
    let calls = json!([
        ["search", {"ram": "256MiB"}],
        ["quote", order(json!({"offer_id": stage.offer_id}))],
        ["rent", rent],
        ["status", {"rental_id": "<rental_id>"}],
        ["status", {}],
        // the rest of what may be spent in all isn't enough for another one
        ["rent", rent],
        ["rent", order(json!({"image": "busybox:latest", "limit": "100"}))],
        ["stop", {"rental_id": "<rental_id>"}],
        ["stop", {"rental_id": "rnt_00000000000000000000000000000001"}],
        ["pay", {}],
    ]);
    let flags = ["--limit", "0.2", "--limit-in-all", "0.2"];
    let done = call(&client, &flags, &calls).await;
    assert_eq!(done["server"]["name"], "ramarket");
    assert_eq!(done["tools"].as_array().map(Vec::len), Some(6));
    let value = |n: usize| {
        let answer = &done["answers"][n];
        assert_eq!(answer["isError"], false, "{n}: {answer}");
        &answer["value"]
    };
    assert_eq!(value(0)["offers"][0]["id"], stage.offer_id.as_str());
    assert_eq!(atomic(&value(1)["price"]), 156_000);
    assert_eq!(value(2)["state"], "running", "{}", value(2));
    assert_eq!(value(3)["id"], value(2)["id"]);
    assert_eq!(value(4)["rentals"][0]["id"], value(2)["id"]);
    let error = |n: usize| {
        let answer = &done["answers"][n];
        assert_eq!(answer["isError"], true, "{n}: {answer}");
        answer["value"]["kind"].as_str().expect("a kind").to_owned()
    };
    assert_eq!(error(5), "payment_required");
    assert_eq!(error(6), "usage", "it takes no limit");
    assert_eq!(value(7)["id"], value(2)["id"]);
    assert!(["auth", "not_found"].contains(&error(8).as_str()));
    assert_eq!(done["answers"][9]["refused"]["code"], -32_602);
    stage.until_no_container_is_left().await;
    let rentals = client.json(&["rentals"]).await;
    assert_eq!(rentals.as_array().map(Vec::len), Some(1), "{rentals}");
    check(&stage.market);
}

/// What the document for programs shows is run as it stands there.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_for_programs_can_be_followed() {
    let stage = Stage::set(Store::Sqlite).await;
    let url = stage.market.url();
    let text = reqwest::get(format!("{url}/llms.txt"))
        .await
        .expect("an answer");
    let text = text.text().await.expect("text");
    let block = text
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let mut lines = block.expect("a block").lines();
    assert_eq!(
        lines.next(),
        Some(format!("export RAMARKET_URL={url}").as_str())
    );
    let client = Client::of(&url);
    let mut rental = String::new();
    let mut last = Value::Null;
    for line in lines {
        let line = line.replace("$RENTAL", &rental);
        let words: Vec<&str> = line
            .split(' ')
            .filter(|word| *word != "--json")
            .skip(1)
            .collect();
        last = client.json(&words).await;
        if words[0] == "rent" {
            assert_eq!(last["state"], "running", "{last}");
            last["id"].as_str().expect("an id").clone_into(&mut rental);
        }
    }
    assert_eq!(last["holds"], true, "the last line verifies: {last}");
    stage.until_no_container_is_left().await;
    check(&stage.market);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wallets_own_limit_goes_first() {
    let stage = Stage::set(Store::Sqlite).await;
    let client = Client::of(&stage.market.url());
    client.json(&["wallet", "new", "--plain"]).await;
    client
        .json(&["wallet", "limit", "0.1", "--per-day", "5"])
        .await;
    let rent = order(json!({"image": "busybox:latest", "offer_id": stage.offer_id}));
    let flags = ["--limit", "100", "--limit-in-all", "100"];
    let done = call(&client, &flags, &json!([["rent", rent]])).await;
    let answer = &done["answers"][0];
    assert_eq!(answer["value"]["kind"], "payment_required", "{answer}");
    let rentals = client.json(&["rentals"]).await;
    assert!(rentals.as_array().is_some_and(Vec::is_empty));
}
