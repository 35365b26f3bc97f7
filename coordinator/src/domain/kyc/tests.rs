//! Proof of identity from submission to its end, by administrators and by a hosted provider, and the gate before offers.

use std::time::Duration;

use axum::{body::Body, http::StatusCode};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::{future::join_all, stream::pending};
use ring::hmac;
use serde_json::{Value, json};
use shared::clock::Clock as _;

use crate::{
    config::{KycGate, SecretText},
    context::Role,
    domain::auth::{self, model::Email},
    store::Tx,
    tasks::{Task as _, kyc::Kyc},
    testing::{Answer, TestApp, node::ScriptedNode, on_both_stores, request},
};

on_both_stores!(
    from_submission_to_expiry,
    only_administrators_decide_and_only_once,
);

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nthe face of Ada Lovelace";
const SECRET: &[u8; 32] = b"the hosted provider's secret, 32";
const DAY_MS: i64 = 86_400_000;

async fn admin(test: &TestApp, email: &'static str) -> String {
    let token = test.signup(email, &[]).await;
    let ctx = test.app.task_context("test");
    let body = move |tx: &mut dyn Tx| auth::grant(tx, &ctx, &Email::parse(email)?, Role::Admin);
    test.app
        .db
        .write("test.grant", body)
        .await
        .expect("granted");
    token
}

fn submission(content: &[u8]) -> Value {
    json!({"documents": [{"kind": "passport", "content": BASE64.encode(content)}]})
}

async fn decide(test: &TestApp, token: &str, id: &str, decision: &str) -> Answer {
    let path = format!("/api/v1/admin/kyc/{id}/decision");
    let body = json!({"decision": decision, "reason": "looked at it"});
    test.post(&path, token, &body).await
}

async fn state(test: &TestApp, token: &str) -> String {
    let answer = test.get("/api/v1/kyc", token).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["state"].as_str().expect("a state").to_owned()
}

