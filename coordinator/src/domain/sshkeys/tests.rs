//! Keys through the router: added once, bounded, removed by their person; a rental's own, given with its order and replaced.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::id::RentalId;

use super::model::{Opener, PublicKey, RENTAL_KEYS_MAX};
use crate::testing::{Answer, TestApp, market::Market, on_both_stores, payer::Payer, request};

const KEYS: &str = "/api/v1/ssh-keys";

on_both_stores!(
    a_key_opens_what_its_person_rents_until_it_is_removed,
    a_rental_has_the_keys_of_its_order_until_they_are_replaced
);

/// A key of its own for each number.
fn line(number: u32) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend(number.to_be_bytes().repeat(8));
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

fn code(answer: &Answer) -> (u16, String) {
    let code = answer.json()["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status.as_u16(), code)
}

async fn add(test: &TestApp, token: &str, number: u32) -> Answer {
    let body = json!({"public_key": format!("{} key {number}", line(number))});
    test.post(KEYS, token, &body).await
}

async fn opener(test: &TestApp, rental: RentalId, number: u32) -> Option<Opener> {
    let key = PublicKey::parse(&line(number)).expect("a key");
    let asked = test.app.db.read("test.opener", move |tx| {
        let owner = crate::domain::rentals::find(tx, rental)?.consumer;
        super::opener(tx, rental, owner, &key)
    });
    asked.await.expect("read")
}

async fn a_key_opens_what_its_person_rents_until_it_is_removed(test: TestApp) {
    let market = Market::open(test).await;
    let test = &market.test;
    let ada = test.signup("ada@example.org", &["consumer"]).await;
    let bought = Payer::numbered(1)
        .buy(test, "/api/v1/rentals", &ada, &market.order(600))
        .await;
    let rental: RentalId = bought.json()["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("an id");
    let made = add(test, &ada, 1).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.json()["name"], "key 1");
    assert_eq!(
        code(&add(test, &ada, 1).await),
        (409, "ssh_key_exists".to_owned())
    );
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    assert!(matches!(
        opener(test, rental, 1).await,
        Some(Opener::Account(_))
    ));
    assert_eq!(opener(test, rental, 2).await, None);
    // another's key opens nothing here, though it is the same one
    let eve = test.signup("eve@example.org", &["consumer"]).await;
    assert_eq!(add(test, &eve, 2).await.status, StatusCode::CREATED);
    assert_eq!(opener(test, rental, 2).await, None);
    let end = async |token: &str| {
        let path = format!("{KEYS}/{id}");
        test.send(request("DELETE", &path, token, &Value::Null))
            .await
            .status
    };
    assert_eq!(end(&eve).await, StatusCode::NOT_FOUND);
    assert_eq!(end(&ada).await, StatusCode::NO_CONTENT);
    assert_eq!(end(&ada).await, StatusCode::NOT_FOUND);
    assert_eq!(opener(test, rental, 1).await, None);
    assert_eq!(test.get(KEYS, &ada).await.json()["items"], json!([]));
}

async fn a_rental_has_the_keys_of_its_order_until_they_are_replaced(test: TestApp) {
    let market = Market::open(test).await;
    let test = &market.test;
    let mut order = market.order(600);
    order["ssh_keys"] = json!([line(1), line(2)]);
    let bought = Payer::numbered(1)
        .buy(test, "/api/v1/rentals", "", &order)
        .await;
    assert_eq!(bought.status, StatusCode::CREATED, "{bought:?}");
    let body = bought.json();
    let token = body["rental_token"].as_str().expect("a token").to_owned();
    let rental: RentalId = body["id"].as_str().expect("an id").parse().expect("an id");
    assert_eq!(opener(test, rental, 2).await, Some(Opener::Rental));
    let path = format!("/api/v1/rentals/{rental}/ssh-keys");
    let shown = test.get(&path, &token).await.json();
    assert_eq!(shown["items"][0]["public_key"], line(1));
    assert_eq!(shown["items"].as_array().expect("keys").len(), 2);
    let put = async |body: &Value| test.send(request("PUT", &path, &token, body)).await;
    let replaced = put(&json!({"ssh_keys": [line(3)]})).await;
    assert_eq!(replaced.status, StatusCode::OK, "{replaced:?}");
    assert_eq!(opener(test, rental, 1).await, None);
    assert_eq!(opener(test, rental, 3).await, Some(Opener::Rental));
    let many: Vec<String> = (0..=RENTAL_KEYS_MAX)
        .map(|n| line(u32::try_from(n).expect("few")))
        .collect();
    for bad in [
        json!({"ssh_keys": many}),
        json!({"ssh_keys": ["ssh-rsa AAAA"]}),
    ] {
        assert_eq!(put(&bad).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(
        opener(test, rental, 3).await,
        Some(Opener::Rental),
        "as before"
    );
    assert_eq!(put(&json!({"ssh_keys": []})).await.status, StatusCode::OK);
    assert_eq!(opener(test, rental, 3).await, None);
}

#[tokio::test]
async fn an_account_has_a_bounded_number_of_keys() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    for number in 0..50 {
        let made = add(&test, &ada, number).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    }
    assert_eq!(
        code(&add(&test, &ada, 50).await),
        (409, "too_many_ssh_keys".to_owned())
    );
}
