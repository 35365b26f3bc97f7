//! Money in and out on a real chain: the official client pays, the provider is paid out, the consumer without an account gets back what
//! wasn't used. What the chain shows is what the books say, to the unit.

use std::{fs, os::unix::fs::PermissionsExt as _};

use coordinator::store::testing::TempDir;
use serde_json::{Value, json};
use system_tests::{
    MIB,
    api::{self, Api},
    books::{adds_up, atomic, check},
    chain::{Chain, PAYEE, PAYEE_KEY},
    market::Store,
    payer::{Payer, send},
    people,
    stage::Stage,
    stock_client, wait,
};

/// What each payer has at the beginning.
const FUNDS: i64 = 1_000_000;

/// A market whose own wallet pays out, at once and everything. The folder holds the wallet's key.
async fn open(chain: &Chain) -> (Stage, TempDir) {
    let folder = TempDir::new();
    let key = folder.path().join("wallet");
    fs::write(&key, PAYEE_KEY).expect("a key file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours alone");
    let key = key.to_str().expect("text");
    let mut settings = chain.settings();
    settings.extend([
        ("payouts.key_file", key),
        ("payouts.address_hold_s", "0"),
        ("payouts.minimum", "0.000001"),
        ("payouts.dust", "0.000001"),
        ("payouts.schedule_s", "0"),
        ("market.dispute_window_s", "0"),
        ("tasks.payouts_ms", "200"),
    ]);
    (Stage::with(Store::Sqlite, &settings).await, folder)
}

/// Waits until a rental's container runs and has cost something, and stops it.
async fn use_a_little(stage: &Stage, mine: &Api, id: &str) {
    let engine = stage.node.engine();
    wait::until("the container runs", || async {
        engine.of_rental(id).await.filter(|found| found.running)
    })
    .await;
    let path = format!("/rentals/{id}");
    wait::until("it has cost something", || async {
        let view = mine.get(&path).await.is(200);
        (atomic(&view["cost_so_far"]) > 0).then_some(())
    })
    .await;
    mine.post(&format!("{path}/stop"), &json!({})).await.is(200);
}

/// The split of a rental that is over.
async fn settled(mine: &Api, id: &str) -> Value {
    let path = format!("/rentals/{id}");
    wait::until("it is settled", || async {
        let view = mine.get(&path).await.is(200);
        (!view["settled_at"].is_null()).then_some(())
    })
    .await;
    let body = json!({ "rental_id": id });
    let split = mine.post("/payments/settle", &body).await.is(200);
    adds_up(&split);
    split
}

async fn until_has(chain: &Chain, address: &str, units: i64) {
    wait::until(&format!("{address} has {units}"), || async {
        let has = chain.balance(address).await;
        assert!(has <= units, "{address} has {has}, more than {units}");
        (has == units).then_some(())
    })
    .await;
}

/// Has the provider paid at a new address; returns it.
async fn name_address(provider: &Api) -> String {
    let address = Payer::new().address();
    let body = json!({ "address": address });
    let put = provider.request("PUT", "/payout-address").json(&body);
    assert_eq!(api::send(put).await.is(200)["address"], json!(address));
    address
}

async fn pay_out(provider: &Api, units: i64, key: &str) -> String {
    let amount = format!("{}.{:06}", units / 1_000_000, units % 1_000_000);
    let body = json!({"amount": {"amount": amount, "currency": "USDC"}});
    let asked = provider.post_once("/payouts", &body, key).await.is(201);
    asked["id"].as_str().expect("an id").to_owned()
}

async fn until_paid(provider: &Api, id: &str) -> Value {
    let path = format!("/payouts/{id}");
    wait::until("it is paid", || async {
        let view = provider.get(&path).await.is(200);
        assert_ne!(view["state"], "failed", "{view}");
        (view["state"] == "paid").then_some(view)
    })
    .await
}

async fn until_earned(provider: &Api, units: i64) {
    wait::until("all of it is payable", || async {
        let view = provider.get("/balance").await.is(200);
        let usdc = &view["items"][0];
        (atomic(&usdc["earned"]) == units && atomic(&usdc["pending"]) == 0).then_some(())
    })
    .await;
}

