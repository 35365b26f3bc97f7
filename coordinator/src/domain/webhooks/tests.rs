//! Tests of webhooks with a real receiver on loopback: what is sent, to whom, how often, and what a crash may repeat.

mod owners;
mod sending;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State as AxumState,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;
use serde_json::{Value, json};
use shared::id::UserId;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    domain::events::{self, Event, Relay},
    tasks::{Task as _, webhook_courier::WebhookCourier, webhooks::Webhooks},
    testing::{Answer, TestApp, request},
};

/// What the receiver got.
#[derive(Debug, Clone)]
struct Heard {
    headers: HeaderMap,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("text")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Whether one of its signatures is by `secret`, checked by the words of the specification.
    fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64
            .decode(secret.strip_prefix("whsec_").expect("a secret"))
            .expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = format!(
            "{}.{}.{}",
            self.header("webhook-id"),
            self.header("webhook-timestamp"),
            self.body
        );
        self.header("webhook-signature").split(' ').any(|one| {
            let mac = one
                .strip_prefix("v1,")
                .and_then(|mac| BASE64.decode(mac).ok())
                .unwrap_or_default();
            hmac::verify(&key, signed.as_bytes(), &mac).is_ok()
        })
    }
}

#[derive(Debug)]
struct Script {
    heard: Mutex<Vec<Heard>>,
    /// Answers in turn, then 204.
    answers: Mutex<VecDeque<(u16, &'static str)>>,
    count: watch::Sender<usize>,
    /// While it is true, no request is answered.
    held: watch::Sender<bool>,
}

/// Somebody's server.
#[derive(Debug, Clone)]
struct Receiver {
    url: String,
    script: Arc<Script>,
}

impl Receiver {
    async fn start() -> Self {
        let script = Arc::new(Script {
            heard: Mutex::default(),
            answers: Mutex::default(),
            count: watch::Sender::new(0),
            held: watch::Sender::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!(
            "http://{}/hook?token=hidden",
            listener.local_addr().expect("bound")
        );
        let router = Router::new().fallback(take).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, script }
    }

    fn answers(&self, answers: &[(u16, &'static str)]) {
        self.script
            .answers
            .lock()
            .expect("unpoisoned")
            .extend(answers);
    }

    fn heard(&self) -> Vec<Heard> {
        self.script.heard.lock().expect("unpoisoned").clone()
    }

    fn last(&self) -> Heard {
        self.heard().last().cloned().expect("something was heard")
    }
}

async fn take(
    AxumState(script): AxumState<Arc<Script>>,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let body = String::from_utf8(body.to_vec()).expect("text");
    script
        .heard
        .lock()
        .expect("unpoisoned")
        .push(Heard { headers, body });
    script.count.send_modify(|count| *count += 1);
    let mut held = script.held.subscribe();
    held.wait_for(|held| !held).await.expect("it is there");
    let next = script.answers.lock().expect("unpoisoned").pop_front();
    match next {
        None => StatusCode::NO_CONTENT.into_response(),
        Some((status, answer)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut response = (status, answer).into_response();
            if let Some(seconds) = answer.strip_prefix("retry after ") {
                let value = seconds.parse().expect("a header");
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
            response
        }
    }
}

async fn id_of(test: &TestApp, token: &str) -> UserId {
    let me = test.get("/api/v1/auth/me", token).await.json();
    me["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("id")
}

/// A token that is good now: those from before expired while the clock was moved.
async fn again(test: &TestApp, email: &str) -> String {
    let body = json!({ "email": email, "password": "a long password" });
    let answer = test.post("/api/v1/auth/login", "", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["access_token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

/// Something happens that concerns somebody.
async fn happens(test: &TestApp, kind: &'static str, whose: UserId) {
    let ctx = test.app.task_context("test");
    let write = test.app.db.write("test", move |tx| {
        let event = Event {
            provider: Some(whose),
            ..Event::new(kind, json!({ "fact": "Zoë" }))
        };
        events::append(tx, &ctx, event)
    });
    write.await.expect("written");
    Relay::default()
        .run(&test.app.db, &test.app.events)
        .await
        .expect("relayed");
}

async fn hand_out(test: &TestApp) -> Value {
    Webhooks(Arc::clone(&test.app))
        .activate()
        .await
        .expect("it runs")
}

async fn send(test: &TestApp) -> Value {
    WebhookCourier(Arc::clone(&test.app))
        .activate()
        .await
        .expect("it runs")
}

async fn deliver(test: &TestApp) -> Value {
    hand_out(test).await;
    send(test).await
}

async fn create(test: &TestApp, token: &str, url: &str, events: &[&str]) -> Value {
    let body = json!({ "url": url, "description": "mine", "events": events });
    let answer = test.post("/api/v1/webhooks", token, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    answer.json()
}

async fn call(test: &TestApp, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    test.send(request(method, path, token, body)).await
}

fn path_of(webhook: &Value) -> String {
    format!("/api/v1/webhooks/{}", webhook["id"].as_str().expect("id"))
}

async fn deliveries(test: &TestApp, token: &str, webhook: &Value) -> Vec<Value> {
    let answer = test
        .get(&format!("{}/deliveries", path_of(webhook)), token)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["items"].as_array().expect("a list").clone()
}
