//! Proof of identity as people go through it: a document that an administrator looks at, and a hosted provider that tells us by webhook.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;
use serde_json::{Value, json};
use shared::clock::{Clock as _, SystemClock};
use system_tests::{
    api::{self, Answer, Api},
    containers::Engine,
    market::{Market, Store},
    node::Node,
    people,
};

const SECRET: &[u8; 32] = b"the hosted provider's secret, 32";
const DOCUMENT: &[u8] = b"%PDF-1.7 the passport of Grace Hopper";

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {value}"))
}

fn offer(node: &Node) -> Value {
    json!({"node_id": node.id(), "prices": {"ram_gib_hour": "0.01", "cpu_hour": "0"}})
}

async fn state(of: &Api) -> String {
    text(&of.get("/kyc").await.is(200), "state").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_looks_at_a_document_and_the_gate_opens() {
    let market = Market::with(Store::Postgres, &[("kyc.gates", "offers,payouts")]).await;
    let (provider, admin) = (
        people::provider(&market).await,
        people::admin(&market).await,
    );
    let node = Node::enrol(Engine::shared(), &market, &provider).await;
    provider
        .post("/offers", &offer(&node))
        .await
        .refused(403, "kyc_required");
    let picture =
        json!({"documents": [{"kind": "passport", "content": BASE64.encode(b"GIF89a and more")}]});
    provider
        .post("/kyc", &picture)
        .await
        .refused(422, "invalid");
    let sent = json!({"documents": [{"kind": "passport", "content": BASE64.encode(DOCUMENT)}]});
    provider.post("/kyc", &sent).await.is(201);
    provider.post("/kyc", &sent).await.refused(409, "kyc_open");
    provider
        .post("/offers", &offer(&node))
        .await
        .refused(403, "kyc_required");

    provider.get("/admin/kyc").await.refused(403, "forbidden");
    let waiting = admin.get("/admin/kyc").await.is(200);
    let case = &waiting["items"][0];
    let id = text(case, "id");
    let document = text(&case["documents"][0], "id");
    let saved = admin
        .get(&format!("/admin/kyc/{id}/documents/{document}"))
        .await;
    assert_eq!(
        saved.header("content-type"),
        Some("application/octet-stream")
    );
    let disposition = saved.header("content-disposition").expect("a header");
    assert!(disposition.starts_with("attachment;"), "{disposition}");
    assert_eq!(saved.is(200).as_str().map(str::as_bytes), Some(DOCUMENT));
    let decided = json!({"decision": "approved", "reason": "the face is hers"});
    let path = format!("/admin/kyc/{id}/decision");
    admin.post(&path, &decided).await.is(200);
    admin
        .post(&path, &decided)
        .await
        .refused(409, "kyc_decided");
    assert_eq!(state(&provider).await, "approved");
    provider.post("/offers", &offer(&node)).await.is(201);
    let log = admin.get("/admin/audit?action=kyc.document_read").await;
    assert_eq!(text(&log.is(200)["items"][0], "object"), document);
}

/// As the provider sends it.
async fn tell(market: &Market, secret: &[u8], id: &str, sent_s: i64, body: &Value) -> Answer {
    let body = body.to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{sent_s}.{body}").as_bytes());
    let request = market.api().request("POST", "/kyc/webhook/hosted");
    let request = request
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", sent_s.to_string())
        .header("webhook-signature", format!("v1,{}", BASE64.encode(tag)))
        .body(body);
    api::send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosted_provider_tells_by_webhooks_that_count_once() {
    let secret = format!("whsec_{}", BASE64.encode(SECRET));
    let settings = [
        ("kyc.provider", "hosted"),
        ("kyc.provider_url", "https://kyc.example/start"),
        ("kyc.webhook_secret", &secret),
    ];
    let mut market = Market::with(Store::Sqlite, &settings).await;
    let ada = people::consumer(&market).await;
    let begun = ada
        .post("/kyc", &json!({"provider": "hosted"}))
        .await
        .is(201);
    let begun = &begun["case"];
    let case = text(begun, "id");
    let url = format!("https://kyc.example/start?reference={case}");
    assert_eq!(text(begun, "continue_url"), url);
    let said = |kind: &str| json!({"type": kind, "data": {"reference": case}});
    let (approved, rejected) = (said("verification.approved"), said("verification.rejected"));
    let now_s = SystemClock.now().as_secs();
    for (secret, sent_s) in [
        (&b"somebody else's secret, 32 bytes"[..], now_s),
        (SECRET, now_s - 3_600),
    ] {
        let told = tell(&market, secret, "e1", sent_s, &approved).await;
        told.refused(401, "webhook_signature");
    }
    assert_eq!(state(&ada).await, "pending");
    tell(&market, SECRET, "e1", now_s, &approved).await.is(204);
    assert_eq!(state(&ada).await, "approved");
    tell(&market, SECRET, "e2", now_s, &rejected).await.is(204);
    // a replay changes nothing, nor after a crash
    tell(&market, SECRET, "e1", now_s, &approved).await.is(204);
    market.kill9();
    market.restart().await;
    tell(&market, SECRET, "e1", now_s, &approved).await.is(204);
    assert_eq!(state(&ada).await, "rejected");
}