/// What our address has on the chain is what came in and didn't leave, and all of that is the market's own.
async fn the_rest_is_ours(chain: &Chain, stage: &Stage, fees: i64) {
    check(&stage.market);
    assert_eq!(chain.balance(PAYEE).await, fees);
    let admin = people::admin(&stage.market).await;
    let figures = admin.get("/admin/metrics").await.is(200);
    assert_eq!(atomic(&figures["platform_fees"][0]), fees, "{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_pays_and_everybody_is_paid_on_the_chain() {
    let chain = Chain::start().await;
    let (stage, _key) = open(&chain).await;
    let api = stage.market.api();
    let payer = Payer::new();
    chain.mint(&payer.address(), FUNDS).await;
    let order = stage.order(&["sleep", "600"], 600);
    let answer = stock_client::pay(&api.url("/rentals"), Some(&order), payer.key_hex()).await;
    let answer = answer.expect("the official client pays");
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = answer.body["id"].as_str().expect("an id");
    let mine = api.bearing(answer.body["rental_token"].as_str().expect("a token"));
    use_a_little(&stage, &mine, id).await;
    let split = settled(&mine, id).await;
    let of = |name: &str| atomic(&split[name]);
    assert!(of("provider") > 0 && of("refund") > 0, "{split}");

    // the consumer has no account: the wallet gets it, without being asked
    until_has(&chain, &payer.address(), FUNDS - of("paid") + of("refund")).await;
    // the provider asks
    until_earned(&stage.provider, of("provider")).await;
    let address = name_address(&stage.provider).await;
    let payout = pay_out(&stage.provider, of("provider"), "all").await;
    let paid = until_paid(&stage.provider, &payout).await;
    assert_eq!(chain.balance(&address).await, of("provider"));
    let [transfer] = &chain.transfers_to(&address).await[..] else {
        panic!("not one transfer")
    };
    assert_eq!(paid["transaction"], json!(transfer.transaction));
    assert!(transfer.from.eq_ignore_ascii_case(PAYEE));
    the_rest_is_ours(&chain, &stage, of("platform_fee")).await;
    assert!(
        !stage.market.log().contains(&PAYEE_KEY[2..]),
        "the key is in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_pay_at_once_and_each_gets_back_what_is_theirs() {
    const PAYERS: usize = 20;
    let chain = Chain::start().await;
    let (stage, _key) = open(&chain).await;
    let api = stage.market.api();
    let mut order = stage.order(&["sleep", "600"], 600);
    order["resources"] = json!({"ram_bytes": 16 * MIB, "cpu_millis": 10});
    let payers: Vec<Payer> = (0..PAYERS).map(|_| Payer::new()).collect();
    let mut payments = Vec::new();
    for payer in &payers {
        chain.mint(&payer.address(), FUNDS).await;
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
    let (mut earned, mut fees) = (0, 0);
    for (payer, view) in payers.iter().zip(&rented) {
        let id = view["id"].as_str().expect("an id");
        let mine = api.bearing(view["rental_token"].as_str().expect("a token"));
        mine.post(&format!("/rentals/{id}/stop"), &json!({}))
            .await
            .is(200);
        let split = settled(&mine, id).await;
        let of = |name: &str| atomic(&split[name]);
        earned += of("provider");
        fees += of("platform_fee");
        until_has(&chain, &payer.address(), FUNDS - of("paid") + of("refund")).await;
    }
    until_earned(&stage.provider, earned).await;
    if earned > 0 {
        let address = name_address(&stage.provider).await;
        let payout = pay_out(&stage.provider, earned, "all").await;
        until_paid(&stage.provider, &payout).await;
        assert_eq!(chain.balance(&address).await, earned);
    }
    the_rest_is_ours(&chain, &stage, fees).await;
}

/// The facilitator's line breaks before or after the money moved, or it says "pending", and the coordinator is killed: each payout moves
/// once.
#[tokio::test(flavor = "multi_thread")]
async fn doubtful_payouts_move_once() {
    const EACH: i64 = 100;
    let chain = Chain::start().await;
    let (mut stage, _key) = open(&chain).await;
    let api = stage.market.api();
    let payer = Payer::new();
    chain.mint(&payer.address(), FUNDS).await;
    let order = stage.order(&["sleep", "600"], 600);
    let rented = payer.rent(&api, &order).await;
    let engine = stage.node.engine();
    wait::until("the container runs", || async {
        engine
            .of_rental(&rented.id)
            .await
            .filter(|found| found.running)
    })
    .await;
    let path = format!("/rentals/{}", rented.id);
    wait::until("it has cost enough", || async {
        let view = rented.api.get(&path).await.is(200);
        (atomic(&view["cost_so_far"]) > 8 * EACH).then_some(())
    })
    .await;
    let stop = format!("{path}/stop");
    rented.api.post(&stop, &json!({})).await.is(200);
    let split = settled(&rented.api, &rented.id).await;
    let back = FUNDS - atomic(&split["paid"]) + atomic(&split["refund"]);
    until_has(&chain, &payer.address(), back).await;
    let earned = atomic(&split["provider"]);
    until_earned(&stage.provider, earned).await;
    let address = name_address(&stage.provider).await;
    let ways = ["drop_before", "drop_after", "pending"];
    for (at, how) in ways.iter().enumerate() {
        chain.behave(how).await;
        let payout = pay_out(&stage.provider, EACH, how).await;
        until_paid(&stage.provider, &payout).await;
        let moved = i64::try_from(at + 1).expect("few") * EACH;
        assert_eq!(chain.balance(&address).await, moved, "{how}");
    }
    // killed while it is on its way, whatever it had got to by then
    chain.behave("drop_after").await;
    let payout = pay_out(&stage.provider, EACH, "killed").await;
    stage.market.restart().await;
    let again = pay_out(&stage.provider, EACH, "killed").await;
    assert_eq!(again, payout, "the same key asks once");
    wait::until_within(2 * wait::PATIENCE, "it is paid", || async {
        let view = stage.provider.get(&format!("/payouts/{payout}")).await;
        (view.is(200)["state"] == "paid").then_some(())
    })
    .await;
    assert_eq!(chain.balance(&address).await, 4 * EACH);
    assert_eq!(chain.transfers_to(&address).await.len(), 4);
    // and the rest
    let rest = pay_out(&stage.provider, earned - 4 * EACH, "rest").await;
    until_paid(&stage.provider, &rest).await;
    the_rest_is_ours(&chain, &stage, atomic(&split["platform_fee"])).await;
}
