//! What owners do with their endpoints, and what nobody else may.

use super::*;
use crate::testing::on_both_stores;

on_both_stores!(
    secrets_overlap_and_end,
    an_owner_tests_and_replays,
    endpoints_are_counted_and_checked,
    nobody_elses_webhook_is_there,
);

async fn secrets_overlap_and_end(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let whose = id_of(&test, &ada).await;
    let receiver = Receiver::start().await;
    let webhook = create(&test, &ada, &receiver.url, &[]).await;
    let rotate = format!("{}/rotate-secret", path_of(&webhook));
    let rotated = test
        .post(&rotate, &ada, &json!({ "old_expires_in_seconds": 3600 }))
        .await;
    assert_eq!(rotated.status, StatusCode::OK, "{rotated:?}");
    let (old, new) = (webhook["secret"].clone(), rotated.json()["secret"].clone());
    let (old, new) = (
        old.as_str().expect("text").to_owned(),
        new.as_str().expect("text").to_owned(),
    );
    assert_ne!(old, new);
    happens(&test, "rental.started", whose).await;
    deliver(&test).await;
    assert!(receiver.last().is_signed_by(&old) && receiver.last().is_signed_by(&new));
    test.clock.advance_ms(3_600_000);
    happens(&test, "rental.started", whose).await;
    deliver(&test).await;
    assert!(!receiver.last().is_signed_by(&old) && receiver.last().is_signed_by(&new));
    let ada = again(&test, "ada@example.org").await;
    // only so many sign at a time; one more is possible if the old one ends at once
    for _ in 0..4 {
        assert_eq!(
            test.post(&rotate, &ada, &json!({})).await.status,
            StatusCode::OK
        );
    }
    assert_eq!(
        test.post(&rotate, &ada, &json!({})).await.status,
        StatusCode::CONFLICT
    );
    let at_once = test
        .post(&rotate, &ada, &json!({ "old_expires_in_seconds": 0 }))
        .await;
    assert_eq!(at_once.status, StatusCode::OK);
    let odd = test
        .post(&rotate, &ada, &json!({ "old_expires_in_seconds": 604_801 }))
        .await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
    // in the database and in answers no secret can be read
    let rows = format!("{:?}", crate::testing::dump::dump(&test.app.db, &[]).await);
    let shown = test.get(&path_of(&webhook), &ada).await;
    for secret in [&old, &new] {
        let bare = secret.trim_start_matches("whsec_");
        let bytes = BASE64.decode(bare).expect("base64");
        assert!(!rows.contains(bare) && !rows.contains(&format!("{bytes:?}")));
        assert!(!String::from_utf8_lossy(&shown.body).contains(bare));
    }
}

async fn an_owner_tests_and_replays(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let receiver = Receiver::start().await;
    let webhook = create(&test, &ada, &receiver.url, &["rental.started"]).await;
    let path = path_of(&webhook);
    let tested = test.post(&format!("{path}/test"), &ada, &Value::Null).await;
    assert_eq!(tested.status, StatusCode::ACCEPTED, "{tested:?}");
    assert_eq!(send(&test).await["delivered"], 1);
    assert_eq!(receiver.last().json()["type"], "webhook.test");
    assert_eq!(
        receiver.last().header("webhook-id"),
        tested.json()["event_id"]
    );
    let delivery = tested.json()["id"].as_str().expect("id").to_owned();
    let replay = format!("{path}/deliveries/{delivery}/replay");
    let replayed = test.post(&replay, &ada, &Value::Null).await;
    assert_eq!(
        (replayed.status, replayed.json()["state"].as_str()),
        (StatusCode::ACCEPTED, Some("pending"))
    );
    assert_eq!(send(&test).await["delivered"], 1);
    let heard = receiver.heard();
    assert_eq!(
        (heard.len(), heard[0].header("webhook-id")),
        (2, heard[1].header("webhook-id"))
    );
    // paused: nothing is sent, nothing is collected
    call(&test, "PATCH", &path, &ada, &json!({ "state": "paused" })).await;
    assert_eq!(
        test.post(&replay, &ada, &Value::Null).await.status,
        StatusCode::CONFLICT
    );
    assert_eq!(
        test.post(&format!("{path}/test"), &ada, &Value::Null)
            .await
            .status,
        StatusCode::CONFLICT
    );
    happens(&test, "rental.started", id_of(&test, &ada).await).await;
    assert_eq!(hand_out(&test).await["deliveries"], 0);
    // a machine gun it isn't
    let mut refused = 0;
    for _ in 0..40 {
        let answer = test.post(&replay, &ada, &Value::Null).await;
        refused += usize::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 0);
}

