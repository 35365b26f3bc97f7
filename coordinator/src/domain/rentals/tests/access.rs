//! What isn't yours doesn't exist: rentals, nodes, offers and payments of others.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::testing::{
    TestApp,
    market::{Market, rental_of},
    request,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_yours_does_not_exist() {
    let market = Market::open(TestApp::new().await).await;
    let test = &market.test;
    let consumer = test.signup("consumer@example.org", &["consumer"]).await;
    let stranger = test
        .signup("stranger@example.org", &["consumer", "provider"])
        .await;
    let mut payer = crate::testing::payer::Payer::numbered(5);
    let bought = payer
        .buy(test, "/api/v1/rentals", &consumer, &market.order(600))
        .await;
    let id = rental_of(&bought);
    let payments = test.app.db.read("test.payment", move |tx| {
        crate::domain::payments::of_rental(tx, id)
    });
    let payment = payments.await.expect("read").expect("there is one").id;
    let rental = format!("/api/v1/rentals/{id}");
    let node = format!("/api/v1/nodes/{}", market.node.id);
    let offer = format!("/api/v1/offers/{}", market.offer);
    let none = Value::Null;
    let more = json!({"duration_seconds": 600});
    let cases = [
        ("GET", rental.clone(), none.clone()),
        ("DELETE", rental.clone(), none.clone()),
        ("POST", format!("{rental}/stop"), none.clone()),
        ("POST", format!("{rental}/extend"), more),
        ("GET", format!("{rental}/usage"), none.clone()),
        ("GET", format!("{rental}/receipts"), none.clone()),
        ("GET", format!("{rental}/events"), none.clone()),
        (
            "POST",
            "/api/v1/payments/settle".to_owned(),
            json!({"rental_id": id}),
        ),
        ("GET", format!("/api/v1/payments/{payment}"), none.clone()),
        ("GET", node.clone(), none.clone()),
        ("PATCH", node.clone(), json!({"name": "mine"})),
        ("DELETE", node.clone(), none.clone()),
        ("POST", format!("{node}/cordon"), none.clone()),
        ("POST", format!("{node}/uncordon"), none.clone()),
        ("POST", format!("{node}/drain"), none.clone()),
        ("PUT", format!("{node}/maintenance"), json!({"windows": []})),
        ("PATCH", offer.clone(), json!({"state": "paused"})),
        ("DELETE", offer, none.clone()),
        (
            "POST",
            "/api/v1/offers".to_owned(),
            json!({"node_id": market.node.id, "prices": {"ram_gib_hour": "1", "cpu_hour": "0"}}),
        ),
    ];
    for (method, path, body) in &cases {
        let answer = test.send(request(method, path, &stranger, body)).await;
        assert_eq!(
            answer.status,
            StatusCode::NOT_FOUND,
            "{method} {path}: {answer:?}"
        );
    }
    // a provider sees the rental on their node, but doesn't pay for it or stop it as its consumer
    assert_eq!(test.get(&rental, &market.provider).await.status, 200);
    let extend = format!("{rental}/extend");
    let more = json!({"duration_seconds": 600});
    let answer = test.post(&extend, &market.provider, &more).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    // the token of another rental opens nothing
    let other = payer
        .buy(test, "/api/v1/rentals", "", &market.order(600))
        .await;
    let token = other.json()["rental_token"].as_str().map(str::to_owned);
    let token = token.expect("a token");
    assert_eq!(test.get(&rental, &token).await.status, 404);
    let own = format!("/api/v1/rentals/{}", rental_of(&other));
    assert_eq!(test.get(&own, &token).await.status, 200);
    // whoever says nothing of themselves is asked first, whether it exists or not
    assert_eq!(test.get(&own, "").await.status, 401);
    assert_eq!(test.get(&rental, &consumer).await.status, 200);
    for list in ["/api/v1/rentals", "/api/v1/nodes"] {
        let listed = test.get(list, &stranger).await.json();
        assert_eq!(listed["items"], json!([]), "{list}");
    }
}
