//! The signed source over real HTTP: what is believed, and all that isn't.

use std::net::SocketAddr;

use axum::{Router, http::HeaderMap, routing::get};
use serde_json::json;
use shared::sign::SigningKey;

use super::*;

fn key() -> SigningKey {
    let pkcs8 = SigningKey::generate_pkcs8().expect("random numbers");
    SigningKey::from_pkcs8(&pkcs8).expect("a key")
}

fn told() -> String {
    json!({"at": "2027-01-15T08:00:00Z", "rates": {"EURC/USDC": "1.25"}}).to_string()
}

fn signed(key: &SigningKey, body: &str) -> String {
    STANDARD.encode(key.sign_raw(body.as_bytes()).as_bytes())
}

/// Serves one answer at `/rates`, and a redirect to it at `/moved`.
async fn server(body: String, signature: Option<String>) -> SocketAddr {
    let answer = move || async move {
        let mut headers = HeaderMap::new();
        if let Some(signature) = signature {
            headers.insert(SIGNATURE, signature.parse().expect("a header value"));
        }
        (headers, body)
    };
    let moved = get(|| async { axum::response::Redirect::temporary("/rates") });
    let routes = Router::new()
        .route("/rates", get(answer))
        .route("/moved", moved);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

async fn fetch(address: SocketAddr, path: &str, key: &SigningKey) -> anyhow::Result<RateTable> {
    let url = format!("http://{address}{path}");
    HttpRates::new(&url, key.public())
        .expect("callable")
        .fetch()
        .await
}

#[tokio::test]
async fn a_signed_answer_is_believed() {
    let key = key();
    let body = told();
    let address = server(body.clone(), Some(signed(&key, &body))).await;
    let table = fetch(address, "/rates", &key).await.expect("believed");
    assert_eq!(
        table.at,
        Timestamp::parse_rfc3339("2027-01-15T08:00:00Z").expect("a time")
    );
    assert_eq!(table.source, "127.0.0.1");
    let euros = table.rate(Asset::USDC, Asset::EURC, 0).expect("told");
    assert_eq!(euros.text(), "0.80000000");
    let moved = fetch(address, "/moved", &key)
        .await
        .expect_err("redirects aren't followed");
    assert!(moved.to_string().contains("307"), "{moved}");
    let other = self::key();
    let wrong = fetch(address, "/rates", &other)
        .await
        .expect_err("another key");
    assert!(wrong.to_string().contains("signed"), "{wrong}");
}

#[tokio::test]
async fn what_is_not_signed_as_it_is_or_not_understood_is_not_believed() {
    let key = key();
    let changed = told().replace("1.25", "9.99");
    let long = format!("{}{}", told(), " ".repeat(BODY_BYTES_MAX));
    let odd = json!({"at": "yesterday", "rates": {}}).to_string();
    let bad = json!({"at": "2027-01-15T08:00:00Z", "rates": {"EURC/USDC": "-1"}}).to_string();
    for (body, signature, why) in [
        (told(), None, "isn't signed"),
        (changed, Some(signed(&key, &told())), "isn't signed by"),
        (told(), Some("%".to_owned()), "can't be read"),
        (long.clone(), Some(signed(&key, &long)), "longer"),
        (odd.clone(), Some(signed(&key, &odd)), "isn't a time"),
        (
            bad.clone(),
            Some(signed(&key, &bad)),
            "a rate isn't understood",
        ),
        ("x".to_owned(), Some(signed(&key, "x")), "isn't understood"),
    ] {
        let address = server(body, signature).await;
        let error = fetch(address, "/rates", &key).await.expect_err(why);
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
}
