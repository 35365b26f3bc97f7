//! The live stream: what concerns a viewer, in order, without gap or repeat, also over a restart of the coordinator.

use std::collections::BTreeSet;

use system_tests::{
    events::{Event, Events},
    market::Store,
    payer::Payer,
    people,
    stage::Stage,
};

/// What happens to a rental that runs and is stopped, in this order.
const LIFE: [&str; 5] = [
    "rental.paid",
    "rental.started",
    "rental.stopping",
    "rental.ended",
    "rental.settled",
];

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

/// The events of `LIFE` among these.
fn life(events: &[Event]) -> Vec<&str> {
    let kinds = kinds(events).into_iter();
    kinds.filter(|kind| LIFE.contains(kind)).collect()
}

async fn follow_a_life(store: Store) {
    let mut stage = Stage::set(store).await;
    let stranger = people::consumer(&stage.market).await;
    let mut strangers = Events::open(&stranger, None).await;
    let mut whole = Events::open(&stage.provider, None).await;
    let order = stage.order(&["sleep", "600"], 600);
    let rented = Payer::new().rent(&stage.market.api(), &order).await;
    let started = whole.until("rental.started").await;
    let last = started.last().expect("an event");
    assert_eq!(last.data["rental_id"], rented.id.as_str());
    assert_eq!(life(&started), LIFE[..2]);

    // the coordinator dies; whoever followed comes again with the last place
    stage.market.kill9();
    assert_eq!(whole.next().await, None, "the stream broke off");
    stage.market.restart().await;
    stage.node.until_online().await;
    let mut again = Events::open(&stage.provider, Some(last.seq)).await;
    rented.stop().await;
    let rest = again.until("rental.settled").await;
    assert_eq!(life(&rest), LIFE[2..], "{:?}", kinds(&rest));

    // from the beginning of the rental it is all there, once, in one order
    let mut replay = Events::open(&rented.api, Some(0)).await;
    let all = replay.until("rental.settled").await;
    assert_eq!(life(&all), LIFE, "{:?}", kinds(&all));
    let seqs: Vec<i64> = all.iter().map(|event| event.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    assert!(
        all.iter()
            .all(|event| event.data["rental_id"] == rented.id.as_str())
    );
    let mut followed: Vec<Event> = started;
    followed.extend(rest);
    let ids: BTreeSet<String> = followed
        .iter()
        .map(|it| it.data["id"].to_string())
        .collect();
    assert_eq!(ids.len(), followed.len(), "nothing came twice");
    let of_rental = followed
        .into_iter()
        .filter(|it| it.data["rental_id"] == rented.id.as_str());
    assert_eq!(of_rental.collect::<Vec<_>>(), all, "nothing was left out");

    // somebody else saw nothing of it before the restart, and sees nothing of it now
    assert_eq!(strangers.next().await, None, "only its end");
    let mut strangers = Events::open(&stranger, Some(0)).await;
    rent_as(&stage, &stranger).await;
    let seen = strangers.until("rental.paid").await;
    assert!(
        seen.iter()
            .all(|it| it.data["rental_id"] != rented.id.as_str()),
        "{:?}",
        kinds(&seen)
    );
    let refused = system_tests::api::send(stage.market.api().request("GET", "/events")).await;
    assert_eq!(refused.status, 401);
}

/// A rental of somebody signed in, paid by x402: it is theirs.
async fn rent_as(stage: &Stage, consumer: &system_tests::api::Api) {
    Payer::new()
        .rent(consumer, &stage.order(&["true"], 600))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_followed_over_a_restart_on_sqlite() {
    follow_a_life(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_followed_over_a_restart_on_postgres() {
    follow_a_life(Store::Postgres).await;
}
