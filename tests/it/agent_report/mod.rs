//! The agent's way up, against a coordinator that this test plays: it checks every signature and the chain, and can lose answers,
//! refuse with what an honest agent needs to recover, and be away.

mod coordinator;
mod node;

use std::time::Duration;

use node_agent::report::Contact;
use shared::{journal::MeterState, wire::BACKLOG_BYTES_MAX};

use coordinator::{Coordinator, Mishap};
use node::{Node, running};

#[tokio::test]
async fn enrolment_is_repeatable_until_its_answer_arrives_and_never_by_accident() {
    let coordinator = Coordinator::start().await;
    coordinator.next(&[Mishap::LoseAnswer]);
    let node = Node::new("enroll");
    let lost = node.try_enroll(&coordinator, false).await;
    assert!(lost.is_err(), "the answer was lost");
    let identity = node
        .try_enroll(&coordinator, false)
        .await
        .expect("enrolled");
    coordinator.with(|state| {
        assert_eq!(state.enrolments, 2);
        assert_eq!(state.keys.len(), 1, "the second try used the same key");
        assert_eq!(state.node_id, identity.node_id);
    });
    let again = node.try_enroll(&coordinator, false).await;
    let text = again.expect_err("refused").to_string();
    assert!(text.contains("enrolled already"), "{text}");
    let anew = node.try_enroll(&coordinator, true).await.expect("forced");
    coordinator.with(|state| assert_eq!(state.keys.len(), 2));
    assert_ne!(anew.key.public(), identity.key.public());
}

#[tokio::test]
async fn records_arrive_once_each_when_answers_are_lost() {
    let coordinator = Coordinator::start().await;
    coordinator.set_interval_ms(200);
    let node = Node::enrolled("lost-answers", &coordinator).await;
    let agent = node.start(0);
    agent.set_live(vec![running(1)]);
    coordinator
        .until("records flow", |state| state.seq >= 2)
        .await;
    for _ in 0..3 {
        coordinator.next(&[Mishap::LoseReceipt, Mishap::Answer, Mishap::LoseReceipt]);
        coordinator
            .until(
                "records after lost receipts, and the lost ones again",
                |state| state.mishaps.is_empty() && state.owed.is_empty(),
            )
            .await;
    }
    agent.stop().await;
    coordinator.with(|state| {
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        let seqs: Vec<i64> = state
            .records
            .iter()
            .map(|signed| signed.record.seq)
            .collect();
        let expected: Vec<i64> = (1..=state.seq).collect();
        assert_eq!(seqs, expected, "each once, in order");
        assert!(state.repeated >= 6, "one at least for each lost receipt");
    });
}

#[tokio::test]
async fn a_backlog_goes_out_oldest_first_in_parts() {
    let coordinator = Coordinator::start().await;
    // longer than `until` waits: only `more` in the answers can bring the next part in time
    coordinator.set_interval_ms(60_000);
    let node = Node::enrolled("backlog", &coordinator).await;
    let total = node.write_backlog(1_200);
    let agent = node.start(0);
    coordinator
        .until("the backlog", |state| state.seq >= total)
        .await;
    coordinator.with(|state| {
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        assert!(
            state.largest_usage <= BACKLOG_BYTES_MAX,
            "{}",
            state.largest_usage
        );
        let parts = state
            .beats
            .iter()
            .filter(|beat| !beat.usage.is_empty())
            .count();
        assert!(parts >= 3, "{parts} parts");
    });
    agent.stop().await;
}

