//! Which time is billed: what beats cover, what a cut-off node loses, what our own outage costs nobody.

use shared::{
    id::RentalId,
    wire::observed::{ExitCause, Phase},
};

use crate::{
    domain::rentals::model::{EndReason, State},
    testing::{
        TestApp,
        market::{BEAT_MS, Market},
        on_both_stores,
    },
};

on_both_stores!(
    a_cut_off_node_runs_on_and_loses_what_is_beyond_90_seconds,
    while_the_coordinator_is_down_time_is_billed,
    a_silent_meter_covers_nothing,
);

const MINUTE_MS: i64 = 60_000;
const ALLOWED_MS: i64 = 90_000;

/// Ends a running container now and settles it; the billed milliseconds.
async fn end(market: &mut Market, id: RentalId) -> i64 {
    market.node.finish(id, 0, ExitCause::Itself);
    market.node.beat(&market.test).await;
    market.settle().await;
    market.check_books().await;
    let rental = market.rental(id).await;
    assert_eq!(rental.state, State::Ended);
    assert!(rental.settled_at.is_some());
    rental.billed_ms
}

async fn a_cut_off_node_runs_on_and_loses_what_is_beyond_90_seconds(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3_600).await;
    market.pass(2 * MINUTE_MS).await;
    let before = market.node.journal.len();
    market.cut_off(10 * MINUTE_MS).await;
    assert_eq!(market.node.containers[&id].seen.phase, Phase::Running);
    assert_eq!(market.rental(id).await.state, State::Active);
    let cut_off_records = market.node.journal.len() - before;
    assert_eq!(cut_off_records, 120);
    market.node.beat(&market.test).await;
    market.pass(2 * MINUTE_MS).await;
    let billed = end(&mut market, id).await;
    assert_eq!(billed, 14 * MINUTE_MS - (10 * MINUTE_MS - ALLOWED_MS));
    let sent = market.node.journal.len();
    let (db, node) = (&market.test.app.db, market.node.id);
    let kept = db.read("test.records", move |tx| {
        crate::domain::metering::records_of(tx, node, id, 0, 10_000)
    });
    let kept = kept.await.expect("records are read");
    assert_eq!(kept.len(), sent, "each record once");
}

async fn while_the_coordinator_is_down_time_is_billed(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3_600).await;
    market.pass(2 * MINUTE_MS).await;
    let mut market = market.coordinator_down(10 * MINUTE_MS).await;
    // the agent needs a while to notice: that isn't its fault either, as long as it is less than 90 s
    market.test.clock.advance_ms(25_000);
    market.node.tick();
    market.note_uptime().await;
    market.node.beat(&market.test).await;
    market.pass(2 * MINUTE_MS).await;
    assert_eq!(end(&mut market, id).await, 14 * MINUTE_MS + 25_000);
}

async fn a_silent_meter_covers_nothing(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3_600).await;
    market.pass(2 * MINUTE_MS).await;
    market.node.metering = false;
    market.pass(10 * MINUTE_MS).await;
    let unmetered = market.rental(id).await;
    assert!(unmetered.billed_ms <= 2 * MINUTE_MS, "{unmetered:?}");
    market.node.metering = true;
    market.pass(2 * MINUTE_MS).await;
    // as if it had been cut off: the first record comes 5 s after the silence
    let silent_ms = 10 * MINUTE_MS + BEAT_MS;
    let billed = end(&mut market, id).await;
    assert_eq!(billed, 14 * MINUTE_MS - (silent_ms - ALLOWED_MS));
}

#[tokio::test]
async fn a_gap_in_which_the_machine_was_started_anew_is_not_billed() {
    let mut market = Market::open(TestApp::new().await).await;
    let id = market.run(3_600).await;
    market.pass(2 * MINUTE_MS).await;
    market.test.clock.advance_ms(MINUTE_MS);
    market.node.reboot();
    market.test.clock.advance_ms(MINUTE_MS);
    market.node.tick();
    market.node.beat(&market.test).await;
    market.pass(2 * MINUTE_MS).await;
    assert_eq!(end(&mut market, id).await, 4 * MINUTE_MS);
}

