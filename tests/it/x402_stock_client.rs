//! Our 402 and our checks against the official client, without the market around them: does it understand our terms
//! in both versions, and do we accept what it signs?

#![expect(clippy::unwrap_used, reason = "tests panic when something is wrong")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use coordinator::domain::payments::x402_http;
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    money::Amount,
    x402::{
        exact, header,
        network::{BASE_SEPOLIA, BASE_SEPOLIA_USDC},
        signature::PayerKey,
        terms::{Resource, Terms},
    },
};
use system_tests::stock_client;

/// The second account of the well-known development mnemonic: worthless by design.
const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

struct Shop {
    terms: Terms,
    /// Offer version 1 only, as an old server would.
    only_v1: bool,
    paid_requests: AtomicUsize,
}

struct Running {
    url: String,
    shop: Arc<Shop>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn shop(price_atomic: i64, only_v1: bool) -> Running {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let url = format!("http://{address}/api/v1/rentals");
    let shop = Arc::new(Shop {
        terms: terms(price_atomic, &url),
        only_v1,
        paid_requests: AtomicUsize::new(0),
    });
    let router = Router::new()
        .route("/api/v1/rentals", post(rent))
        .with_state(Arc::clone(&shop));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Running { url, shop, server }
}

fn terms(price_atomic: i64, url: &str) -> Terms {
    Terms {
        network: &BASE_SEPOLIA,
        asset: BASE_SEPOLIA_USDC,
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
            .parse()
            .unwrap(),
        amount: Amount::from_atomic(price_atomic).unwrap(),
        max_timeout_s: 300,
        resource: Resource {
            url: url.to_owned(),
            description: "256 MiB for 1 h (play money)".into(),
            mime_type: "application/json".into(),
        },
    }
}

async fn rent(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Response {
    let payment = match x402_http::presented(&headers) {
        Ok(Some(payment)) => payment,
        Ok(None) => return ask(&shop, "payment required"),
        Err(error) => return ask(&shop, &error.to_string()),
    };
    shop.paid_requests.fetch_add(1, Ordering::SeqCst);
    match exact::check(&shop.terms, &payment, SystemClock.now()) {
        Ok(verified) => {
            let payer = verified.identity.payer;
            let receipt = x402_http::settled(shop.terms.network, "0xfeed", &payer);
            let body: Value = serde_json::from_slice(&body).unwrap();
            let answer = json!({"version": payment.version(), "payer": payer, "asked": body});
            (StatusCode::CREATED, receipt, Json(answer)).into_response()
        }
        Err(reject) => ask(&shop, reject.code()),
    }
}

fn ask(shop: &Shop, error: &str) -> Response {
    let mut parts = x402_http::payment_required(&shop.terms, error, &Default::default());
    if shop.only_v1 {
        parts.headers.remove(header::PAYMENT_REQUIRED);
    }
    (
        StatusCode::PAYMENT_REQUIRED,
        parts.headers,
        Json(parts.body),
    )
        .into_response()
}

async fn pays(only_v1: bool, version: i64, network: &str) {
    let shop = shop(10_000, only_v1).await;
    let asked = json!({"image": "busybox:latest", "pay_with": "x402"});
    let answer = stock_client::pay(&shop.url, Some(&asked), KEY)
        .await
        .unwrap();
    let payer = PayerKey::from_hex(KEY).unwrap().address().to_string();
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(
        answer.body,
        json!({"version": version, "payer": payer, "asked": asked})
    );
    assert_eq!(answer.payer, payer);
    assert_eq!(
        answer.receipt,
        json!({"success": true, "transaction": "0xfeed", "network": network, "payer": payer})
    );
    assert_eq!(shop.shop.paid_requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_official_client_pays_our_402_and_passes_our_checks() {
    pays(false, 2, "eip155:84532").await;
}

#[tokio::test]
async fn it_pays_by_the_v1_body_alone_too() {
    // the receipt that it takes first is always the v2 one
    pays(true, 1, "eip155:84532").await;
}

#[tokio::test]
async fn by_default_it_pays_one_usd_and_no_more() {
    let dear = shop(1_000_001, false).await;
    let refusal = stock_client::pay(&dear.url, Some(&json!({})), KEY)
        .await
        .unwrap_err();
    assert!(
        refusal.to_string().to_lowercase().contains("spend"),
        "{refusal:#}"
    );
    assert_eq!(dear.shop.paid_requests.load(Ordering::SeqCst), 0);
    let just = shop(1_000_000, false).await;
    let answer = stock_client::pay(&just.url, Some(&json!({})), KEY)
        .await
        .unwrap();
    assert_eq!(answer.status, 201);
}