#[tokio::test]
async fn an_outage_stops_no_sampling_and_the_records_come_after_it() {
    let mut coordinator = Coordinator::start().await;
    coordinator.set_interval_ms(200);
    let node = Node::enrolled("outage", &coordinator).await;
    let agent = node.start(0);
    agent.set_live(vec![running(1), running(2)]);
    coordinator
        .until("records flow", |state| state.seq >= 4)
        .await;
    coordinator.go_away().await;
    agent
        .until_contact(
            "lost",
            |contact| matches!(contact, Contact::Lost { code, .. } if code == "unreachable"),
        )
        .await;
    let before = node.journal_seq();
    agent.until_passes(10).await;
    assert!(
        node.journal_seq() >= before + 2 * 9,
        "two containers at each pass"
    );
    coordinator.come_back().await;
    agent
        .until_contact("connected", |contact| {
            matches!(contact, Contact::Connected { .. })
        })
        .await;
    coordinator
        .until("the records of the outage", |state| {
            state.seq >= before + 18
        })
        .await;
    // an end is told once, at once
    agent.set_live(vec![running(1), node::exited(2)]);
    coordinator
        .until("the end", |state| {
            state
                .records
                .iter()
                .any(|signed| signed.record.state == MeterState::Exited)
        })
        .await;
    let seq = coordinator.with(|state| state.seq);
    coordinator
        .until("later records", |state| state.seq > seq + 3)
        .await;
    agent.stop().await;
    coordinator.with(|state| {
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        let ends = state
            .records
            .iter()
            .filter(|signed| signed.record.state == MeterState::Exited);
        assert_eq!(ends.count(), 1);
        // the beacon of before the outage is in the records of the outage, and no record is made before there is one
        assert!(
            state
                .records
                .iter()
                .all(|signed| !signed.record.beacon.is_empty())
        );
    });
}

#[tokio::test]
async fn a_refused_beat_recovers_by_what_the_refusal_says() {
    let coordinator = Coordinator::start().await;
    let node = Node::enrolled("recover", &coordinator).await;
    let agent = node.start(0);
    coordinator
        .until("the first beat", |state| state.accepted >= 1)
        .await;
    // as after its restart: the beacon isn't known any more
    coordinator.forget_beacons();
    agent.reporter.nudge.notify_one();
    coordinator
        .until("a beat with the new beacon", |state| {
            state.refused == 1 && state.accepted >= 2
        })
        .await;
    // a coordinator that refuses for ever is asked a few times, then with pauses
    coordinator.set_always_refuse(true);
    agent.reporter.nudge.notify_one();
    agent
        .until_contact(
            "lost",
            |contact| matches!(contact, Contact::Lost { code, .. } if code == "beacon_stale"),
        )
        .await;
    assert_eq!(
        coordinator.with(|state| state.refused),
        5,
        "the first, one beat and three recoveries of it"
    );
    coordinator.set_always_refuse(false);
    agent
        .until_contact("connected", |contact| {
            matches!(contact, Contact::Connected { .. })
        })
        .await;
    agent.stop().await;
    coordinator.with(|state| assert!(state.faults.is_empty(), "{:?}", state.faults));
}

#[tokio::test]
async fn a_clock_that_is_hours_wrong_recovers_at_once() {
    for skew_hours in [-30, 7] {
        let coordinator = Coordinator::start().await;
        let node = Node::enrolled("skew", &coordinator).await;
        let agent = node.start(skew_hours * 3_600_000);
        coordinator
            .until("a beat", |state| state.accepted >= 1)
            .await;
        assert_eq!(coordinator.with(|state| state.refused), 1);
        // and a wall clock that is set meanwhile changes nothing
        agent.clock.step_wall_ms(-5 * 3_600_000);
        agent.reporter.nudge.notify_one();
        coordinator
            .until("another", |state| state.accepted >= 2)
            .await;
        assert_eq!(coordinator.with(|state| state.refused), 1);
        agent.stop().await;
        coordinator.with(|state| assert!(state.faults.is_empty(), "{:?}", state.faults));
    }
}

