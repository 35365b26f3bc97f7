//! Beats that aren't an honest node's: replayed, forged, stale, unknown.

use axum::{body::Body, http::Request};
use serde_json::Value;
use shared::{
    clock::Clock as _,
    sign::SigningKey,
    wire::{heartbeat::Recover, problem::agent_codes},
};

use crate::testing::{
    Answer, TestApp,
    dump::{changed, dump},
    market::Market,
    node::ScriptedNode,
    on_both_stores,
};

on_both_stores!(
    a_replayed_beat_is_refused_also_after_a_restart,
    a_beat_of_another_key_or_node_is_refused,
    a_retired_node_is_refused_at_once,
    a_stale_signature_is_refused_and_the_refusal_helps,
    two_processes_with_one_key_are_flagged,
);

/// The refusal's code; what it says besides is for people.
pub(super) fn code(answer: &Answer) -> (u16, String) {
    let code = answer.json()["code"].as_str().unwrap_or("").to_owned();
    (answer.status.as_u16(), code)
}

fn refusal(code: &str) -> (u16, String) {
    (401, code.to_owned())
}

/// Sends a request that must be refused with this code and change no row.
async fn refused(test: &TestApp, request: Request<Body>, expected: &str) -> Answer {
    let before = dump(&test.app.db, &[]).await;
    let answer = test.send(request).await;
    let after = dump(&test.app.db, &[]).await;
    assert_eq!(code(&answer), refusal(expected), "{answer:?}");
    assert_eq!(changed(&before, &after), Vec::<String>::new(), "{expected}");
    answer
}

