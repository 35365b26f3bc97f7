//! The agent restarts, the engine is killed: rentals go on.

use super::{
    engine::PrivateEngine,
    node::{LEASE_MS, Node},
};

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
