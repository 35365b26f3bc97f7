//! The coordinator is killed at any moment: rentals don't notice, a payment counts once, and what is billed doesn't change.

use system_tests::{
    api,
    market::{Market, Store},
    payer::{self, Payer, Rented},
    wait,
};

use crate::faults_support::{Chance, Stage, spent};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_on_sqlite() {
    killed("faults_coordinator on SQLite", Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_on_postgres() {
    killed("faults_coordinator on PostgreSQL", Store::Postgres).await;
}

async fn killed(test: &str, store: Store) {
    let mut chance = Chance::new(test);
    let mut stage = Stage::new(store, &[]).await;
    let rentals = [stage.running().await, stage.running().await];
    let mut third: Option<Rented> = None;
    for moment in 0..Chance::moments() {
        match (moment % 3, third.take()) {
            (0, None) => {
                let paid = killed_while_paid(&mut stage, &mut chance).await;
                paid.until("running").await;
                stage.untouched(&rentals, 1).await;
                third = Some(paid);
            }
            (1, Some(stopped)) => {
                let path = format!("/rentals/{}/stop", stopped.id);
                let asked = stopped.api.request("POST", &path);
                let asking = tokio::spawn(api::try_send(asked));
                chance.moment(0..60).await;
                restart(&mut stage.market, &mut chance).await;
                // whether it was taken or not, asking again is harmless
                drop(asking.await.expect("no panic"));
                stopped.stop().await;
                stage.billed_as_docker_says(&stopped, 0).await;
                stage.untouched(&rentals, 0).await;
            }
            _ => {
                chance.moment(0..1_500).await;
                restart(&mut stage.market, &mut chance).await;
                stage.node.until_online().await;
                stage.untouched(&rentals, 0).await;
            }
        }
    }
    if let Some(third) = third {
        third.stop().await;
        stage.billed_as_docker_says(&third, 0).await;
    }
    stage.end(&rentals, 0).await;
}

async fn restart(market: &mut Market, chance: &mut Chance) {
    market.kill9();
    chance.moment(0..2_000).await;
    market.restart().await;
}

/// Kills the coordinator in the middle of a paid `POST /rentals`; then the same payment is sent until it is answered, and once more.
async fn killed_while_paid(stage: &mut Stage, chance: &mut Chance) -> Rented {
    let (payer, api, order) = (Payer::new(), stage.market.api(), stage.order());
    let free_before = stage.node.free_ram_bytes().await;
    // a coordinator that was started anew rents nothing of a node that it hasn't heard yet
    let asked = wait::until("the node takes rentals", || async {
        let asked = api.post("/rentals", &order).await;
        (asked.status != 409).then_some(asked)
    })
    .await;
    let payment = payer.sign(&asked);
    let first = tokio::spawn(api::try_send(payer::paid(
        &api, "/rentals", &order, &payment,
    )));
    chance.moment(0..60).await;
    restart(&mut stage.market, chance).await;
    let heard = first.await.expect("no panic").ok();
    let answer = wait::until("the payment is answered", || async {
        let sent = api::try_send(payer::paid(&api, "/rentals", &order, &payment)).await;
        let answer = sent.ok()?;
        // 202: the coordinator that died was settling it; the offer's node is heard again a moment after the start
        assert!(
            [201, 202, 409, 503].contains(&answer.status),
            "{} {}",
            answer.status,
            answer.body
        );
        (answer.status == 201).then_some(answer.body)
    })
    .await;
    let again = payer::send(&api, "/rentals", &order, &payment).await;
    let again = again.is(201);
    assert_eq!(again["id"], answer["id"], "one payment, one rental");
    if let Some(heard) = heard.filter(|heard| heard.status == 201) {
        assert_eq!(heard.body["id"], answer["id"], "as it was promised");
    }
    let price = payment.authorization.value;
    let spent = spent(&stage.market, &payer.address()).await;
    assert_eq!(
        u128::try_from(spent).expect("positive"),
        price,
        "one charge"
    );
    let taken = free_before - stage.node.free_ram_bytes().await;
    assert_eq!(
        Some(taken),
        stage.order()["resources"]["ram_bytes"].as_i64()
    );
    let token = again["rental_token"].as_str().expect("a token");
    Rented {
        id: again["id"].as_str().expect("an id").to_owned(),
        api: api.bearing(token),
        body: again.clone(),
        payment,
    }
}
