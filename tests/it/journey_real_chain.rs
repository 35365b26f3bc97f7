//! Paid for real: an EVM chain with a token, the official facilitator, the official client. What the chain shows is what the books say.

use serde_json::json;
use system_tests::{
    MIB, api,
    books::{adds_up, atomic, check},
    chain::{Chain, PAYEE},
    market::Store,
    payer::{Payer, send},
    people,
    stage::Stage,
    stock_client, wait,
};

const PRICE_ATOMIC: i64 = 156_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_pays_on_the_chain() {
    let chain = Chain::start().await;
    let stage = Stage::with(Store::Sqlite, &chain.settings()).await;
    let api = stage.market.api();
    let ready = wait::until("the facilitator was asked what it can", || async {
        let url = format!("{}/readyz", stage.market.url());
        let ready = api::send(api::http_client().get(url)).await.is(200);
        let found = ready["tasks"].to_string().contains(r#""supported":"yes""#);
        found.then_some(ready)
    })
    .await;
    assert_eq!(ready["status"], "ready");
    // the token's contract was asked for its domain, and signs by the one that the terms name
    assert!(
        ready["tasks"].to_string().contains(r#""domain":"same""#),
        "{ready}"
    );
    assert_eq!(ready["warnings"], json!([]), "{ready}");

    let payer = Payer::new();
    chain.mint(&payer.address(), 1_000_000).await;
    let order = stage.order(&["sleep", "600"], 600);
    let answer = stock_client::pay(&api.url("/rentals"), Some(&order), payer.key_hex()).await;
    let answer = answer.expect("the official client pays");
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(atomic(&answer.body["paid"]), PRICE_ATOMIC);
    let id = answer.body["id"].as_str().expect("an id");
    let mine = api.bearing(answer.body["rental_token"].as_str().expect("a token"));

    // the receipt names the transaction that moved the money
    let transfers = chain.transfers_to(PAYEE).await;
    let [transfer] = &transfers[..] else {
        panic!("not one transfer: {transfers:?}")
    };
    assert_eq!(answer.receipt["transaction"], json!(transfer.transaction));
    assert!(transfer.from.eq_ignore_ascii_case(&payer.address()));
    assert_eq!(chain.balance(PAYEE).await, PRICE_ATOMIC);
    let left = chain.balance(&payer.address()).await;
    assert_eq!(left, 1_000_000 - PRICE_ATOMIC);

    let engine = stage.node.engine();
    wait::until("the container runs", || async {
        engine.of_rental(id).await.filter(|found| found.running)
    })
    .await;
    let path = format!("/rentals/{id}");
    mine.post(&format!("{path}/stop"), &json!({})).await.is(200);
    wait::until("it is settled", || async {
        let view = mine.get(&path).await.is(200);
        (!view["settled_at"].is_null()).then_some(())
    })
    .await;
    let split = mine
        .post("/payments/settle", &json!({"rental_id": id}))
        .await;
    adds_up(&split.is(200));
    check(&stage.market);
}

/// The facilitator's line breaks before or after the money moved, or it says "pending": each payment moves once and is credited once.
#[tokio::test(flavor = "multi_thread")]
async fn doubtful_settlements_end_by_what_the_chain_shows() {
    let chain = Chain::start().await;
    let stage = Stage::with(Store::Sqlite, &chain.settings()).await;
    let api = stage.market.api();
    let order = stage.order(&["sleep", "600"], 600);
    let ways = ["drop_before", "drop_after", "pending"];
    for how in ways {
        let payer = Payer::new();
        chain.mint(&payer.address(), PRICE_ATOMIC).await;
        let payment = payer.ask_and_sign(&api, "/rentals", &order).await;
        chain.behave(how).await;
        let rented = wait::until(&format!("{how}: paid"), || async {
            let answer = send(&api, "/rentals", &order, &payment).await;
            assert!(
                [201, 202].contains(&answer.status),
                "{how}: {}",
                answer.body
            );
            (answer.status == 201).then_some(answer.body)
        })
        .await;
        assert_eq!(chain.balance(&payer.address()).await, 0, "{how}");
        assert_eq!(atomic(&rented["paid"]), PRICE_ATOMIC, "{how}");
        let mine = api.bearing(rented["rental_token"].as_str().expect("a token"));
        let stop = format!("/rentals/{}/stop", rented["id"].as_str().expect("an id"));
        mine.post(&stop, &json!({})).await.is(200);
        stage.until_no_container_is_left().await;
    }
    let transfers = chain.transfers_to(PAYEE).await;
    assert_eq!(transfers.len(), ways.len(), "{transfers:?}");
    check(&stage.market);
}

/// Nobody without money on the chain gets anything, and nothing is left of the try.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_tokens_is_refused() {
    let chain = Chain::start().await;
    let stage = Stage::with(Store::Sqlite, &chain.settings()).await;
    let api = stage.market.api();
    let free_before = stage.node.free_ram_bytes().await;
    let order = stage.order(&["sleep", "600"], 600);
    let refused = Payer::new().pay(&api, "/rentals", &order).await;
    assert_eq!(refused.status, 402, "{}", refused.body);
    assert_eq!(refused.body["code"], "payment_rejected", "{}", refused.body);
    assert!(chain.transfers_to(PAYEE).await.is_empty());
    assert_eq!(stage.node.free_ram_bytes().await, free_before);
    check(&stage.market);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pay_at_once() {
    const PAYERS: usize = 20;
    let chain = Chain::start().await;
    let stage = Stage::with(Store::Sqlite, &chain.settings()).await;
    let api = stage.market.api();
    let mut order = stage.order(&["sleep", "600"], 600);
    order["resources"] = json!({"ram_bytes": 16 * MIB, "cpu_millis": 10});
    let payers: Vec<Payer> = (0..PAYERS).map(|_| Payer::new()).collect();
    let mut payments = Vec::new();
    for payer in &payers {
        chain.mint(&payer.address(), 1_000_000).await;
        payments.push(payer.ask_and_sign(&api, "/rentals", &order).await);
    }
    let paid = payments.iter().map(|payment| {
        let (api, order) = (&api, &order);
        wait::until("it is paid", move || async move {
            let answer = send(api, "/rentals", order, payment).await;
            assert!([201, 202].contains(&answer.status), "{}", answer.body);
            (answer.status == 201).then_some(answer.body)
        })
    });
    let rented = futures_util::future::join_all(paid).await;
    let prices: Vec<i64> = rented.iter().map(|view| atomic(&view["paid"])).collect();
    for (payer, price) in payers.iter().zip(&prices) {
        assert_eq!(chain.balance(&payer.address()).await, 1_000_000 - price);
    }
    assert_eq!(chain.transfers_to(PAYEE).await.len(), PAYERS);
    assert_eq!(chain.balance(PAYEE).await, prices.iter().sum::<i64>());
    let stops = rented.iter().map(|view| {
        let mine = api.bearing(view["rental_token"].as_str().expect("a token"));
        let stop = format!("/rentals/{}/stop", view["id"].as_str().expect("an id"));
        async move { mine.post(&stop, &json!({})).await.is(200) }
    });
    futures_util::future::join_all(stops).await;
    stage.until_no_container_is_left().await;
    check(&stage.market);
}

/// Somebody with an account fills the balance from a wallet, by the official client, and rents from the balance.
#[tokio::test(flavor = "multi_thread")]
async fn a_balance_is_filled_on_the_chain_and_rented_from() {
    let chain = Chain::start().await;
    let stage = Stage::with(Store::Sqlite, &chain.settings()).await;
    let consumer = people::consumer(&stage.market).await;
    let payer = Payer::new();
    chain.mint(&payer.address(), 1_000_000).await;
    let fill = json!({"amount": {"amount": "0.5", "currency": "USDC"}});
    let url = stage.market.api().url("/balance/topups");
    let key = payer.key_hex();
    let filled = stock_client::pay_as(&url, Some(&fill), key, consumer.token()).await;
    let filled = filled.expect("the official client pays");
    assert_eq!(filled.status, 201, "{}", filled.body);
    assert_eq!(atomic(&filled.body["items"][0]["available"]), 500_000);
    let transfers = chain.transfers_to(PAYEE).await;
    let [transfer] = &transfers[..] else {
        panic!("not one transfer: {transfers:?}")
    };
    assert_eq!(filled.receipt["transaction"], json!(transfer.transaction));
    assert_eq!(chain.balance(PAYEE).await, 500_000);
    // play money isn't given where real money is taken
    let play = json!({"amount": fill["amount"], "source": "sandbox"});
    let refused = consumer.post_once("/balance/topups", &play, "play").await;
    refused.refused(409, "sandbox_only");

    let mut order = stage.order(&["sleep", "600"], 600);
    order["pay_with"] = json!("balance");
    let rented = consumer.post_once("/rentals", &order, "rent").await.is(201);
    assert_eq!(atomic(&rented["paid"]), PRICE_ATOMIC);
    let balance = consumer.get("/balance").await.is(200);
    assert_eq!(
        atomic(&balance["items"][0]["available"]),
        500_000 - PRICE_ATOMIC
    );
    let path = format!("/rentals/{}", rented["id"].as_str().expect("an id"));
    consumer
        .post(&format!("{path}/stop"), &json!({}))
        .await
        .is(200);
    wait::until(
        "it is settled, and the rest is on the balance again",
        || async {
            let view = consumer.get(&path).await.is(200);
            (!view["settled_at"].is_null()).then_some(())
        },
    )
    .await;
    stage.until_no_container_is_left().await;
    check(&stage.market);
}
