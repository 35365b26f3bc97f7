//! What the reconciler adds to a launch: the time from a reply to "it runs", less Docker's own create and start.

use std::time::Duration;

use bollard::{Docker, query_parameters::CreateContainerOptions};
use node_agent::runtime::{docker::DockerRuntime, profile};
use tokio::time::Instant;

use super::node::{LEASE_MS, Node};

/// Pairs that are measured; odd, for a middle one.
const PAIRS: usize = 11;
/// On a quiet machine the middle is some milliseconds. Here other tests run beside it, so this only catches a lost event, a poll or
/// a wait: each of those costs hundreds.
const SHARE_MAX: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn the_reconcilers_share_of_a_launch_is_small() {
    let node = Node::new("latency");
    let agent = node.start().await;
    // of another node, or the agent would take it for an orphan
    let neighbour = Node::new("latency-bare");
    let docker = Docker::connect_with_unix(&node.engine().host(), 60, bollard::API_DEFAULT_VERSION);
    let docker = docker
        .expect("a socket")
        .negotiate_version()
        .await
        .expect("an engine");
    let runtime = DockerRuntime::new(Some(&node.engine().host()), neighbour.scope().to_owned());
    let runtime = runtime.expect("a socket");
    let mut shares = Vec::new();
    // all stay: a removal beside the next launch would be measured with it
    let mut rentals = Vec::new();
    for pair in 0..PAIRS {
        rentals.push(node.rental("busybox:latest", &["sleep", "600"]));
        let generation = i64::try_from(pair).expect("small") + 1;
        let all: Vec<_> = rentals.iter().collect();
        let begun = Instant::now();
        agent.wish(generation, &all, LEASE_MS).await;
        agent.until_running(&rentals[pair]).await;
        let whole = begun.elapsed();

        // the same container, on a network that was made before as the agent's was, by Docker's two calls alone
        let bare = neighbour.rental("busybox:latest", &["sleep", "600"]);
        let network = runtime.spare_network().await.expect("a network");
        let body = runtime.body(&bare, &network).await;
        let body = body.expect("an engine").expect("an image");
        let named = CreateContainerOptions {
            name: Some(profile::name(bare.rental_id)),
            ..CreateContainerOptions::default()
        };
        let begun = Instant::now();
        let created = docker
            .create_container(Some(named), body)
            .await
            .expect("created");
        docker
            .start_container(&created.id, None)
            .await
            .expect("started");
        let bare = begun.elapsed();
        eprintln!("launch {whole:?}, create and start alone {bare:?}");
        shares.push(whole.saturating_sub(bare));
    }
    shares.sort();
    let middle = shares[PAIRS / 2];
    eprintln!("share of a launch: middle {middle:?}, all {shares:?}");
    assert!(middle < SHARE_MAX, "{shares:?}");
    agent.end().await;
}
