//! The coordinator dies for real at every step of a payment and of a payout, on a real chain: each moves once and is booked once.
//!
//! A debug build aborts at the place that `DIE_AT` names (`coordinator/src/crash.rs`). All die first, one after the other; then one coordinator
//! takes up what they left. Whoever may still be at work is left alone for 75 s: that nobody takes up the others' before all have died, and
//! that this time is over then, is written into the database while no coordinator runs.

use std::{fs, os::unix::fs::PermissionsExt as _};

use coordinator::store::testing::TempDir;
use serde_json::{Value, json};
use system_tests::{
    api::{self, Api},
    books::{atomic, check},
    chain::{Chain, PAYEE, PAYEE_KEY, Transfer},
    market::{Market, Store},
    payer::{self, Payer},
    people,
    stage::Stage,
    wait,
};

const PRICE_ATOMIC: i64 = 156_000;

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
        look_at(&stage.market, "next_try_at + 3600000000");
        paying.push((place, payer, payment));
    }
    look_at(&stage.market, "created_at");
    stage.market.restart().await;
    let api = stage.market.api();
    let mut rented = Vec::new();
    for (place, payer, payment) in &paying {
        let answer = wait::until(&format!("{place}: paid"), || async {
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

/// While no coordinator runs: says when what isn't over is looked at next, an expression of SQL.
fn look_at(market: &Market, when: &str) {
    let file = market.folder().join("market.db");
    let database = rusqlite::Connection::open(file).expect("the database");
    for (table, ends) in [
        ("payments", "'credited', 'rejected', 'expired'"),
        ("payouts", "'paid', 'failed'"),
    ] {
        let sql = format!("UPDATE {table} SET next_try_at = {when} WHERE state NOT IN ({ends})");
        database.execute(&sql, []).expect("it is written");
    }
}

/// Each crash point of a payout that is paid, in the order in which it passes them.
const WAYS_OUT: [&str; 12] = [
    "payout.ask:before",
    "payout.ask:after",
    "payout.begin:before",
    "payout.begin:after",
    "payout.send:before",
    "payout.send:after",
    "payout.look:before",
    "payout.look:after",
    "payout.settle:before",
    "payout.settle:after",
    // of the answer that the chain didn't show it yet
    "payout.unclear:before",
    "payout.unclear:after",
];
/// Of one that goes back.
const WAYS_BACK: [&str; 2] = ["payout.give_up:before", "payout.give_up:after"];
/// What goes out each time, atomic units.
const EACH: i64 = 50;

/// A payout that was asked for, perhaps.
struct Asked {
    place: &'static str,
    address: String,
}

impl Asked {
    /// Asks for it, or again: the place is the idempotency key. Nothing if whoever is asked dies.
    async fn ask(&self, provider: &Api) -> Option<Value> {
        let amount = format!("0.{EACH:06}");
        let body = json!({"amount": {"amount": amount, "currency": "USDC"}});
        let request = provider.request("POST", "/payouts").json(&body);
        let request = request.header("idempotency-key", self.place.replace([':', '.'], "-"));
        let answer = api::try_send(request).await.ok()?;
        Some(answer.is(201))
    }

    /// Asks, each time anew, until it has an end; returns the payout.
    async fn until_over(&self, provider: &Api) -> Value {
        let asked = self.ask(provider).await.expect("nobody dies any more");
        let path = format!("/payouts/{}", asked["id"].as_str().expect("an id"));
        wait::until(&format!("{}: over", self.place), || async {
            let view = provider.get(&path).await.is(200);
            let is_over = view["state"] == "paid" || view["state"] == "failed";
            is_over.then_some(view)
        })
        .await
    }
}

/// A market on the chain whose own wallet pays out; a provider who has earned enough for each way, and is signed in.
async fn earning(chain: &Chain) -> (Stage, TempDir) {
    let folder = TempDir::new();
    let key = folder.path().join("wallet");
    fs::write(&key, PAYEE_KEY).expect("a key file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours alone");
    let mut settings = chain.settings();
    settings.extend([
        ("payouts.key_file", key.to_str().expect("text")),
        ("payouts.address_hold_s", "0"),
        ("payouts.minimum", "0.000001"),
        ("payouts.schedule_s", "0"),
        ("payouts.valid_for_s", "900"),
        ("market.dispute_window_s", "0"),
        ("tasks.payouts_ms", "200"),
    ]);
    let stage = Stage::with(Store::Sqlite, &settings).await;
    let payer = Payer::new();
    chain.mint(&payer.address(), 1_000_000).await;
    let rented = payer
        .rent(&stage.market.api(), &stage.order(&["sleep", "600"], 600))
        .await;
    let path = format!("/rentals/{}", rented.id);
    let ways = i64::try_from(WAYS_OUT.len() + WAYS_BACK.len()).expect("few");
    wait::until("it has cost enough", || async {
        let view = rented.api.get(&path).await.is(200);
        (atomic(&view["cost_so_far"]) > 2 * ways * EACH).then_some(())
    })
    .await;
    let stop = format!("{path}/stop");
    rented.api.post(&stop, &json!({})).await.is(200);
    wait::until("all of it is payable", || async {
        (earned(&stage.provider).await >= ways * EACH).then_some(())
    })
    .await;
    (stage, folder)
}

/// What the provider may have paid out, atomic units.
async fn earned(provider: &Api) -> i64 {
    let view = provider.get("/balance").await.is(200);
    atomic(&view["items"][0]["earned"])
}

#[tokio::test(flavor = "multi_thread")]
async fn it_dies_at_each_step_of_a_payout() {
    let chain = Chain::start().await;
    let (mut stage, _key) = earning(&chain).await;
    let before = earned(&stage.provider).await;
    let mut asked = Vec::new();
    for place in WAYS_OUT {
        if place.starts_with("payout.unclear") {
            // the line breaks before anything is sent
            chain.behave("drop_before").await;
        }
        stage.market.restart_to_die_at(place).await;
        let provider = people::login(&stage.market, "provider").await;
        let address = put_address(&provider).await;
        let one = Asked { place, address };
        one.ask(&provider).await;
        stage.market.until_dead().await;
        look_at(&stage.market, "next_try_at + 3600000000");
        asked.push(one);
    }
    look_at(&stage.market, "created_at");
    stage.market.restart().await;
    let provider = people::login(&stage.market, "provider").await;
    let mut went_to = Vec::new();
    for one in &asked {
        let view = one.until_over(&provider).await;
        assert_eq!(view["state"], "paid", "{}: {view}", one.place);
        let to = view["to"].as_str().expect("an address").to_lowercase();
        // what nobody had heard of is asked for anew, and goes where the provider is paid now
        let is_unheard = one.place == "payout.ask:before";
        assert_eq!(to != one.address.to_lowercase(), is_unheard, "{view}");
        went_to.push(to);
    }
    for to in &went_to {
        let transfers = chain.transfers_to(to).await;
        let expected = went_to.iter().filter(|other| *other == to).count();
        assert_eq!(transfers.len(), expected, "{to}: {transfers:?}");
        let right =
            |it: &Transfer| it.value == EACH.to_string() && it.from.eq_ignore_ascii_case(PAYEE);
        assert!(transfers.iter().all(right), "{to}: {transfers:?}");
    }
    let paid = i64::try_from(asked.len()).expect("few") * EACH;
    assert_eq!(earned(&provider).await, before - paid);
    check(&stage.market);
    it_dies_giving_back(&chain, &mut stage).await;
    assert_eq!(earned(&stage.provider).await, before - paid, "all is back");
    check(&stage.market);
}

/// On a chain whose time is far ahead, nothing that we sign can be taken: it dies before the money is given back and, started again, after.
async fn it_dies_giving_back(chain: &Chain, stage: &mut Stage) {
    chain.pass_s(7_200).await;
    let [before, after] = WAYS_BACK;
    stage.market.restart_to_die_at(before).await;
    let provider = people::login(&stage.market, "provider").await;
    let one = Asked {
        place: before,
        address: put_address(&provider).await,
    };
    one.ask(&provider).await.expect("it lives until then");
    stage.market.until_dead().await;
    look_at(&stage.market, "created_at");
    stage.market.relaunch_to_die_at(after);
    stage.market.until_dead().await;
    stage.market.restart().await;
    stage.provider = people::login(&stage.market, "provider").await;
    let view = one.until_over(&stage.provider).await;
    assert_eq!(view["state"], "failed", "{view}");
    assert_eq!(chain.transfers_to(&one.address).await, []);
}

/// Has the provider paid at a new address; returns it.
async fn put_address(provider: &Api) -> String {
    let address = Payer::new().address();
    let put = provider.request("PUT", "/payout-address");
    let put = put.json(&json!({ "address": address }));
    api::send(put).await.is(200);
    address
}