async fn from_submission_to_expiry(test: TestApp) {
    let root = admin(&test, "root@example.org").await;
    let ada = test.signup("ada@example.org", &[]).await;
    assert_eq!(state(&test, &ada).await, "none");
    let sent = test.post("/api/v1/kyc", &ada, &submission(PNG)).await;
    assert_eq!(sent.status, StatusCode::CREATED, "{sent:?}");
    assert_eq!(state(&test, &ada).await, "pending");
    let again = test.post("/api/v1/kyc", &ada, &submission(PNG)).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    // the administrator sees the case and saves its document, which no browser would show
    let cases = test.get("/api/v1/admin/kyc", &root).await.json();
    let case = &cases["items"][0];
    let (id, document) = (case["id"].as_str().expect("id"), &case["documents"][0]);
    assert_eq!(
        (&document["kind"], &document["media_type"]),
        (&json!("passport"), &json!("image/png"))
    );
    let document_path = format!(
        "/api/v1/admin/kyc/{id}/documents/{}",
        document["id"].as_str().expect("id")
    );
    let saved = test.get(&document_path, &root).await;
    assert_eq!((saved.status, &saved.body[..]), (StatusCode::OK, PNG));
    let header = |name: &str| saved.headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert!(header("content-disposition").starts_with("attachment; filename=\"doc_"));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(
        test.get(&document_path, &ada).await.status,
        StatusCode::FORBIDDEN
    );
    // approved, and over after a year
    assert_eq!(
        decide(&test, &root, id, "approved").await.status,
        StatusCode::OK
    );
    assert_eq!(state(&test, &ada).await, "approved");
    let mut timer = Kyc(test.app.clone());
    test.clock.advance_ms(91 * DAY_MS);
    let done = timer.activate().await.expect("swept");
    assert_eq!(done, json!({"expired": 0, "documents_deleted": 1}));
    test.clock.advance_ms(275 * DAY_MS);
    let ada = login(&test, "ada@example.org").await;
    let root = login(&test, "root@example.org").await;
    // the timer didn't come by yet, and it is over all the same
    assert_eq!(state(&test, &ada).await, "expired");
    assert_eq!(timer.activate().await.expect("swept")["expired"], 1);
    assert_eq!(
        test.get(&document_path, &root).await.status,
        StatusCode::NOT_FOUND
    );
    let sent = test.post("/api/v1/kyc", &ada, &submission(PNG)).await;
    assert_eq!(sent.status, StatusCode::CREATED, "{sent:?}");
    // who did what
    let log = test
        .get(&format!("/api/v1/admin/audit?object={id}"), &root)
        .await
        .json();
    let actions: Vec<&str> = log["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|it| it["action"].as_str())
        .collect();
    assert_eq!(
        actions,
        [
            "kyc.expired",
            "kyc.documents_deleted",
            "kyc.approved",
            "kyc.submitted"
        ]
    );
    assert_eq!(log["items"][2]["reason"], "looked at it");
    let read = test
        .get("/api/v1/admin/audit?action=kyc.document_read", &root)
        .await
        .json();
    assert_eq!(read["items"].as_array().expect("items").len(), 1);
}

async fn login(test: &TestApp, email: &str) -> String {
    let body = json!({"email": email, "password": "a long password"});
    let answer = test.post("/api/v1/auth/login", "", &body).await;
    answer.json()["access_token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

async fn only_administrators_decide_and_only_once(test: TestApp) {
    let root = admin(&test, "root@example.org").await;
    let ada = test.signup("ada@example.org", &[]).await;
    let sent = test
        .post("/api/v1/kyc", &ada, &submission(PNG))
        .await
        .json();
    let id = sent["case"]["id"].as_str().expect("id");
    for (token, status) in [
        ("", StatusCode::UNAUTHORIZED),
        (&ada, StatusCode::FORBIDDEN),
    ] {
        assert_eq!(decide(&test, token, id, "approved").await.status, status);
        assert_eq!(test.get("/api/v1/admin/kyc", token).await.status, status);
    }
    let both = tokio::join!(
        decide(&test, &root, id, "approved"),
        decide(&test, &root, id, "approved")
    );
    let mut statuses = [both.0.status, both.1.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::OK, StatusCode::CONFLICT]);
    // an approval can be taken back, a rejection is final, and nobody judges themselves
    assert_eq!(
        decide(&test, &root, id, "rejected").await.status,
        StatusCode::OK
    );
    assert_eq!(
        decide(&test, &root, id, "approved").await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        decide(&test, &root, id, "pending").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let own = test
        .post("/api/v1/kyc", &root, &submission(PNG))
        .await
        .json();
    let own = decide(
        &test,
        &root,
        own["case"]["id"].as_str().expect("id"),
        "approved",
    )
    .await;
    assert_eq!(own.status, StatusCode::FORBIDDEN);
    let unknown = format!("kyc_{}", "0".repeat(32));
    assert_eq!(
        decide(&test, &root, &unknown, "approved").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_is_no_document_is_refused_and_what_is_is_sealed() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    let many =
        json!({"documents": vec![json!({"kind": "selfie", "content": BASE64.encode(PNG)}); 5]});
    let mut large = PNG.to_vec();
    large.resize(super::model::DOCUMENT_BYTES_MAX + 1, 0);
    for body in [
        submission(b"<html><script>alert(1)</script>"),
        submission(b""),
        submission(&large),
        json!({"documents": []}),
        json!({"documents": [{"kind": "passport", "content": "%%%"}]}),
        json!({"documents": [{"kind": "poem", "content": BASE64.encode(PNG)}]}),
        json!({"provider": "elsewhere"}),
        many,
    ] {
        let answer = test.post("/api/v1/kyc", &ada, &body).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{:?}",
            answer.json()
        );
    }
    let huge = json!({"documents": [{"kind": "passport", "content": "A".repeat(12 << 20)}]});
    assert_eq!(
        test.post("/api/v1/kyc", &ada, &huge).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    // who isn't signed in isn't even read
    assert_eq!(
        test.post("/api/v1/kyc", "", &huge).await.status,
        StatusCode::UNAUTHORIZED
    );
    large.truncate(super::model::DOCUMENT_BYTES_MAX);
    let sent = test.post("/api/v1/kyc", &ada, &submission(&large)).await;
    assert_eq!(sent.status, StatusCode::CREATED, "{:?}", sent.json());
    let read = |tx: &mut dyn Tx| Ok(tx.query("SELECT sealed FROM kyc_documents", &[])?);
    let rows = test.app.db.read("test.sealed", read).await.expect("read");
    let sealed = rows[0].blob(0).expect("bytes");
    assert!(sealed.len() > super::model::DOCUMENT_BYTES_MAX);
    assert!(!sealed.windows(8).any(|part| part == b"Lovelace"));
}

#[tokio::test]
async fn submissions_in_memory_are_few() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    let never_ends = || {
        let mut request = request("POST", "/api/v1/kyc", &ada, &json!({}));
        *request.body_mut() = Body::from_stream(pending::<std::io::Result<Vec<u8>>>());
        request
    };
    let slow = join_all((0..4).map(|_| test.open(never_ends())));
    let busy = async {
        // it says nothing, which is refused once it was read
        while test.post("/api/v1/kyc", &ada, &json!({})).await.status
            != StatusCode::SERVICE_UNAVAILABLE
        {
            // the others' turn
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answers = slow => panic!("bodies that never end are answered: {answers:?}"),
        waited = tokio::time::timeout(Duration::from_secs(30), busy) => waited.expect("the fifth is told to come back"),
    }
}

#[tokio::test]
async fn the_gate_before_offers_opens_with_an_approval() {
    let test = TestApp::with(|config| config.kyc.gates = vec![KycGate::Offers]).await;
    test.start_ingest();
    let root = admin(&test, "root@example.org").await;
    let provider = test.signup("provider@example.org", &["provider"]).await;
    let node = ScriptedNode::enrol(&test, &provider, 16 << 30).await;
    let offer = json!({"node_id": node.id, "prices": {"ram_gib_hour": "0.01", "cpu_hour": "0", "gpu_hour": "0", "disk_gib_hour": "0"}});
    let refused = test.post("/api/v1/offers", &provider, &offer).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (StatusCode::FORBIDDEN, &json!("kyc_required"))
    );
    let sent = test
        .post("/api/v1/kyc", &provider, &submission(PNG))
        .await
        .json();
    assert_eq!(
        test.post("/api/v1/offers", &provider, &offer).await.status,
        StatusCode::FORBIDDEN
    );
    decide(
        &test,
        &root,
        sent["case"]["id"].as_str().expect("id"),
        "approved",
    )
    .await;
    let made = test.post("/api/v1/offers", &provider, &offer).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
}

async fn hosted() -> TestApp {
    TestApp::with(|config| {
        config.kyc.provider = Some("hosted".to_owned());
        config.kyc.provider_url = Some("https://kyc.example/start".to_owned());
        let secret = format!("whsec_{}", BASE64.encode(SECRET));
        config.kyc.webhook_secret = Some(SecretText::new(secret));
    })
    .await
}

async fn webhook(test: &TestApp, secret: &[u8], id: &str, sent_s: i64, body: &Value) -> StatusCode {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{sent_s}.{body}").as_bytes());
    let mut request = request("POST", "/api/v1/kyc/webhook/hosted", "", body);
    let headers = request.headers_mut();
    headers.insert("webhook-id", id.parse().expect("header"));
    headers.insert(
        "webhook-timestamp",
        sent_s.to_string().parse().expect("header"),
    );
    let signature = format!("v1,AAAA v2,nonsense v1,{}", BASE64.encode(tag));
    headers.insert("webhook-signature", signature.parse().expect("header"));
    test.send(request).await.status
}

#[tokio::test]
async fn a_hosted_provider_decides_by_signed_webhooks_each_once() {
    let test = hosted().await;
    let root = admin(&test, "root@example.org").await;
    let ada = test.signup("ada@example.org", &[]).await;
    let begun = test
        .post("/api/v1/kyc", &ada, &json!({"provider": "hosted"}))
        .await
        .json();
    let id = begun["case"]["id"].as_str().expect("id").to_owned();
    assert_eq!(
        begun["case"]["continue_url"],
        format!("https://kyc.example/start?reference={id}")
    );
    let now_s = test.clock.now().as_secs();
    let approved = json!({"type": "verification.approved", "data": {"reference": id, "score": 1}});
    // a wrong secret, too old, from the future: nothing happens
    assert_eq!(
        webhook(&test, b"another", "e1", now_s, &approved).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        webhook(&test, SECRET, "e1", now_s - 301, &approved).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        webhook(&test, SECRET, "e1", now_s + 301, &approved).await,
        StatusCode::UNAUTHORIZED
    );
    let unsigned = test.post("/api/v1/kyc/webhook/hosted", "", &approved).await;
    assert_eq!(unsigned.status, StatusCode::UNAUTHORIZED);
    let elsewhere = test
        .post("/api/v1/kyc/webhook/elsewhere", "", &approved)
        .await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
    assert_eq!(state(&test, &ada).await, "pending");
    // what isn't about a decision is taken in and forgotten
    let other = json!({"type": "verification.started", "data": {"reference": id}});
    assert_eq!(
        webhook(&test, SECRET, "e0", now_s, &other).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        webhook(&test, SECRET, "e1", now_s, &approved).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(state(&test, &ada).await, "approved");
    // the provider takes it back; a replay of the approval doesn't bring it back
    let rejected =
        json!({"type": "verification.rejected", "data": {"reference": id, "reason": "forged"}});
    assert_eq!(
        webhook(&test, SECRET, "e2", now_s, &rejected).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        webhook(&test, SECRET, "e1", now_s, &approved).await,
        StatusCode::NO_CONTENT
    );
    let now = test.get("/api/v1/kyc", &ada).await.json();
    assert_eq!(
        (&now["state"], &now["case"]["reason"]),
        (&json!("rejected"), &json!("forged"))
    );
    assert_eq!(
        webhook(&test, SECRET, "e3", now_s, &approved).await,
        StatusCode::CONFLICT
    );
    let log = test
        .get("/api/v1/admin/audit?action=kyc.rejected", &root)
        .await
        .json();
    assert_eq!(log["items"][0]["after"]["provider"], "hosted");
    // another provider's cases aren't this one's
    let bob = test.signup("bob@example.org", &[]).await;
    let manual = test
        .post("/api/v1/kyc", &bob, &submission(PNG))
        .await
        .json();
    let foreign =
        json!({"type": "verification.approved", "data": {"reference": manual["case"]["id"]}});
    assert_eq!(
        webhook(&test, SECRET, "e4", now_s, &foreign).await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(state(&test, &bob).await, "pending");
}
