//! The agent restarts, the engine is killed: rentals go on.

use std::time::Duration;

use shared::{
    clock::{Clock, SystemClock},
    wire::desired::DesiredRental,
};
use tokio::runtime::Runtime;

use super::{
    engine::PrivateEngine,
    node::{LEASE_MS, Node},
};

/// Moments of a launch, from its first millisecond to beyond its end, at which the agent is killed.
const KILLS: u32 = 20;
const BETWEEN_KILLS: Duration = Duration::from_millis(25);

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_restarts_adopts_its_rentals_and_removes_orphans() {
    let node = Node::new("adopt");
    let neighbour = Node::new("adopt-neighbour");
    let agent = node.start().await;
    let theirs = neighbour.start().await;
    let rental = node.rental("busybox:latest", &["sleep", "600"]);
    let other = neighbour.rental("busybox:latest", &["sleep", "600"]);
    agent.wish(1, &[&rental], LEASE_MS).await;
    theirs.wish(1, &[&other], LEASE_MS).await;
    let before = agent.until_running(&rental).await;
    let neighbours = theirs.until_running(&other).await;
    agent.end().await;

    let mine = format!("ramarket.node={}", node.scope());
    let orphan = [
        "run",
        "-d",
        "--network",
        "none",
        "--label",
        &mine,
        "--label",
        "ramarket.rental=x",
        "busybox:latest",
        "sleep",
        "600",
    ];
    node.engine().docker(&orphan);
    assert_eq!(node.containers().len(), 2);

    let agent = node.start().await;
    let after = agent.until_running(&rental).await;
    assert_eq!(after, before, "same process, same start");
    node.until_containers(1).await;
    assert_eq!(
        *theirs.handle.live().borrow(),
        vec![neighbours],
        "another node's are not ours"
    );
    agent.end().await;
    theirs.end().await;
}

/// How often the engine started a container of this rental since `since_s`.
fn starts(node: &Node, rental: &DesiredRental, since_s: i64) -> usize {
    let label = format!("label=ramarket.rental={}", rental.rental_id);
    let (since, until) = (
        since_s.to_string(),
        (SystemClock.now().as_secs() + 1).to_string(),
    );
    let span = ["events", "--since", &since, "--until", &until];
    let filter = ["--filter", "event=start", "--filter", &label];
    let events = node.engine().docker(&[&span[..], &filter].concat());
    events.lines().count()
}

#[test]
fn an_agent_killed_at_any_moment_of_a_launch_starts_each_rental_once() {
    let node = Node::new("agent-killed");
    let old = node.rental("busybox:latest", &["sleep", "600"]);
    let machine = Runtime::new().expect("a runtime");
    let before = machine.block_on(async {
        let agent = node.start().await;
        agent.wish(1, &[&old], LEASE_MS).await;
        agent.until_running(&old).await
    });
    machine.shutdown_background();
    for kill in 0..KILLS {
        let new = node.rental("busybox:latest", &["sleep", "600"]);
        let begun_s = SystemClock.now().as_secs();
        let generation = i64::from(kill) + 2;
        let machine = Runtime::new().expect("a runtime");
        machine.block_on(async {
            let agent = node.start().await;
            agent.wish(generation, &[&old, &new], LEASE_MS).await;
            // the moment of the kill: this much later, whatever the agent has done by then
            let moment = tokio::time::Instant::now() + BETWEEN_KILLS * kill;
            tokio::time::interval_at(moment, BETWEEN_KILLS).tick().await;
        });
        // as `kill -9` would: every task is gone in the middle of what it did
        machine.shutdown_background();

        let machine = Runtime::new().expect("a runtime");
        machine.block_on(async {
            let agent = node.start().await;
            let found = agent.until_running(&new).await;
            assert_eq!(agent.until_running(&old).await, before, "kill {kill}");
            node.until_containers(2).await;
            assert_eq!(starts(&node, &new, begun_s), 1, "kill {kill}: {found:?}");
            agent.end().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_killed_and_started_again_keeps_rentals_and_the_agent_goes_on() {
    let mut engine = PrivateEngine::start();
    {
        let node = Node::on(engine.address(), "engine-killed");
        let agent = node.start().await;
        let first = node.rental("busybox:latest", &["sleep", "600"]);
        agent.wish(1, &[&first], LEASE_MS).await;
        let before = agent.until_running(&first).await;
        for generation in 2..5 {
            engine.kill();
            let next = node.rental("busybox:latest", &["sleep", "600"]);
            agent.wish(generation, &[&first, &next], LEASE_MS).await;
            let seen = agent.handle.live().borrow().clone();
            assert!(
                seen.contains(&before),
                "nothing is lost while the engine is away: {seen:?}"
            );
            engine.restart();
            let started = agent.until_running(&next).await;
            let after = agent.until_running(&first).await;
            assert_eq!(after, before, "same process, same start");
            assert_ne!(started.pid, before.pid);
            node.until_containers(2).await;
        }
        // events come from the new engine as well
        let live = agent.until_running(&first).await;
        let container = live.observed.container_id.expect("there");
        engine.address().docker(&["kill", &container]);
        let exited = shared::wire::observed::ExitCause::Itself;
        agent.until_exited(&first, exited).await;
        agent.end().await;
    }
    drop(engine);
}