async fn endpoints_are_counted_and_checked(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let path = "/api/v1/webhooks";
    for (body, pointer) in [
        (
            json!({ "url": "http://example.org/" , "events": ["x y"] }),
            "/events/0",
        ),
        (json!({ "url": "ftp://example.org/" }), "/url"),
        (json!({ "url": "https://10.0.0.1/" }), "/url"),
        (json!({ "url": "https://[::1]/" }), "/url"),
        (json!({ "url": "https://u:p@example.org/" }), "/url"),
        (
            json!({ "url": "https://example.org/", "description": "x".repeat(201) }),
            "/description",
        ),
    ] {
        let answer = test.post(path, &ada, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    let body = json!({ "url": "https://example.org/" });
    let mut first = Value::Null;
    for number in 0..20 {
        let made = create(&test, &ada, "https://example.org/", &[]).await;
        if number == 0 {
            first = made;
        }
    }
    let one_more = test.post(path, &ada, &body).await;
    assert_eq!(
        (one_more.status, one_more.json()["code"].as_str()),
        (StatusCode::CONFLICT, Some("too_many_webhooks"))
    );
    assert_eq!(
        call(&test, "DELETE", &path_of(&first), &ada, &Value::Null)
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        test.get(&path_of(&first), &ada).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        test.post(path, &ada, &body).await.status,
        StatusCode::CREATED
    );
    // pages
    let page = test.get("/api/v1/webhooks?limit=15", &ada).await.json();
    let cursor = page["next_cursor"].as_str().expect("more").to_owned();
    let rest = test
        .get(&format!("/api/v1/webhooks?limit=15&cursor={cursor}"), &ada)
        .await
        .json();
    let length = |page: &Value| page["items"].as_array().expect("a list").len();
    assert_eq!((length(&page), length(&rest)), (15, 5));
}

async fn nobody_elses_webhook_is_there(test: TestApp) {
    let (ada, eve) = (
        test.signup("ada@example.org", &[]).await,
        test.signup("eve@example.org", &[]).await,
    );
    let receiver = Receiver::start().await;
    let webhook = create(&test, &ada, &receiver.url, &[]).await;
    let path = path_of(&webhook);
    let tested = test
        .post(&format!("{path}/test"), &ada, &Value::Null)
        .await
        .json();
    let replay = format!(
        "{path}/deliveries/{}/replay",
        tested["id"].as_str().expect("id")
    );
    for (method, path, body) in [
        ("GET", path.clone(), Value::Null),
        ("PATCH", path.clone(), json!({ "state": "paused" })),
        ("DELETE", path.clone(), Value::Null),
        ("POST", format!("{path}/test"), Value::Null),
        ("POST", format!("{path}/rotate-secret"), json!({})),
        ("GET", format!("{path}/deliveries"), Value::Null),
        ("POST", replay, Value::Null),
    ] {
        assert_eq!(
            call(&test, method, &path, &eve, &body).await.status,
            StatusCode::NOT_FOUND,
            "{method} {path}"
        );
        assert_eq!(
            call(&test, method, &path, "", &body).await.status,
            StatusCode::UNAUTHORIZED,
            "{method} {path}"
        );
    }
    assert_eq!(
        test.get("/api/v1/webhooks", &eve).await.json()["items"],
        json!([])
    );
    // a delivery of another endpoint of one's own isn't this one's
    let other = create(&test, &eve, &receiver.url, &[]).await;
    let crossed = format!(
        "{}/deliveries/{}/replay",
        path_of(&other),
        tested["id"].as_str().expect("id")
    );
    assert_eq!(
        test.post(&crossed, &eve, &Value::Null).await.status,
        StatusCode::NOT_FOUND
    );
}
