//! Tests of manners: what isn't known is refused, edits name what they edit, limits are told, panics are problems.

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
    middleware::from_fn,
    routing::get,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;

use super::problem;
use crate::{
    http::{middleware, request_id},
    testing::{Answer, TestApp, market::Market, on_both_stores, request},
};

const LOGIN: &str = "/api/v1/auth/login";

/// A request with one more header.
fn with(
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
    (name, value): (&'static str, &str),
) -> Request<Body> {
    let mut request = request(method, path, token, body);
    let value = HeaderValue::from_str(value).expect("a header");
    request.headers_mut().insert(name, value);
    request
}

fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let value = answer.headers.get(name);
    value
        .unwrap_or_else(|| panic!("no {name}: {answer:?}"))
        .to_str()
        .expect("text")
}

#[tokio::test]
async fn what_an_operation_does_not_know_is_refused() {
    let test = TestApp::new().await;
    for path in [
        "/api/v1/offers?ram_min=1",
        "/api/v1/market/summary?x",
        "/api/v1/auth/me?limit=1",
        "/api/v1/offers?limit=1&limit=2",
        "/api/v1/offers?region=%00",
        "/api/v1/offers?limit=0",
        "/api/v1/offers?cursor=*",
    ] {
        let answer = test.get(path, "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {answer:?}");
        assert_eq!(text(&answer, "content-type"), "application/problem+json");
    }
    let token = test.signup("ada@example.org", &["provider"]).await;
    let path = "/api/v1/nodes/enrollment-tokens";
    let body = test.post(path, &token, &json!({"name": "x"})).await;
    problem(&body, StatusCode::BAD_REQUEST, "unexpected_body");
    let empty = test.post(path, &token, &json!({})).await;
    assert_eq!(empty.status, StatusCode::CREATED, "{empty:?}");
    let nul = json!({"email": "a\u{0}@b.c", "password": "a long password"});
    let nul = test.post("/api/v1/auth/signup", "", &nul).await;
    problem(&nul, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    let id = test.get("/api/v1/offers/ofr_%00", "").await;
    problem(&id, StatusCode::NOT_FOUND, "not_found");
}

async fn edits_name_what_they_edit(test: TestApp) {
    let market = Market::open(test).await;
    let (test, token) = (&market.test, market.provider.as_str());
    let offer = format!("/api/v1/offers/{}", market.offer);
    let node = format!("/api/v1/nodes/{}", market.node.id);
    let hook = json!({"url": "https://hooks.invalid/"});
    let hook = test.post("/api/v1/webhooks", token, &hook).await;
    let hook = format!(
        "/api/v1/webhooks/{}",
        hook.json()["id"].as_str().expect("an id")
    );
    for (path, change) in [
        (offer, json!({"state": "paused"})),
        (node, json!({"name": "attic"})),
        (hook, json!({"events": ["rental.*"]})),
    ] {
        let seen = test.get(&path, token).await;
        let tag = text(&seen, "etag").to_owned();
        let edit = async |tag: &str, method: &str| {
            let body = if method == "PATCH" {
                &change
            } else {
                &Value::Null
            };
            test.send(with(method, &path, token, body, ("if-match", tag)))
                .await
        };
        problem(
            &edit("v1", "PATCH").await,
            StatusCode::BAD_REQUEST,
            "if_match",
        );
        let done = edit(&tag, "PATCH").await;
        assert_eq!(done.status, StatusCode::OK, "{done:?}");
        assert_ne!(text(&done, "etag"), tag, "{path}");
        for method in ["PATCH", "DELETE"] {
            let late = edit(&tag, method).await;
            problem(&late, StatusCode::PRECONDITION_FAILED, "changed_meanwhile");
        }
        let now = text(&test.get(&path, token).await, "etag").to_owned();
        assert_eq!(text(&done, "etag"), now);
        let gone = edit(&now, "DELETE").await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT, "{gone:?}");
    }
}

