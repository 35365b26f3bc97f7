//! After the agent started the container, before the event that says so is done: the coordinator dies with the beat in hand, or with the
//! event committed and without its place. The next one hears of it once, tells of it once, and bills from the container's start.

use shared::{clock::Clock as _, id::RentalId};

use super::{Chance, Crash, after, before, first_seed};
use crate::{
    crash::plan::{At, Plan},
    domain::events::Relay,
    params,
    testing::{TestApp, market::Market},
};

/// How long each rents, seconds.
const DURATION_S: i64 = 600;

super::matrix!(
    before_the_beat_is_committed: before("beat.news"),
    after_the_beat_was_committed: after("beat.news"),
    before_the_event_has_its_place: before("events_place"),
    after_the_event_has_its_place: after("events_place"),
);

async fn run(name: &str, test: TestApp, crash: Crash, seeds: u64) {
    let seed = first_seed();
    eprintln!("{name}: seed {seed} (MATRIX_SEED), {seeds} seeds");
    let Crash::At(at) = crash else {
        panic!("not a place")
    };
    let mut chance = Chance::of(seed);
    let mut market = Market::open(test).await;
    for _ in 0..seeds {
        let id = market.rent(DURATION_S).await;
        place_all(&market.test).await;
        let started_at = market.test.clock.now();
        market.node.start(id);
        market.test.clock.advance_ms(below(&mut chance, 3_000));
        market = dying(market, at).await;
        market.test.clock.advance_ms(below(&mut chance, 30_000));
        market.node.beat(&market.test).await;
        for _ in 0..=chance.below(2) {
            // whoever comes next may say the same again
            market.node.beat(&market.test).await;
            place_all(&market.test).await;
        }
        let rental = market.rental(id).await;
        assert_eq!(rental.started_at, Some(started_at), "{rental:?}");
        told_once(&market.test, id).await;
        assert_eq!(market.node.containers.len(), 1, "one container was started");
        market.pass(15_000).await;
        market
            .node
            .finish(id, 0, shared::wire::observed::ExitCause::Itself);
        let ran_ms = market.test.clock.now().ms_since(started_at);
        market.pass(5_000).await;
        market.settle().await;
        let windows = market.windows(id).await;
        let billed_ms: i64 = windows.iter().map(|window| window.billable_ms).sum();
        assert!(
            billed_ms > 0 && billed_ms <= ran_ms,
            "{billed_ms} of {ran_ms}"
        );
        super::prove_books(&market.test).await;
    }
}

fn below(chance: &mut Chance, ms: u64) -> i64 {
    i64::try_from(chance.below(ms)).unwrap_or(0)
}

/// The beat that tells of the start, and the relay after it, until the process dies; then another one starts.
async fn dying(mut market: Market, at: At) -> Market {
    let plan = Plan::new(at);
    let test = &market.test;
    // what takes beats in is of the process that dies
    test.app.shutdown.cancel();
    let fresh = test.beside();
    let shutdown = fresh.app.shutdown.clone();
    let work = async {
        let ingest = fresh.app.agents.run_ingest(shutdown.clone());
        let beats = async {
            let answer = market.node.try_beat(&fresh).await;
            if answer.status == axum::http::StatusCode::UNAUTHORIZED {
                market.node.try_beat(&fresh).await;
            }
            Relay::default()
                .run(&fresh.app.db, &fresh.app.events)
                .await
                .expect("events get their places");
        };
        tokio::select! {
            ended = ingest => ended.expect("beats are taken in"),
            () = beats => {}
        }
    };
    assert_eq!(plan.run(work).await, None, "it lived");
    drop(fresh);
    market.test = market.test.restarted();
    market.test.start_ingest();
    market
}

async fn place_all(test: &TestApp) {
    let mut relay = Relay::default();
    let placed = relay.run(&test.app.db, &test.app.events).await;
    placed.expect("events get their places");
}

/// Its start was told once, and no place of the stream is missing or given twice.
async fn told_once(test: &TestApp, id: RentalId) {
    let read = test.app.db.read("test.told", move |tx| {
        let told = tx.query(
            "SELECT COUNT(*), COUNT(seq) FROM events WHERE rental_id = $1 AND kind = 'rental.started'",
            params![id],
        )?;
        let places = tx.query(
            "SELECT COUNT(*), COUNT(DISTINCT seq), MAX(seq), (SELECT seq FROM event_head) FROM events",
            params![],
        )?;
        let numbers = |row: &crate::store::Row, count: usize| {
            (0..count)
                .map(|column| Ok(row.int(column)?))
                .collect::<crate::error::Result<Vec<i64>>>()
        };
        Ok((numbers(&told[0], 2)?, numbers(&places[0], 4)?))
    });
    let (told, places) = read.await.expect("read");
    assert_eq!(told, [1, 1], "told once, with its place");
    assert!(places.iter().all(|it| *it == places[0]), "{places:?}");
}
