//! A machine becomes a node once, by a token that is used once, over a way that nobody can listen on.

use std::os::unix::fs::PermissionsExt as _;

use coordinator::store::{Db, testing::TempDir};
use serde_json::json;
use system_tests::{
    containers::Engine,
    market::{Market, Store},
    node::{enroll, enrolment_token},
    people,
};

/// Exit codes of the agent.
const FAILED: i32 = 1;
const NOT_ACCEPTED: i32 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_one_machine_once() {
    let market = Market::start(Store::Sqlite).await;
    let provider = people::provider(&market).await;
    let (folder, engine) = (TempDir::new(), Engine::shared());
    let token = enrolment_token(&provider).await;
    let first = folder.path().join("first");
    let enrolled = enroll(&first, &market.url(), &token, &engine);
    let said = String::from_utf8_lossy(&enrolled.stdout).into_owned();
    assert!(enrolled.status.success(), "{enrolled:?}");
    assert!(said.starts_with("enrolled as nod_"), "{said}");
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(&first), 0o700);
    let key = node_agent::data_dir::DataDir::new(&first).key();
    assert_eq!(mode(&key), 0o600);
    let nodes = provider.get("/nodes").await.is(200);
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(1));

    // another machine with the same token
    let second = enroll(
        &folder.path().join("second"),
        &market.url(),
        &token,
        &engine,
    );
    assert_eq!(second.status.code(), Some(NOT_ACCEPTED), "{second:?}");
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("token"),
        "{second:?}"
    );
    // the same machine again: it is enrolled, whichever token it brings
    for token in [token, enrolment_token(&provider).await] {
        let before = std::fs::read(&key).expect("a key");
        let again = enroll(&first, &market.url(), &token, &engine);
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(
            again.status.success() || said.contains("--force"),
            "{again:?}"
        );
        assert_eq!(std::fs::read(&key).expect("a key"), before);
    }
    let nodes = provider.get("/nodes").await.is(200);
    assert_eq!(
        nodes["items"].as_array().map(Vec::len),
        Some(1),
        "still one node"
    );
    // consumers lend nothing
    let consumer = people::consumer(&market).await;
    let refused = consumer.post("/nodes/enrollment-tokens", &json!({})).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_whose_answer_was_lost_is_repeated_with_the_same_key() {
    let market = Market::start(Store::Sqlite).await;
    let provider = people::provider(&market).await;
    let (folder, engine) = (TempDir::new(), Engine::shared());
    let token = enrolment_token(&provider).await;
    let dir = folder.path().join("agent");
    let first = enroll(&dir, &market.url(), &token, &engine);
    assert!(first.status.success(), "{first:?}");
    // as if the agent had died before it could keep the answer: it has its key and nothing else
    std::fs::remove_file(dir.join("identity.json")).expect("it was there");
    let again = enroll(&dir, &market.url(), &token, &engine);
    assert!(again.status.success(), "{again:?}");
    assert_eq!(again.stdout, first.stdout, "the same node");
    let nodes = provider.get("/nodes").await.is(200);
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_or_expired_token_and_a_way_without_tls_are_refused() {
    let market = Market::start(Store::Sqlite).await;
    let provider = people::provider(&market).await;
    let (folder, engine) = (TempDir::new(), Engine::shared());
    let dir = folder.path().join("agent");
    let unknown = format!("enr_{}", "0".repeat(64));
    let refused = enroll(&dir, &market.url(), &unknown, &engine);
    assert_eq!(refused.status.code(), Some(NOT_ACCEPTED), "{refused:?}");

    let token = enrolment_token(&provider).await;
    expire_tokens(&market).await;
    let refused = enroll(&dir, &market.url(), &token, &engine);
    assert_eq!(refused.status.code(), Some(NOT_ACCEPTED), "{refused:?}");

    let fresh = enrolment_token(&provider).await;
    for url in [
        "http://market.example",
        "http://192.0.2.1:8080",
        "http://127.0.0.1.nip.example",
    ] {
        let refused = enroll(&dir, url, &fresh, &engine);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(FAILED), "{said}");
        assert!(said.contains("https"), "{said}");
    }
    // nothing of that used the token up
    let enrolled = enroll(&dir, &market.url(), &fresh, &engine);
    assert!(enrolled.status.success(), "{enrolled:?}");
}

/// Time can't be moved in a running coordinator, but what it has written down can.
async fn expire_tokens(market: &Market) {
    let db = Db::open(&market.database().parse().expect("a URL")).await;
    let changed = db
        .expect("the database opens")
        .write("test.expire", |tx| {
            Ok(tx.execute("UPDATE enrollment_tokens SET expires_at = 1", &[])?)
        })
        .await;
    assert_eq!(changed.expect("changed"), 1);
}