async fn a_replayed_beat_is_refused_also_after_a_restart(test: TestApp) {
    let mut market = Market::open(test).await;
    let rental = market.run(600).await;
    market.node.record(rental);
    let beat = market.node.next_beat();
    let captured = market.node.sign(&beat);
    let answer = market.test.send(captured.request()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let replayed = agent_codes::BEAT_REPLAYED;
    refused(&market.test, captured.request(), replayed).await;
    // an older one than the last is dead as well
    market.node.absorb(&answer, beat.sent_boot_ms);
    market.node.beat(&market.test).await;
    refused(&market.test, captured.request(), replayed).await;
    let stale = agent_codes::BEACON_STALE;
    let test = market.test.restarted();
    test.start_ingest();
    refused(&test, captured.request(), stale).await;
    market.node.beat(&test).await;
    refused(&test, captured.request(), stale).await;
}

async fn a_beat_of_another_key_or_node_is_refused(test: TestApp) {
    let mut market = Market::open(test).await;
    let other = ScriptedNode::enrol(&market.test, &market.provider, 8 << 30).await;
    let invalid = agent_codes::SIGNATURE_INVALID;
    let beat = market.node.next_beat();
    let now_s = market.test.clock.now().as_secs();
    // another node's key under this node's name
    let forged = other.sign_for(&beat, market.node.id, now_s);
    refused(&market.test, forged.request(), invalid).await;
    // this node's beat and key to another node's path
    let mut misplaced = market.node.sign(&beat);
    misplaced.path = other.path();
    refused(&market.test, misplaced.request(), invalid).await;
    // an honest signature of the other node under a beat that speaks for this one
    let mut spoken_for = beat.clone();
    spoken_for.node_id = market.node.id;
    let spoken_for = other.sign_for(&spoken_for, other.id, now_s);
    refused(&market.test, spoken_for.request(), invalid).await;
    // a node that was never enrolled
    let pkcs8 = SigningKey::generate_pkcs8().expect("random numbers");
    let mut stranger = market.node.clone();
    stranger.id = market.test.app.ids.mint();
    stranger.key = SigningKey::from_pkcs8(&pkcs8).expect("a key").into();
    let mut unknown = beat;
    unknown.node_id = stranger.id;
    let unknown = stranger.sign(&unknown);
    refused(&market.test, unknown.request(), agent_codes::NODE_UNKNOWN).await;
    market.node.beat(&market.test).await;
}

async fn a_retired_node_is_refused_at_once(test: TestApp) {
    let mut market = Market::open(test).await;
    let path = format!("/api/v1/nodes/{}", market.node.id);
    let request = crate::testing::request("DELETE", &path, &market.provider, &Value::Null);
    assert_eq!(market.test.send(request).await.status, 204);
    let beat = market.node.next_beat();
    let beat = market.node.sign(&beat);
    refused(&market.test, beat.request(), agent_codes::NODE_REVOKED).await;
}

async fn a_stale_signature_is_refused_and_the_refusal_helps(test: TestApp) {
    let mut market = Market::open(test).await;
    for off_s in [-61, 61] {
        let beat = market.node.next_beat();
        let now_s = market.test.clock.now().as_secs();
        let stale = market.node.sign_for(&beat, market.node.id, now_s + off_s);
        let answer = refused(&market.test, stale.request(), agent_codes::SIGNATURE_STALE).await;
        let recover: Recover = serde_json::from_value(answer.json()["recover"].clone())
            .expect("it says what time it is");
        assert_eq!(recover.server_time, market.test.clock.now());
    }
    for off_s in [-60, 60] {
        let beat = market.node.next_beat();
        let now_s = market.test.clock.now().as_secs();
        let late = market.node.sign_for(&beat, market.node.id, now_s + off_s);
        assert_eq!(market.test.send(late.request()).await.status, 200);
    }
    // an agent whose wall clock is an hour ahead recovers by itself
    market.node.wall_ahead_ms = 3_600_000;
    let answer = market.node.try_beat(&market.test).await;
    assert_eq!(code(&answer), refusal(agent_codes::SIGNATURE_STALE));
    let answer = market.node.try_beat(&market.test).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn two_processes_with_one_key_are_flagged(test: TestApp) {
    let mut market = Market::open(test).await;
    let mut second = market.node.clone();
    second.restart_agent();
    second.beacon.clone_from(&market.node.beacon);
    // what the first process sent while it was alone is only a replay, whoever beats now
    let early = market.node.next_beat();
    let early = market.node.sign(&early);
    assert_eq!(market.test.send(early.request()).await.status, 200);
    second.beat(&market.test).await;
    refused(&market.test, early.request(), agent_codes::BEAT_REPLAYED).await;
    assert_eq!(market.flags().await, Vec::<String>::new());
    // but if it beats on, there are two
    let beat = market.node.next_beat();
    let answer = market.test.send(market.node.sign(&beat).request()).await;
    assert_eq!(code(&answer), refusal(agent_codes::KEY_IN_USE_TWICE));
    assert_eq!(market.flags().await, [agent_codes::KEY_IN_USE_TWICE]);
    second.beat(&market.test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beat_with_any_byte_flipped_is_refused_and_changes_nothing() {
    let mut market = Market::open(TestApp::new().await).await;
    let rental = market.run(600).await;
    market.node.record(rental);
    let beat = market.node.next_beat();
    let whole = market.node.sign(&beat);
    let before = dump(&market.test.app.db, &[]).await;
    let mut flips = 0;
    for at in 0..whole.body.len() {
        let mut bytes = whole.body.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let mut flipped = whole.clone();
        flipped.body = bytes.into();
        let answer = market.test.send(flipped.request()).await;
        assert_eq!(
            code(&answer),
            refusal(agent_codes::DIGEST_MISMATCH),
            "byte {at} of the body"
        );
        flips += 1;
    }
    for name in ["content-digest", "signature-input", "signature"] {
        let value = whole.headers[name].as_bytes().to_vec();
        for at in 0..value.len() {
            let mut bytes = value.clone();
            bytes[at] ^= 1 << (at % 7);
            let Ok(value) = axum::http::HeaderValue::from_bytes(&bytes) else {
                continue;
            };
            let mut flipped = whole.clone();
            flipped.headers.insert(name, value);
            let answer = market.test.send(flipped.request()).await;
            assert_eq!(answer.status, 401, "byte {at} of {name}: {answer:?}");
            flips += 1;
        }
        let mut without = whole.clone();
        without.headers.remove(name);
        let answer = market.test.send(without.request()).await;
        assert_eq!(answer.status, 401, "without {name}: {answer:?}");
    }
    let after = dump(&market.test.app.db, &[]).await;
    assert_eq!(changed(&before, &after), Vec::<String>::new());
    assert!(flips > 1_000, "only {flips} bytes were flipped");
    // and the beat itself is good
    assert_eq!(market.test.send(whole.request()).await.status, 200);
}