#[tokio::test]
async fn a_step_of_the_nodes_wall_clock_changes_no_bill() {
    for step_ms in [3_600_000, -3_600_000] {
        let mut market = Market::open(TestApp::new().await).await;
        let id = market.rent(3_600).await;
        // an image that takes a while
        market.pass(MINUTE_MS).await;
        let waited = market.rental(id).await.started_at;
        assert_eq!(waited, None);
        market.node.start(id);
        market.test.clock.advance_ms(2_000);
        // between the start and its report
        market.node.wall_ahead_ms += step_ms;
        market.node.tick();
        market.node.beat(&market.test).await;
        market.pass(2 * MINUTE_MS).await;
        market.node.wall_ahead_ms -= step_ms;
        market.pass(2 * MINUTE_MS).await;
        market.node.finish(id, 0, ExitCause::Itself);
        market.test.clock.advance_ms(2_000);
        // between the end and its report
        market.node.wall_ahead_ms += step_ms;
        market.node.beat(&market.test).await;
        market.settle().await;
        market.check_books().await;
        let billed = market.rental(id).await.billed_ms;
        let ran = 4 * MINUTE_MS + 2_000;
        assert!(
            (billed - ran).abs() <= BEAT_MS,
            "step {step_ms}: billed {billed} of {ran}"
        );
    }
}

#[tokio::test]
async fn the_lease_caps_the_bill() {
    let mut market = Market::open(TestApp::new().await).await;
    let id = market.run(120).await;
    // a machine that runs on beyond what is paid
    for _ in 0..5 * 12 {
        market.test.clock.advance_ms(BEAT_MS);
        market.node.record(id);
        let beat = market.node.next_beat();
        let answer = market.test.send(market.node.sign(&beat).request()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        market.node.acked = market.node.head().seq;
        let beacon = answer.json()["beacon"].as_str().map(str::to_owned);
        market.node.beacon = beacon.expect("a beacon");
        market.settle().await;
    }
    assert_eq!(end(&mut market, id).await, 120_000);
}

#[tokio::test]
async fn a_node_that_is_lost_is_given_up_when_its_lease_is_over() {
    let mut market = Market::open(TestApp::new().await).await;
    let id = market.run(3_600).await;
    market.pass(5 * MINUTE_MS).await;
    let lease = market.rental(id).await.lease_until;
    let grace = lease.plus_ms(30_000);
    let left_ms = grace.ms_since(shared::clock::Clock::now(&market.test.clock));
    market.cut_off(left_ms).await;
    assert_eq!(market.rental(id).await.state, State::Active);
    market.cut_off(1_000).await;
    let lost = market.rental(id).await;
    assert_eq!(
        (lost.state, lost.end_reason),
        (State::Ended, Some(EndReason::NodeLost))
    );
    market.settle().await;
    market.check_books().await;
    let lost = market.rental(id).await;
    assert_eq!(lost.billed_ms, 5 * MINUTE_MS);
    assert_eq!(Ok(lost.refunded), lost.paid.minus(lost.charged));
    assert!(lost.charged < lost.paid && !lost.charged.is_zero());
    // the machine stopped it when its lease ended; what it says later is kept, and bills nothing
    assert!(matches!(
        market.node.containers[&id].seen.phase,
        Phase::Exited {
            cause: ExitCause::LeaseEnded,
            ..
        }
    ));
    let reply = market.node.beat(&market.test).await;
    assert_eq!(reply.ack.expect("a receipt").seq, market.node.head().seq);
    market.settle().await;
    assert_eq!(market.rental(id).await.billed_ms, 5 * MINUTE_MS);
    market.check_books().await;
}
