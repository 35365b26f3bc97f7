//! The journal's chain in beats: kept once, without gaps, forks or borrowed beacons, however replies get lost.

use shared::{id::RentalId, journal::SignedRecord, wire::problem::agent_codes};

use super::refused::code;
use crate::{
    domain::metering,
    testing::{
        TestApp,
        dump::{changed, dump},
        market::Market,
        node::ScriptedNode,
        on_both_stores,
    },
};

on_both_stores!(
    a_forked_journal_is_refused_and_flagged,
    a_gap_in_the_journal_is_refused_and_flagged,
    records_of_others_are_refused,
    records_arrive_once_however_often_they_are_sent,
    a_backlog_comes_in_parts,
    a_restarted_agent_goes_on_with_its_chain,
);

async fn records(market: &Market, id: RentalId) -> Vec<SignedRecord> {
    let (db, node) = (&market.test.app.db, market.node.id);
    let read = db.read("test.records", move |tx| {
        metering::records_of(tx, node, id, 0, 100_000)
    });
    let records = read.await.expect("records are read");
    records.into_iter().map(|(signed, _)| signed).collect()
}

async fn a_forked_journal_is_refused_and_flagged(test: TestApp) {
    let mut market = Market::open(test).await;
    let rental = market.run(600).await;
    market.node.record(rental);
    let mut copy = market.node.clone();
    market.node.beat(&market.test).await;
    // the copy writes another record under the same number
    copy.journal.pop();
    copy.containers.get_mut(&rental).expect("it runs").cpu_ns = 1;
    copy.record(rental);
    copy.record(rental);
    copy.seq = market.node.seq;
    copy.beacon.clone_from(&market.node.beacon);
    let before = dump(&market.test.app.db, &["node_flags", "events"]).await;
    let answer = copy.try_beat(&market.test).await;
    let after = dump(&market.test.app.db, &["node_flags", "events"]).await;
    assert_eq!(code(&answer), (409, agent_codes::JOURNAL_FORKED.into()));
    assert_eq!(changed(&before, &after), Vec::<String>::new());
    assert_eq!(market.flags().await, [agent_codes::JOURNAL_FORKED]);
    // an older state of the journal is a fork too, even if nothing new is in it
    let mut older = market.node.clone();
    older.journal.pop();
    older.seq = copy.seq;
    let answer = older.try_beat(&market.test).await;
    assert_eq!(code(&answer), (409, agent_codes::JOURNAL_FORKED.into()));
    market.node.seq = older.seq;
    market.node.beat(&market.test).await;
}

async fn a_gap_in_the_journal_is_refused_and_flagged(test: TestApp) {
    let mut market = Market::open(test).await;
    let rental = market.run(600).await;
    for _ in 0..3 {
        market.node.record(rental);
    }
    let mut beat = market.node.next_beat();
    beat.usage.remove(1);
    let before = dump(&market.test.app.db, &["node_flags", "events"]).await;
    let answer = market.test.send(market.node.sign(&beat).request()).await;
    let after = dump(&market.test.app.db, &["node_flags", "events"]).await;
    assert_eq!(code(&answer), (409, agent_codes::JOURNAL_GAP.into()));
    assert_eq!(changed(&before, &after), Vec::<String>::new());
    assert_eq!(market.flags().await, [agent_codes::JOURNAL_GAP]);
    market.node.beat(&market.test).await;
    assert_eq!(records(&market, rental).await, market.node.journal);
}

async fn records_of_others_are_refused(test: TestApp) {
    let mut market = Market::open(test).await;
    let rental = market.run(600).await;
    let mut other = ScriptedNode::enrol(&market.test, &market.provider, 8 << 30).await;
    other.beat(&market.test).await;
    let good = market.node.draft(rental);
    let mut foreign_beacon = good.clone();
    foreign_beacon.beacon.clone_from(&other.beacon);
    let mut made_up = good.clone();
    made_up.beacon = "ab".repeat(32);
    let mut foreign_node = good.clone();
    foreign_node.node_id = other.id;
    let key = &market.node.key;
    let cases = [
        (foreign_beacon.sign(key), 409, "journal_beacon_unknown"),
        (made_up.sign(key), 409, "journal_beacon_unknown"),
        (foreign_node.sign(key), 409, agent_codes::JOURNAL_FORKED),
        (good.sign(&other.key), 401, agent_codes::SIGNATURE_INVALID),
    ];
    for (record, status, expected) in cases {
        let mut copy = market.node.clone();
        copy.journal.push(record);
        let answer = copy.try_beat(&market.test).await;
        assert_eq!(code(&answer), (status, expected.into()), "{answer:?}");
        market.node.seq = copy.seq;
    }
    assert_eq!(records(&market, rental).await, market.node.journal);
    market.node.beat(&market.test).await;
}

async fn records_arrive_once_however_often_they_are_sent(test: TestApp) {
    let mut market = Market::open(test).await;
    let rental = market.run(600).await;
    for _ in 0..5 {
        market.test.clock.advance_ms(5_000);
        market.node.tick();
        // the beat arrives, its reply doesn't
        let beat = market.node.next_beat();
        let answer = market.test.send(market.node.sign(&beat).request()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let reply = market.node.beat(&market.test).await;
    let ack = reply.ack.expect("a receipt");
    assert_eq!((ack.seq, ack.hash), {
        let head = market.node.head();
        (head.seq, head.hash)
    });
    assert_eq!(records(&market, rental).await, market.node.journal);
    assert_eq!(market.node.acked, market.node.head().seq);
    market.settle().await;
    market.check_books().await;
}

async fn a_backlog_comes_in_parts(test: TestApp) {
    let mut market = Market::open(test).await;
    let rental = market.run(3_600).await;
    for _ in 0..1_000 {
        market.node.record(rental);
    }
    let beats = market.node.beats;
    let answer = market.node.try_beat(&market.test).await;
    assert_eq!(answer.json()["more"], true, "{answer:?}");
    let some = market.node.acked;
    assert!(some > 0 && some < market.node.head().seq, "{some}");
    let reply = market.node.beat(&market.test).await;
    assert!(!reply.more);
    let parts = market.node.beats - beats;
    assert!(parts > 2, "{parts} parts");
    assert_eq!(records(&market, rental).await, market.node.journal);
}

/// A process that starts has no beacon until it is answered, but what it meters must not be lost.
async fn a_restarted_agent_goes_on_with_its_chain(test: TestApp) {
    let mut market = Market::open(test).await;
    let rental = market.run(600).await;
    market.test.clock.advance_ms(5_000);
    market.node.restart_agent();
    market.node.tick();
    market.node.beat(&market.test).await;
    assert_eq!(records(&market, rental).await, market.node.journal);
    // a chain can't begin without one
    let mut fresh = ScriptedNode::enrol(&market.test, &market.provider, 8 << 30).await;
    fresh.beat(&market.test).await;
    fresh.beacon.clear();
    fresh
        .containers
        .insert(rental, market.node.containers[&rental].clone());
    fresh.record(rental);
    fresh.containers.clear();
    let answer = fresh.try_beat(&market.test).await;
    assert_eq!(code(&answer).1, agent_codes::BEACON_STALE);
    let answer = fresh.try_beat(&market.test).await;
    assert_eq!(code(&answer), (409, "journal_beacon_unknown".into()));
}
