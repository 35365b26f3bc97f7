//! Keys through the router: made, used, bounded, noted, ended.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{NOTED_MS, TRUSTED_MS};
use crate::testing::{Answer, TestApp, on_both_stores, request};

const KEYS: &str = "/api/v1/api-keys";
const ME: &str = "/api/v1/auth/me";

on_both_stores!(
    a_key_acts_for_its_person_until_it_is_ended,
    the_last_use_is_noted_once_a_minute
);

async fn make(test: &TestApp, token: &str, scopes: &[&str]) -> Answer {
    let body = json!({"name": "tests", "scopes": scopes});
    test.post(KEYS, token, &body).await
}

fn text(answer: &Answer, field: &str) -> String {
    answer.json()[field].as_str().unwrap_or_default().to_owned()
}

async fn end(test: &TestApp, token: &str, id: &str) -> Answer {
    let path = format!("{KEYS}/{id}");
    test.send(request("DELETE", &path, token, &Value::Null))
        .await
}

async fn a_key_acts_for_its_person_until_it_is_ended(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let made = make(&test, &ada, &["account:read"]).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.headers["cache-control"], "no-store");
    let (key, id) = (text(&made, "key"), text(&made, "id"));
    let me = test.get(ME, &key).await;
    assert_eq!(
        (me.status, text(&me, "email").as_str()),
        (StatusCode::OK, "ada@example.org")
    );
    // what it has no scope for, and what no key does
    let balance = test
        .post("/api/v1/balance/topups", &key, &Value::Null)
        .await;
    assert_eq!(
        (balance.status, text(&balance, "code").as_str()),
        (StatusCode::FORBIDDEN, "scope_required")
    );
    for refused in [
        make(&test, &key, &["account:read"]).await,
        test.get(KEYS, &key).await,
        end(&test, &key, &id).await,
    ] {
        assert_eq!(
            (refused.status, text(&refused, "code").as_str()),
            (StatusCode::FORBIDDEN, "key_not_allowed")
        );
    }
    // not others'
    let eve = test.signup("eve@example.org", &[]).await;
    assert_eq!(end(&test, &eve, &id).await.status, StatusCode::NOT_FOUND);
    assert_eq!(test.get(KEYS, &eve).await.json()["items"], json!([]));
    // shown once
    let listed = test.get(KEYS, &ada).await;
    assert_eq!(listed.json()["items"][0]["id"], json!(id));
    assert!(!String::from_utf8_lossy(&listed.body).contains(&key[42..]));
    assert_eq!(end(&test, &ada, &id).await.status, StatusCode::NO_CONTENT);
    assert_eq!(end(&test, &ada, &id).await.status, StatusCode::NO_CONTENT);
    let ended = test.get(ME, &key).await;
    assert_eq!(
        (ended.status, text(&ended, "code").as_str()),
        (StatusCode::UNAUTHORIZED, "api_key")
    );
}

async fn the_last_use_is_noted_once_a_minute(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let key = text(&make(&test, &ada, &["account:read"]).await, "key");
    let last_used = async || test.get(KEYS, &ada).await.json()["items"][0]["last_used_at"].clone();
    assert_eq!(last_used().await, Value::Null);
    test.get(ME, &key).await;
    let first = last_used().await;
    assert!(first.is_string());
    test.clock.advance_ms(NOTED_MS - 1);
    test.get(ME, &key).await;
    assert_eq!(last_used().await, first);
    test.clock.advance_ms(1);
    test.get(ME, &key).await;
    assert_ne!(last_used().await, first);
}

#[tokio::test]
async fn a_key_ends_by_itself_and_by_another_coordinator() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    let body = json!({"name": "a day", "scopes": ["account:read"], "expires_in_days": 1});
    let key = text(&test.post(KEYS, &ada, &body).await, "key");
    let other = make(&test, &ada, &["account:read"]).await;
    assert_eq!(
        test.get(ME, &text(&other, "key")).await.status,
        StatusCode::OK
    );
    // as another coordinator would: our memory doesn't hear of it
    test.app
        .db
        .write("test", |tx| {
            let end = "UPDATE api_keys SET revoked_us = 1 WHERE name = 'tests'";
            Ok(tx.execute(end, crate::params![])?)
        })
        .await
        .expect("written");
    test.clock.advance_ms(TRUSTED_MS);
    assert_eq!(
        test.get(ME, &text(&other, "key")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(test.get(ME, &key).await.status, StatusCode::OK);
    test.clock.advance_ms(24 * 3_600_000 - TRUSTED_MS);
    assert_eq!(test.get(ME, &key).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_key_is_used_from_its_addresses_only() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    let body =
        json!({"name": "office", "scopes": ["account:read"], "addresses": ["198.51.100.0/24"]});
    let key = text(&test.post(KEYS, &ada, &body).await, "key");
    let from = async |peer: [u8; 4]| {
        let mut request = request("GET", ME, &key, &Value::Null);
        let peer = std::net::SocketAddr::from((peer, 1));
        request
            .extensions_mut()
            .insert(axum::extract::ConnectInfo(peer));
        test.send(request).await
    };
    assert_eq!(from([198, 51, 100, 7]).await.status, StatusCode::OK);
    let outside = from([203, 0, 113, 7]).await;
    assert_eq!(
        (outside.status, text(&outside, "code").as_str()),
        (StatusCode::FORBIDDEN, "api_key_address")
    );
    // no address is none of them
    assert_eq!(test.get(ME, &key).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn wishes_are_bounded() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    let cases = [
        (json!({"name": "", "scopes": ["account:read"]}), "/name"),
        (json!({"name": "a", "scopes": []}), "/scopes"),
        (json!({"name": "a", "scopes": ["everything"]}), "/scopes/0"),
        (
            json!({"name": "a", "scopes": ["account:read"], "expires_in_days": 366}),
            "/expires_in_days",
        ),
        (
            json!({"name": "a", "scopes": ["account:read"], "expires_in_days": 0}),
            "/expires_in_days",
        ),
        (
            json!({"name": "a", "scopes": ["account:read"], "addresses": ["10.0.0.1/8"]}),
            "/addresses/0",
        ),
    ];
    for (body, pointer) in cases {
        let answer = test.post(KEYS, &ada, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    for _ in 0..super::model::KEYS_MAX {
        assert_eq!(
            make(&test, &ada, &["account:read"]).await.status,
            StatusCode::CREATED
        );
    }
    assert_eq!(
        make(&test, &ada, &["account:read"]).await.json()["code"],
        "too_many_keys"
    );
}

#[tokio::test]
async fn a_key_of_an_administrator_runs_nothing() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    let key = text(
        &make(&test, &ada, &["account:read", "nodes:read"]).await,
        "key",
    );
    let ctx = test.app.task_context("test");
    let email = crate::domain::auth::model::Email::parse("ada@example.org").expect("fine");
    let grant = test.app.db.write("test", move |tx| {
        crate::domain::auth::grant(tx, &ctx, &email, crate::context::Role::Admin)
    });
    grant.await.expect("granted");
    assert_eq!(
        test.get("/api/v1/nodes", &key).await.status,
        StatusCode::FORBIDDEN
    );
    let cron = test.post("/api/v1/cron/metering", &key, &Value::Null).await;
    assert_eq!(text(&cron, "code"), "key_not_allowed");
}