async fn one_key_is_one_order(test: TestApp) {
    let market = Market::open(test).await;
    let test = &market.test;
    let token = test.signup("carl@example.org", &["consumer"]).await;
    let topups = "/api/v1/balance/topups";
    let amount = |amount: &str| json!({"amount": {"amount": amount, "currency": "USDC"}, "source": "sandbox"});
    let missing = test.post(topups, &token, &amount("5")).await;
    problem(&missing, StatusCode::BAD_REQUEST, "idempotency_key_missing");
    let keyed = async |path: &str, token: &str, body: &Value, key: &str| {
        test.send(with("POST", path, token, body, ("idempotency-key", key)))
            .await
    };
    let spaces = keyed(topups, &token, &amount("5"), "a b").await;
    problem(&spaces, StatusCode::BAD_REQUEST, "idempotency_key_invalid");
    for _ in 0..2 {
        let answer = keyed(topups, &token, &amount("5"), "k1").await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        assert_eq!(answer.json()["items"][0]["available"]["amount"], "5.000000");
    }
    let other = keyed(topups, &token, &amount("6"), "k1").await;
    problem(
        &other,
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
    );
    let mut order = market.order(600);
    order["pay_with"] = json!("balance");
    let missing = test.post("/api/v1/rentals", &token, &order).await;
    problem(&missing, StatusCode::BAD_REQUEST, "idempotency_key_missing");
    // the same key on another route is another order; the same again is the same rental
    let first = keyed("/api/v1/rentals", &token, &order, "k1").await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    let again = keyed("/api/v1/rentals", &token, &order, "k1").await;
    assert_eq!(first.json()["id"], again.json()["id"]);
    // another account's key of the same name isn't this one
    let other = test.signup("dora@example.org", &["consumer"]).await;
    let hers = keyed(topups, &other, &amount("6"), "k1").await;
    assert_eq!(hers.status, StatusCode::CREATED, "{hers:?}");
}

on_both_stores!(edits_name_what_they_edit, one_key_is_one_order);

#[tokio::test]
async fn limits_are_told_before_and_when_they_are_reached() {
    let test = TestApp::with(|config| config.limits.topups_per_minute = 2).await;
    let wrong = json!({"email": "a@b.c", "password": "wrong password"});
    let first = test.post(LOGIN, "", &wrong).await;
    assert_eq!(
        text(&first, "ratelimit-policy"),
        "\"sign-in\";q=20;w=60, \"login\";q=5;w=60"
    );
    assert_eq!(
        text(&first, "ratelimit"),
        "\"sign-in\";r=19;t=3, \"login\";r=4;t=12"
    );
    for _ in 0..4 {
        test.post(LOGIN, "", &wrong).await;
    }
    let refused = test.post(LOGIN, "", &wrong).await;
    problem(&refused, StatusCode::TOO_MANY_REQUESTS, "too_many_attempts");
    let wait: u32 = text(&refused, "retry-after").parse().expect("seconds");
    assert!((1..=13).contains(&wait), "{wait}");
    assert!(text(&refused, "ratelimit").contains("\"login\";r=0"));
    // somebody else's account isn't locked by it, and its tokens go on
    let token = test.signup("ada@example.org", &[]).await;
    let me = test.get("/api/v1/auth/me", &token).await;
    assert_eq!(me.status, StatusCode::OK);
    assert!(me.headers.get("ratelimit").is_none());
    let body = json!({"amount": {"amount": "1", "currency": "USDC"}, "source": "sandbox"});
    let topup = async |key: &str| {
        let path = "/api/v1/balance/topups";
        test.send(with("POST", path, &token, &body, ("idempotency-key", key)))
            .await
    };
    assert_eq!(topup("1").await.status, StatusCode::CREATED);
    assert_eq!(topup("2").await.status, StatusCode::CREATED);
    problem(
        &topup("3").await,
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_attempts",
    );
    test.clock.advance_ms(31_000);
    assert_eq!(topup("3").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn heads_beyond_bounds_are_refused_in_words() {
    let test = TestApp::new().await;
    let send = async |name: &str, value: String, times: usize| {
        let mut request = request("GET", "/healthz", "", &Value::Null);
        for _ in 0..times {
            let name: header::HeaderName = name.parse().expect("a name");
            let value = HeaderValue::from_str(&value).expect("a value");
            request.headers_mut().append(name, value);
        }
        test.send(request).await
    };
    assert_eq!(send("a", "b".to_owned(), 64).await.status, StatusCode::OK);
    for (value, times) in [("b".to_owned(), 65), ("b".repeat(16_384), 1)] {
        problem(
            &send("a", value, times).await,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers_too_large",
        );
    }
}

#[tokio::test]
async fn errors_of_libraries_and_panics_are_problems() {
    let test = TestApp::new().await;
    let page = test.get("/api/docs/no-such-file.js", "").await;
    problem(&page, StatusCode::NOT_FOUND, "not_found");
    let link = "/api/v1/nodes/nod_0192f0c1a2b37c4d8e5f60718293a4b5/link?beacon=x";
    let upgrade = test.get(link, "").await;
    assert_eq!(text(&upgrade, "content-type"), "application/problem+json");
    let router = Router::new()
        .route("/", get(async || -> &'static str { panic!("a secret") }))
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn(request_id::name));
    let request = request("GET", "/", "", &Value::Null);
    let response = router.oneshot(request).await.expect("an answer");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let answer = Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    };
    problem(&answer, StatusCode::INTERNAL_SERVER_ERROR, "internal");
    assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
}
