//! What isn't money, or isn't a payment, is refused wherever money is taken, and leaves nothing behind.

mod money_out;
mod version_1;

use axum::http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use shared::x402::header;

use super::payments::RENT;
use crate::testing::{
    TestApp,
    dump::{changed, dump},
    market::Market,
    payer::{Payer, paid},
    request,
};

/// Amounts that aren't one.
fn not_money() -> Vec<Value> {
    let texts = [
        "-1",
        "+1",
        "-0",
        "",
        " ",
        " 1",
        "1 ",
        "1.",
        ".5",
        "1.0000001",
        "0.00000000000000000001",
        "1e3",
        "1E3",
        "0x10",
        "1,5",
        "1_000",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "1.2.3",
        "١",
        "１",
        "𝟏",
        "½",
        "1\u{200b}",
        "$1",
        "1 USDC",
        "9223372036854.775808",
        "9223372036854775808",
        "99999999999999999999999999",
    ];
    let mut all: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    all.extend([
        json!(1),
        json!(1.5),
        json!(-1),
        json!(null),
        json!(true),
        json!([]),
        json!(["1"]),
        json!({}),
        json!({"amount": "1"}),
    ]);
    all
}

/// Everything that can be said of a sum, most of it wrong.
fn not_sums() -> Vec<Value> {
    let mut all: Vec<Value> = not_money()
        .into_iter()
        .map(|amount| json!({"amount": amount, "currency": "USDC"}))
        .collect();
    for currency in [
        "usdc",
        "USD",
        "EUR",
        "BTC",
        "",
        " USDC",
        "USDC ",
        "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    ] {
        all.push(json!({"amount": "1", "currency": currency}));
    }
    all.extend([
        json!({"amount": "1"}),
        json!({"currency": "USDC"}),
        json!({"amount": "1", "currency": 840}),
        json!({"amount": "1", "currency": null}),
        json!({"amount": "1", "currency": "USDC", "more": 1}),
        json!("1"),
        json!(1),
        json!(null),
        json!([]),
    ]);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_money_is_refused_wherever_money_is_taken() {
    let market = Market::open(TestApp::new().await).await;
    let test = &market.test;
    let ada = test.signup("ada@example.org", &["consumer"]).await;
    let fill = |amount: &Value, source: &str| json!({"amount": amount, "source": source});
    let rent = |most: &Value, how: &str| {
        let mut order = market.order(600);
        order["max_spend"] = most.clone();
        order["pay_with"] = json!(how);
        order
    };
    let offer = |price: &Value, which: &str| {
        let mut prices = json!({"ram_gib_hour": "0.002", "cpu_hour": "0"});
        prices[which] = price.clone();
        json!({"node_id": market.node.id, "prices": prices})
    };
    let mut wrong: Vec<(&str, String, String, Value)> = Vec::new();
    let mut add = |method, path: &str, token: &str, body| {
        wrong.push((method, path.to_owned(), token.to_owned(), body));
    };
    let of_offer = format!("/api/v1/offers/{}", market.offer);
    for sum in not_sums() {
        add("POST", "/api/v1/balance/topups", &ada, fill(&sum, "x402"));
        add(
            "POST",
            "/api/v1/balance/topups",
            &ada,
            fill(&sum, "sandbox"),
        );
        // without a limit is fine
        if !sum.is_null() {
            add("POST", RENT, "", rent(&sum, "x402"));
            add("POST", RENT, &ada, rent(&sum, "balance"));
        }
    }
    for zero in ["0", "0.0", "0.000000"] {
        let zero = json!({"amount": zero, "currency": "USDC"});
        add("POST", "/api/v1/balance/topups", &ada, fill(&zero, "x402"));
        add(
            "POST",
            "/api/v1/balance/topups",
            &ada,
            fill(&zero, "sandbox"),
        );
    }
    for price in not_money() {
        for which in ["ram_gib_hour", "cpu_hour"] {
            let body = offer(&price, which);
            add(
                "PATCH",
                &of_offer,
                &market.provider,
                json!({"prices": body["prices"]}),
            );
            add("POST", "/api/v1/offers", &market.provider, body);
        }
        if !price.is_null() {
            let mut order = market.order(600);
            order["offer_id"] = Value::Null;
            order["requirements"] = json!({"price_max": price});
            add("POST", RENT, "", order);
        }
    }
    let before = dump(&test.app.db, &[]).await;
    for (number, (method, path, token, body)) in wrong.iter().enumerate() {
        let mut request = request(method, path, token, body);
        let key = HeaderValue::try_from(format!("key-{number}")).expect("a key");
        request.headers_mut().insert("idempotency-key", key);
        let answer = test.send(request).await;
        let code = answer.json()["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let clear = matches!(
            (answer.status, code.as_str()),
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid" | "amount_out_of_range"
            )
        );
        assert!(clear, "{method} {path} {body}: {answer:?}");
    }
    let after = dump(&test.app.db, &[]).await;
    assert_eq!(changed(&before, &after), Vec::<String>::new());
}

