//! The coordinator dies for real at every step of a payment, on a real chain: each payment moves once and is credited once.
//!
//! A debug build aborts at the place that `DIE_AT` names (`coordinator/src/crash.rs`). All die first, one after the other; then one coordinator
//! takes up what they left, which for those that had asked for the money is after the time in which another would have finished.

use std::time::Duration;

use system_tests::{
    api,
    books::check,
    chain::{Chain, PAYEE},
    market::Store,
    payer::{self, Payer},
    stage::Stage,
    wait,
};

const PRICE_ATOMIC: i64 = 156_000;
/// Who may still be at work on a payment is left alone with it for 75 s.
const UNTIL_PAID: Duration = Duration::from_secs(240);

/// Each crash point of a payment, in the order in which a payment passes them.
const PLACES: [&str; 12] = [
    "payment.receive:before",
    "payment.receive:after",
    "facilitator.verify:before",
    "facilitator.verify:after",
    "payment.advance:before",
    "payment.advance:after",
    "facilitator.settle:before",
    "facilitator.settle:after",
    "chain.look:before",
    "chain.look:after",
    "payment.credit:before",
    "payment.credit:after",
];

#[tokio::test(flavor = "multi_thread")]
async fn it_dies_at_each_step_of_a_payment() {
    let chain = Chain::start().await;
    let mut stage = Stage::with(Store::Sqlite, &chain.settings()).await;
    let order = stage.order(&["sleep", "600"], 600);
    let mut paying = Vec::new();
    for place in PLACES {
        let payer = Payer::new();
        chain.mint(&payer.address(), PRICE_ATOMIC).await;
        stage.market.restart_to_die_at(place).await;
        let api = stage.market.api();
        // a coordinator that was started anew rents nothing of a node that it hasn't heard yet
        let asked = wait::until("the node takes rentals", || async {
            let asked = api.post("/rentals", &order).await;
            (asked.status != 409).then_some(asked)
        })
        .await;
        let payment = payer.sign(&asked);
        let sent = api::try_send(payer::paid(&api, "/rentals", &order, &payment)).await;
        assert!(
            sent.is_err(),
            "{place}: it lived: {:?}",
            sent.map(|it| it.body)
        );
        stage.market.until_dead().await;
        paying.push((place, payer, payment));
    }
    stage.market.restart().await;
    let api = stage.market.api();
    let mut rented = Vec::new();
    for (place, payer, payment) in &paying {
        let answer = wait::until_within(UNTIL_PAID, &format!("{place}: paid"), || async {
            let answer = payer::send(&api, "/rentals", &order, payment).await;
            assert!(
                [201, 202, 409].contains(&answer.status),
                "{place}: {} {}",
                answer.status,
                answer.body
            );
            (answer.status == 201).then_some(answer.body)
        })
        .await;
        let again = payer::send(&api, "/rentals", &order, payment).await;
        assert_eq!(again.is(201)["id"], answer["id"], "{place}");
        assert_eq!(chain.balance(&payer.address()).await, 0, "{place}");
        rented.push(answer);
    }
    let transfers = chain.transfers_to(PAYEE).await;
    assert_eq!(transfers.len(), PLACES.len(), "{transfers:?}");
    let paid = PRICE_ATOMIC * i64::try_from(PLACES.len()).expect("a number");
    assert_eq!(chain.balance(PAYEE).await, paid);
    check(&stage.market);
    for view in rented {
        let mine = api.bearing(view["rental_token"].as_str().expect("a token"));
        let stop = format!("/rentals/{}/stop", view["id"].as_str().expect("an id"));
        mine.post(&stop, &serde_json::json!({})).await.is(200);
    }
    stage.until_no_container_is_left().await;
    check(&stage.market);
}
