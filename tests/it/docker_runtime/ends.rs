//! How rentals end or don't begin, and what is told about it.

use shared::{
    clock::{Clock, SystemClock},
    journal::Exit,
    wire::{
        desired::Wanted,
        observed::{ExitCause, Phase},
    },
};

use super::node::{LEASE_MS, Node};

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_that_is_stopped_ends_in_time_and_goes_when_the_market_lets_go() {
    let node = Node::new("stopped");
    let agent = node.start().await;
    // deaf to SIGTERM: the kill after 10 s must come
    let mut deaf = node.rental(
        "busybox:latest",
        &["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
    );
    let mut polite = node.rental(
        "busybox:latest",
        &[
            "sh",
            "-c",
            "trap 'exit 7' TERM; while :; do sleep 0.1; done",
        ],
    );
    agent.wish(1, &[&deaf, &polite], LEASE_MS).await;
    agent.until_running(&deaf).await;
    agent.until_running(&polite).await;
    deaf.wanted = Wanted::Stop;
    polite.wanted = Wanted::Stop;
    let asked_ms = SystemClock.boot_ms();
    agent.wish(2, &[&deaf, &polite], LEASE_MS).await;
    let live = agent.until_exited(&polite, ExitCause::Wanted).await;
    assert!(
        SystemClock.boot_ms() - asked_ms < 8_000,
        "nobody waits for the deaf one"
    );
    assert!(matches!(
        live.observed.phase,
        Phase::Exited {
            exit: Exit { code: 7, .. },
            ..
        }
    ));
    let live = agent.until_exited(&deaf, ExitCause::Wanted).await;
    assert!(matches!(
        live.observed.phase,
        Phase::Exited {
            exit: Exit {
                code: 137,
                oom_killed: false
            },
            ..
        }
    ));
    let took_ms = SystemClock.boot_ms() - asked_ms;
    assert!((10_000..15_000).contains(&took_ms), "{took_ms} ms");
    assert_eq!(node.containers().len(), 2, "kept to be read");
    agent.wish(3, &[], LEASE_MS).await;
    node.until_containers(0).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_that_ends_by_itself_tells_its_exit_code_and_stays_ended() {
    let node = Node::new("itself");
    let agent = node.start().await;
    let rental = node.rental("busybox:latest", &["sh", "-c", "exit 42"]);
    agent.wish(1, &[&rental], LEASE_MS).await;
    let live = agent.until_exited(&rental, ExitCause::Itself).await;
    assert!(matches!(
        live.observed.phase,
        Phase::Exited {
            exit: Exit { code: 42, .. },
            ..
        }
    ));
    assert_eq!(live.pid, None);
    agent.end().await;
    let agent = node.start().await;
    let again = agent.until_exited(&rental, ExitCause::Itself).await;
    assert_eq!(again, live);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_without_a_coordinator_stops_the_rental_in_time() {
    let node = Node::new("lease");
    let agent = node.start().await;
    let rental = node.rental("busybox:latest", &["sleep", "600"]);
    let sent_at = SystemClock.now();
    agent.wish(1, &[&rental], 4_000).await;
    agent.until_running(&rental).await;
    let live = agent.until_exited(&rental, ExitCause::LeaseEnded).await;
    let ran_ms = live
        .observed
        .finished_at
        .expect("it ended")
        .ms_since(sent_at);
    assert!(
        (3_900..5_000).contains(&ran_ms),
        "{ran_ms} ms after the beat was sent"
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_in_the_image_fails_and_leaves_nothing() {
    let node = Node::new("no-command");
    let agent = node.start().await;
    // Docker's init starts first and then can't find the command, so this one begins and ends at once
    let rental = node.rental("busybox:latest", &["/no/such/command"]);
    agent.wish(1, &[&rental], LEASE_MS).await;
    let live = agent
        .until(&rental, |p| {
            matches!(p, Phase::Exited { .. } | Phase::Failed { .. })
        })
        .await;
    match live.observed.phase {
        Phase::Exited { exit, cause } => {
            assert_eq!((exit.code, cause), (127, ExitCause::Itself));
        }
        Phase::Failed { code, .. } => assert_eq!(code, "start_failed"),
        other => panic!("{other:?}"),
    }
    agent.wish(2, &[], LEASE_MS).await;
    node.until_containers(0).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_machine_has_fails_with_the_engines_words() {
    let node = Node::new("too-much");
    let agent = node.start().await;
    let mut rental = node.rental("busybox:latest", &["sleep", "600"]);
    rental.resources.cpu_millis = 4_000_000;
    agent.wish(1, &[&rental], LEASE_MS).await;
    let reason = agent.until_failed(&rental, "create_failed").await;
    assert!(reason.contains("CPUs"), "{reason}");
    assert_eq!(node.containers(), Vec::<String>::new());
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_volumes_is_refused() {
    let node = Node::new("volumes");
    let image = format!("{}:1", node.scope());
    let seed = node
        .engine()
        .docker(&["create", "--network", "none", "busybox:latest"]);
    let docker = |args: &[&str]| node.engine().docker(args);
    docker(&["commit", "--change", "VOLUME /data", &seed, &image]);
    docker(&["rm", &seed]);
    let agent = node.start().await;
    let rental = node.rental(&image, &["sleep", "600"]);
    agent.wish(1, &[&rental], LEASE_MS).await;
    let reason = agent.until_failed(&rental, "image_not_supported").await;
    docker(&["rmi", &image]);
    assert!(reason.contains("volumes"), "{reason}");
    assert_eq!(node.containers(), Vec::<String>::new());
    agent.end().await;
}
