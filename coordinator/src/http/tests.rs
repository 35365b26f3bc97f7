//! Tests of the web kit through the router.

mod manners;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};

use crate::testing::{Answer, CRON_TOKEN, TestApp, request};

const LOGIN: &str = "/api/v1/auth/login";

fn problem(answer: &Answer, status: StatusCode, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.headers[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let body = answer.json();
    assert_eq!(body["code"], code);
    assert_eq!(body["status"], status.as_u16());
    assert_eq!(body["type"], format!("/docs/problems#{code}"));
    let id = answer.headers["x-request-id"].to_str().expect("text");
    assert_eq!(body["request_id"], id);
    assert!(body["title"].is_string() && body["detail"].is_string());
}

fn raw(method: &str, path: &str, media: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, media)
        .body(body.into())
        .expect("request")
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let test = TestApp::new().await;
    let json = "application/json";
    let send = async |request| test.send(request).await;
    let bad = send(raw("POST", LOGIN, json, "{")).await;
    problem(&bad, StatusCode::BAD_REQUEST, "malformed_json");
    let media = send(raw("POST", LOGIN, "text/plain", "{}")).await;
    problem(&media, StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type");
    let extra = r#"{"email":"a@b.c","password":"x","more":1}"#;
    let unknown = send(raw("POST", LOGIN, json, extra)).await;
    problem(&unknown, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    let typed = send(raw("POST", LOGIN, json, r#"{"email":1,"password":""}"#)).await;
    problem(&typed, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    assert_eq!(typed.json()["errors"][0]["pointer"], "/email");
    let large = send(raw("POST", LOGIN, json, vec![b' '; 1024 * 1024 + 1])).await;
    problem(&large, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
    problem(
        &test.get("/nowhere", "").await,
        StatusCode::NOT_FOUND,
        "no_such_route",
    );
    problem(
        &test.get("/api/v1/nowhere", "").await,
        StatusCode::NOT_FOUND,
        "no_such_route",
    );
    let wrong = test.get(LOGIN, "").await;
    problem(&wrong, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    assert_eq!(wrong.headers[header::ALLOW], "POST");
    let long = test.get(&format!("/{}", "a".repeat(9_000)), "").await;
    problem(&long, StatusCode::URI_TOO_LONG, "url_too_long");
    problem(
        &test.get("/api/v1/auth/me", "").await,
        StatusCode::UNAUTHORIZED,
        "sign_in_required",
    );
}

#[tokio::test]
async fn request_ids_are_echoed_when_sane() {
    let test = TestApp::new().await;
    let ask = async |id: &str| {
        let mut request = request("GET", "/nowhere", "", &Value::Null);
        request
            .headers_mut()
            .insert("x-request-id", id.parse().expect("header"));
        let answer = test.send(request).await;
        answer.headers["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned()
    };
    assert_eq!(ask("my-id.1").await, "my-id.1");
    for odd in ["a b", "", "{}", &"x".repeat(65)] {
        let minted = ask(odd).await;
        assert!(minted.len() == 32 && minted != odd, "{odd:?}");
    }
}

#[tokio::test]
async fn headers_protect_and_other_sites_may_pay() {
    let test = TestApp::new().await;
    let page = test.get("/", "").await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .expect("text");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    assert_eq!(page.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    // pages, the viewer, answers and refusals alike
    for path in [
        "/",
        "/api/docs/",
        "/api/v1/offers",
        "/api/v1/auth/me",
        "/nowhere",
    ] {
        let answer = test.get(path, "").await;
        let text = |name| answer.headers[name].to_str().expect("text");
        let policy = text(header::CONTENT_SECURITY_POLICY);
        for part in [
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "object-src 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(text(header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        assert_eq!(text(header::REFERRER_POLICY), "same-origin", "{path}");
        assert!(answer.headers.contains_key(header::CONTENT_TYPE), "{path}");
    }
    assert!(!page.headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert!(html.contains("/static/site.css") && html.contains("/api/openapi.json"));
    assert_eq!(
        test.get("/static/site.css", "").await.status,
        StatusCode::OK
    );

    let mut paid = request("GET", "/api/v1/auth/me", "", &Value::Null);
    paid.headers_mut().insert(
        header::ORIGIN,
        "https://other.example".parse().expect("header"),
    );
    let answer = test.send(paid).await;
    assert_eq!(answer.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert!(
        !answer
            .headers
            .contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS)
    );
    let exposed = answer.headers[header::ACCESS_CONTROL_EXPOSE_HEADERS]
        .to_str()
        .expect("text");
    for name in ["payment-required", "payment-response", "x-payment-response"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn the_api_is_described_and_its_viewer_needs_no_inline_script() {
    let test = TestApp::new().await;
    let document = test.get("/api/openapi.json", "").await.json();
    assert_eq!(
        document["paths"]["/api/v1/auth/login"]["post"]["operationId"],
        "login"
    );
    assert!(document["components"]["schemas"]["Problem"].is_object());
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            assert!(operation["operationId"].is_string(), "{method} {path}");
            assert!(
                operation["responses"]["default"].is_object()
                    || operation["responses"]["500"].is_object(),
                "{method} {path}"
            );
            assert!(operation["security"].is_array(), "{method} {path}");
        }
    }
    let page = test.get("/api/docs/", "").await;
    assert_eq!(page.status, StatusCode::OK);
    let html = String::from_utf8_lossy(&page.body).into_owned();
    for script in html.split("<script").skip(1) {
        assert!(script.contains("src="), "inline script: {script}");
        let path = script
            .split("src=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let path = path.expect("quoted").trim_start_matches("./");
        assert_eq!(
            test.get(&format!("/api/docs/{path}"), "").await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    assert!(!html.contains("onload=") && !html.contains("http://") && !html.contains("https://"));
    let start = test.get("/api/docs/swagger-initializer.js", "").await;
    assert!(String::from_utf8_lossy(&start.body).contains("/api/openapi.json"));
}

#[tokio::test]
async fn the_schema_of_problems_is_the_problem() {
    let problem = shared::wire::problem::Problem {
        kind: String::new(),
        title: String::new(),
        status: 1,
        detail: String::new(),
        code: String::new(),
        request_id: String::new(),
        errors: vec![shared::wire::problem::FieldError {
            pointer: String::new(),
            message: String::new(),
        }],
        recover: None,
    };
    let sent = serde_json::to_value(problem).expect("json");
    let document = crate::router::openapi();
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().expect("object").keys().cloned().collect()
    };
    let schemas = &document["components"]["schemas"];
    assert_eq!(keys(&schemas["Problem"]["properties"]), keys(&sent));
    assert_eq!(
        keys(&schemas["FieldError"]["properties"]),
        keys(&sent["errors"][0])
    );
}

#[tokio::test]
async fn health_tells_what_works() {
    let test = TestApp::new().await;
    let lifecycle = test.start_tasks();
    assert_eq!(test.get("/healthz", "").await.status, StatusCode::OK);
    let ready = test.get("/readyz", "").await;
    assert_eq!(
        (ready.status, ready.json()["database"].clone()),
        (StatusCode::OK, json!("ok"))
    );
    let tasks = ready.json()["tasks"].clone();
    let mut names = tasks.as_array().expect("tasks").iter();
    assert!(names.any(|task| task["task"] == "event_relay"), "{tasks}");
    lifecycle.stop().await.expect("in good order");
    let stopping = test.get("/readyz", "").await;
    assert_eq!(stopping.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn metrics_are_for_this_machine_and_the_cron_token() {
    crate::telemetry::metrics::init();
    let test = TestApp::new().await;
    assert_eq!(
        test.get("/metrics", "").await.status,
        StatusCode::UNAUTHORIZED
    );
    let text = test.get("/metrics", CRON_TOKEN).await;
    assert_eq!(text.status, StatusCode::OK);
    let again = test.get("/metrics", CRON_TOKEN).await;
    assert!(String::from_utf8_lossy(&again.body).contains("http_requests_total"));
    let from = |peer: [u8; 4], forwarded: bool| {
        let mut request = request("GET", "/metrics", "", &Value::Null);
        let peer = std::net::SocketAddr::from((peer, 1));
        request
            .extensions_mut()
            .insert(axum::extract::ConnectInfo(peer));
        if forwarded {
            request
                .headers_mut()
                .insert("x-forwarded-for", "9.9.9.9".parse().expect("header"));
        }
        request
    };
    assert_eq!(
        test.send(from([127, 0, 0, 1], false)).await.status,
        StatusCode::OK
    );
    assert_eq!(
        test.send(from([127, 0, 0, 1], true)).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        test.send(from([10, 0, 0, 1], false)).await.status,
        StatusCode::UNAUTHORIZED
    );
}
