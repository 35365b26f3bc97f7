//! A wallet without an account rents, loses its token, and comes back by the official client of sign-in-with-x.

use serde_json::{Value, json};
use shared::x402::header;
use system_tests::{market::Store, payer::Payer, stage::Stage, stock_client};

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_comes_back_to_its_rental_by_the_official_client() {
    let stage = Stage::set(Store::Sqlite).await;
    let api = stage.market.api();
    let order = stage.order(&["sleep", "600"], 600);

    // what the official checks think of what our terms say besides
    let asked = api.post("/rentals", &order).await;
    assert_eq!(asked.status, 402, "{}", asked.body);
    let terms = asked.header(header::PAYMENT_REQUIRED).expect("terms");
    let terms: Value = header::decode(terms.as_bytes()).expect("terms");
    let verdict = stock_client::judge_extensions(&terms).await;
    let verdict = verdict.expect("the official client judges");
    assert_eq!(
        verdict,
        json!({"bazaar": true, "errors": [], "named": true})
    );

    let payer = Payer::new();
    let rented = payer.rent(&api, &order).await;
    rented.until("running").await;
    let id = &rented.id;
    let path = format!("/rentals/{id}");
    let stop = format!("{path}/stop");
    let token = format!("{path}/token");
    let asks = [
        ("GET", "/rentals"),
        ("GET", path.as_str()),
        ("POST", token.as_str()),
        ("GET", "/balance"),
        ("POST", stop.as_str()),
    ];
    let answers = stock_client::come_back(&api.url(""), &asks, payer.key_hex()).await;
    let answers = answers.expect("the official client comes back");
    let statuses: Vec<u64> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 201, 403, 200], "{answers:?}");
    assert_eq!(answers[0].1["items"][0]["id"], json!(id));
    assert_eq!(answers[2].1["rental_token"], json!(rented.api.token()));

    // another wallet finds nothing
    let other = Payer::new();
    let asks = [("GET", "/rentals"), ("GET", path.as_str())];
    let answers = stock_client::come_back(&api.url(""), &asks, other.key_hex()).await;
    let answers = answers.expect("the official client asks");
    assert_eq!((answers[0].0, &answers[0].1["items"]), (200, &json!([])));
    assert_eq!(answers[1].0, 404, "{answers:?}");
    stage.until_no_container_is_left().await;
}
