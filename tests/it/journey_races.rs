//! Many at once for what is there once: the last free memory, and one signed payment.

use std::collections::BTreeSet;

use coordinator::store::Db;
use futures_util::future::join_all;
use serde_json::{Value, json};
use system_tests::{
    GIB, MIB,
    api::send,
    books::{atomic, check},
    market::Store,
    payer::{Payer, paid},
    stage::Stage,
    wait,
};

const PAYERS: usize = 50;
const REPEATS: usize = 20;
/// Times that the race of one payment is run.
const ROUNDS: i64 = 4;

/// The whole of what is left: one GiB.
fn last_gib(stage: &Stage) -> Value {
    let mut order = stage.order(&["sleep", "600"], 600);
    order["resources"]["ram_bytes"] = json!(GIB);
    order
}

async fn rentable(stage: &Stage, ram_bytes: i64) {
    let path = format!("/nodes/{}", stage.node.id());
    let change = json!({"rentable": {"ram_bytes": ram_bytes, "cpu_millis": 1_000}});
    stage.provider.patch(&path, &change).await.is(200);
}

async fn fifty_for_one_gib(store: Store) {
    let stage = Stage::set(store).await;
    rentable(&stage, GIB).await;
    let (api, order) = (stage.market.api(), last_gib(&stage));
    let payers: Vec<Payer> = (0..PAYERS).map(|_| Payer::new()).collect();
    // all are asked while there is room, and all sign
    let mut payments = Vec::new();
    for payer in &payers {
        payments.push(payer.ask_and_sign(&api, "/rentals", &order).await);
    }
    let requests = payments
        .iter()
        .map(|payment| send(paid(&api, "/rentals", &order, payment)));
    let answers = join_all(requests).await;
    let statuses = |wanted| answers.iter().filter(|it| it.status == wanted).count();
    let told: BTreeSet<u16> = answers.iter().map(|it| it.status).collect();
    assert_eq!((statuses(201), statuses(409)), (1, PAYERS - 1), "{told:?}");
    for answer in answers.iter().filter(|it| it.status == 409) {
        assert_eq!(answer.body["code"], "capacity_gone", "{}", answer.body);
    }
    assert_eq!(stage.node.free_ram_bytes().await, 0);

    // what the sandbox moved: one payment, of the winner; nobody else's wallet was touched
    let winner = answers.iter().position(|it| it.status == 201).expect("one");
    let moved = settlements(&stage).await;
    let address = payers[winner].address().to_lowercase();
    assert_eq!(moved, [(address, 606_000)]);
    spends_everything(
        &stage,
        &answers[winner].body,
        &payers[(winner + 1) % PAYERS],
    )
    .await;
    check(&stage.market);
}

/// Who paid how much, by the sandbox's own books.
async fn settlements(stage: &Stage) -> Vec<(String, i64)> {
    let url = stage.market.database().parse().expect("a URL");
    let db = Db::open(&url).await.expect("the database opens");
    let rows = db
        .read("test.settlements", |tx| {
            Ok(tx.query("SELECT payer, amount FROM sandbox_settlements", &[])?)
        })
        .await
        .expect("it can be read");
    rows.iter()
        .map(|row| {
            let payer = row.text(0).expect("an address").to_lowercase();
            (payer, row.int(1).expect("an amount"))
        })
        .collect()
}

/// Whoever lost can still spend all of the 100 USDC that an address gets.
async fn spends_everything(stage: &Stage, won: &Value, loser: &Payer) {
    let api = stage.market.api();
    let token = won["rental_token"].as_str().expect("a token");
    let stop = format!("/rentals/{}/stop", won["id"].as_str().expect("an id"));
    api.bearing(token).post(&stop, &Value::Null).await.is(200);
    wait::until("the room is free again", || async {
        (stage.node.free_ram_bytes().await == GIB).then_some(())
    })
    .await;
    // 2.5 h × 40 USDC for the GiB, and nothing for the CPU
    let path = format!("/offers/{}", stage.offer_id);
    let prices = json!({"prices": {"ram_gib_hour": "40.00", "cpu_hour": "0"}});
    stage.provider.patch(&path, &prices).await.is(200);
    let mut order = last_gib(stage);
    order["duration_seconds"] = json!(9_000);
    let rented = loser.rent(&api, &order).await;
    assert_eq!(atomic(&rented.body["paid"]), 100_000_000);
}

async fn one_payment_twenty_times(store: Store) {
    let stage = Stage::set(store).await;
    let free = stage.node.free_ram_bytes().await;
    let (api, payer) = (stage.market.api(), Payer::new());
    let order = stage.order(&["sleep", "600"], 600);
    for round in 1..=ROUNDS {
        let payment = payer.ask_and_sign(&api, "/rentals", &order).await;
        let requests = (0..REPEATS).map(|_| send(paid(&api, "/rentals", &order, &payment)));
        let answers = join_all(requests).await;
        let of = |name: &str| -> BTreeSet<String> {
            let found = answers.iter().map(|it| it.body[name].to_string());
            found.collect()
        };
        let statuses: Vec<u16> = answers.iter().map(|it| it.status).collect();
        assert_eq!(statuses, [201; REPEATS], "{:?}", of("error"));
        assert_eq!(of("id").len(), 1, "{:?}", of("id"));
        assert_eq!(of("rental_token").len(), 1);
        let taken = free - stage.node.free_ram_bytes().await;
        assert_eq!(taken, round * 256 * MIB, "taken once");
        let again = send(paid(&api, "/rentals", &order, &payment)).await.is(201);
        assert_eq!(atomic(&again["paid"]), 156_000);
        let charges = settlements(&stage).await;
        assert_eq!(
            i64::try_from(charges.len()),
            Ok(round),
            "one charge: {charges:?}"
        );
    }
    check(&stage.market);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pay_for_the_last_gib_and_one_gets_it_on_sqlite() {
    fifty_for_one_gib(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pay_for_the_last_gib_and_one_gets_it_on_postgres() {
    fifty_for_one_gib(Store::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payment_sent_twenty_times_rents_once_on_sqlite() {
    one_payment_twenty_times(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payment_sent_twenty_times_rents_once_on_postgres() {
    one_payment_twenty_times(Store::Postgres).await;
}