#[tokio::test]
async fn a_restarted_agent_goes_on_with_its_chain() {
    let coordinator = Coordinator::start().await;
    coordinator.set_interval_ms(200);
    let node = Node::enrolled("restart", &coordinator).await;
    for round in 1..=3 {
        let agent = node.start(0);
        agent.set_live(vec![running(1)]);
        coordinator
            .until("records", |state| state.seq >= round * 4)
            .await;
        agent.stop().await;
    }
    coordinator.with(|state| {
        assert!(state.faults.is_empty(), "{:?}", state.faults);
        let instances: std::collections::BTreeSet<_> =
            state.beats.iter().map(|beat| &beat.instance_id).collect();
        assert_eq!(instances.len(), 3);
        assert!(
            state.beats.windows(2).all(|pair| pair[0].seq < pair[1].seq),
            "beats are numbered upwards"
        );
    });
}

#[tokio::test]
async fn changes_are_told_at_once_and_pull_progress_once_a_second() {
    let coordinator = Coordinator::start().await;
    let node = Node::enrolled("changes", &coordinator).await;
    let agent = node.start(0);
    coordinator
        .until("the first beat", |state| state.accepted >= 1)
        .await;
    agent.set_live(vec![node::pulling(1, 0)]);
    coordinator
        .until("the pull", |state| {
            state
                .beats
                .last()
                .is_some_and(|beat| !beat.observed.is_empty())
        })
        .await;
    let before = coordinator.with(|state| state.accepted);
    // a pull that makes progress a hundred times a second
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for done in 1..=150 {
        agent.set_live(vec![node::pulling(1, done)]);
        pace.tick().await;
    }
    let beats = coordinator.with(|state| state.accepted) - before;
    assert!(
        (1..=3).contains(&beats),
        "{beats} beats in 1.5 s of progress"
    );
    agent.set_live(vec![running(1)]);
    coordinator
        .until("running", |state| {
            state.beats.last().is_some_and(|beat| {
                beat.observed
                    .iter()
                    .any(|rental| rental.started_at.is_some())
            })
        })
        .await;
    agent.stop().await;
    // and the answers reach the side that runs containers, with the moment at which their beats were sent
    let applied = agent_applied(&node);
    assert!(!applied.is_empty());
    coordinator.with(|state| {
        let sent: Vec<i64> = state.beats.iter().map(|beat| beat.sent_boot_ms).collect();
        assert!(applied.iter().all(|moment| sent.contains(moment)));
    });
}

fn agent_applied(node: &Node) -> Vec<i64> {
    node.applied.lock().expect("lock").clone()
}

#[tokio::test]
async fn a_nudge_on_the_link_brings_a_beat_at_once_and_the_link_comes_back() {
    let coordinator = Coordinator::start().await;
    let node = Node::enrolled("link", &coordinator).await;
    let agent = node.start_with_link();
    for round in 1..=2 {
        coordinator
            .until("the link", |state| state.links == round)
            .await;
        let before = coordinator.with(|state| state.accepted);
        coordinator.nudge();
        let asked = std::time::Duration::from_secs(2);
        tokio::time::timeout(
            asked,
            coordinator.until("a beat", |state| state.accepted > before),
        )
        .await
        .expect("sooner than the interval of 5 s");
        coordinator.ping();
        coordinator
            .until("the answer to a ping", |state| state.pongs == round)
            .await;
        coordinator.cut_links();
    }
    agent.stop().await;
    coordinator.with(|state| assert!(state.faults.is_empty(), "{:?}", state.faults));
}

#[tokio::test]
async fn an_agent_whose_link_is_refused_goes_on_by_beats() {
    let coordinator = Coordinator::start().await;
    coordinator.refuse_links(true);
    coordinator.set_interval_ms(100);
    let node = Node::enrolled("refused-link", &coordinator).await;
    let agent = node.start_with_link();
    coordinator
        .until("an attempt", |state| state.links >= 1)
        .await;
    let before = coordinator.with(|state| state.accepted);
    coordinator
        .until("more beats", |state| state.accepted > before + 3)
        .await;
    agent.stop().await;
}