/// Each way in which a payment isn't what was asked for.
fn wrong_payments() -> Vec<(&'static str, Value)> {
    let signed = "/payload/authorization";
    let mut all = Vec::new();
    for value in [
        "-84",
        "0",
        "83",
        "85",
        "84.0",
        "8.4e1",
        "0x54",
        "",
        "NaN",
        "８４",
        "340282366920938463463374607431768211540",
    ] {
        all.push(("/payload/authorization/value", json!(value)));
        all.push(("/accepted/amount", json!(value)));
    }
    for value in [
        json!(84),
        json!(84.0),
        json!(null),
        json!(["84"]),
        json!({}),
    ] {
        all.push(("/payload/authorization/value", value.clone()));
        all.push(("/accepted/amount", value));
    }
    for network in [
        "eip155:8453",
        "eip155:1",
        "base-sepolia",
        "eip155:84532 ",
        "solana:1",
        "",
    ] {
        all.push(("/accepted/network", json!(network)));
    }
    for asset in [
        "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "0x0000000000000000000000000000000000000000",
        "USDC",
        "",
    ] {
        all.push(("/accepted/asset", json!(asset)));
    }
    for (path, value) in [
        (
            "/accepted/payTo",
            json!("0x1111111111111111111111111111111111111111"),
        ),
        ("/accepted/scheme", json!("upto")),
        ("/accepted/maxTimeoutSeconds", json!(301)),
        ("/accepted/maxTimeoutSeconds", json!("300")),
        ("/accepted/extra", json!(null)),
        ("/accepted", json!(null)),
        ("/accepted", json!([])),
        ("/x402Version", json!(3)),
        ("/x402Version", json!("2")),
        ("/payload/signature", json!("0x")),
        ("/payload/signature", json!(1)),
        (
            "/payload/authorization/to",
            json!("0x1111111111111111111111111111111111111111"),
        ),
        (
            "/payload/authorization/from",
            json!("0x1111111111111111111111111111111111111111"),
        ),
        ("/payload/authorization/nonce", json!("0x01")),
        ("/payload/authorization/validBefore", json!("1")),
        ("/payload/authorization/validBefore", json!("99999999999")),
        ("/payload/authorization/validAfter", json!("1900000000")),
        ("/payload", json!("84")),
        (signed, json!([])),
    ] {
        all.push((path, value));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_of_another_kind_is_refused_and_leaves_nothing() {
    let often = TestApp::with(|config| config.limits.topups_per_minute = 1_000).await;
    let market = Market::open(often).await;
    let test = &market.test;
    let ada = test.signup("ada@example.org", &["consumer"]).await;
    // both cost 84 units
    let fill = json!({"amount": {"amount": "0.000084", "currency": "USDC"}});
    for (wallet, path, token, body) in [
        (1, RENT, "", market.order(600)),
        (2, "/api/v1/balance/topups", ada.as_str(), fill),
    ] {
        let asked = test.post(path, token, &body).await;
        let signed = Payer::numbered(wallet).sign(&asked, test);
        let good: Value = header::decode(signed.header_v2.as_bytes()).expect("our own");
        assert_eq!(good["accepted"]["amount"], "84");
        // each answer is a 402 with terms, which are a row; besides there is nothing
        let before = dump(&test.app.db, &["quotes"]).await;
        for (place, value) in wrong_payments() {
            let mut wrong = good.clone();
            *wrong.pointer_mut(place).expect("it is there") = value.clone();
            let answer = test
                .send(paid(path, token, &body, &header::encode(&wrong)))
                .await;
            assert_eq!(
                answer.status,
                StatusCode::PAYMENT_REQUIRED,
                "{place} {value}: {answer:?}"
            );
            let why = answer.json()["error"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            assert!(
                why.len() > 10 && why != "payment required",
                "{place} {value}: {why}"
            );
        }
        let after = dump(&test.app.db, &["quotes"]).await;
        assert_eq!(changed(&before, &after), Vec::<String>::new());
        let taken = test.send(paid(path, token, &body, &signed.header_v2)).await;
        assert_eq!(taken.status, StatusCode::CREATED, "{taken:?}");
    }
}
