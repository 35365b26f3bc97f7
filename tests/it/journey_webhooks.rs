//! Webhooks out, checked by the official library of Standard Webhooks: deliveries hold, also while a secret is replaced, and what
//! was changed on the way doesn't.

use serde_json::{Value, json};
use system_tests::{
    api::{Api, http_client},
    market::{Market, Store},
    people, wait,
    webhook_receiver::WebhookReceiver,
};

/// Waits until the newest delivery has come to something, and returns it.
async fn attempted(owner: &Api, path: &str) -> Value {
    wait::until("an attempt was made", || async {
        let list = owner.get(&format!("{path}/deliveries")).await.is(200);
        let newest = list["items"][0].clone();
        newest["last_attempt"].is_object().then_some(newest)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_hold_before_the_official_library() {
    let market = Market::with(Store::Sqlite, &[("outbound.allow_private", "127.0.0.1")]).await;
    let owner = people::consumer(&market).await;
    let mut receiver = WebhookReceiver::start().await;
    let wish = json!({"url": receiver.url(), "events": ["webhook.*"]});
    let made = owner.post("/webhooks", &wish).await.is(201);
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let path = format!("/webhooks/{}", made["id"].as_str().expect("an id"));
    receiver.use_secret(&secret).await;

    let sent = owner
        .post(&format!("{path}/test"), &Value::Null)
        .await
        .is(202);
    let checked = receiver.next().await;
    assert!(checked.ok, "{checked:?}");
    assert_eq!(checked.id.as_deref(), sent["event_id"].as_str());
    assert_eq!(checked.r#type.as_deref(), Some("webhook.test"));
    let delivery = attempted(&owner, &path).await;
    assert_eq!(
        (&delivery["state"], &delivery["last_attempt"]["status"]),
        (&json!("delivered"), &json!(204))
    );

    // a new secret: the old one signs as well for a while, so neither side is cut off
    let rotate = format!("{path}/rotate-secret");
    let rotated = owner.post(&rotate, &json!({})).await.is(200);
    for secret in [&secret, rotated["secret"].as_str().expect("a secret")] {
        receiver.use_secret(secret).await;
        owner
            .post(&format!("{path}/test"), &Value::Null)
            .await
            .is(202);
        let checked = receiver.next().await;
        assert!(checked.ok, "{checked:?}");
    }

    // another secret doesn't hold: what we send isn't just anything, and the delivery says what came back
    let foreign = "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldCBvZiAzMiBieXRlcw==";
    receiver.use_secret(foreign).await;
    owner
        .post(&format!("{path}/test"), &Value::Null)
        .await
        .is(202);
    let checked = receiver.next().await;
    assert!(!checked.ok && checked.why.is_some(), "{checked:?}");
    let delivery = attempted(&owner, &path).await;
    assert_eq!(
        (&delivery["state"], &delivery["last_attempt"]["status"]),
        (&json!("pending"), &json!(400))
    );
    // and neither does what somebody makes up
    let forged = http_client()
        .post(receiver.url())
        .header("webhook-id", "evt_1")
        .header("webhook-timestamp", "1700000000")
        .header("webhook-signature", "v1,AAAA")
        .body("{}");
    assert_eq!(forged.send().await.expect("an answer").status(), 400);
}
