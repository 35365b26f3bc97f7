//! GPUs as the engine hands them on. There is none here: the engine's own code runs, and NVIDIA's hook is a program that only says that it
//! was called.

use shared::{resources::Resources, wire::desired::DesiredRental};
use system_tests::wait::came_to_hold;

use super::{
    engine::PrivateEngine,
    node::{LEASE_MS, Node},
};

/// What the engine looks for when it starts; without it it knows no GPUs.
const HOOK: (&str, &str) = (
    "nvidia-container-runtime-hook",
    "#!/bin/sh\ntest \"$1\" = prestart\n",
);

fn with_gpus(rental: DesiredRental, uuids: &[&str]) -> DesiredRental {
    DesiredRental {
        resources: Resources {
            gpu_count: i64::try_from(uuids.len()).expect("few"),
            ..rental.resources
        },
        gpus: uuids.iter().map(|&uuid| uuid.to_owned()).collect(),
        ..rental
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_gets_the_gpus_that_it_is_named_and_no_other() {
    let engine = PrivateEngine::start_with(&[HOOK]);
    let node = Node::on(engine.address(), "gpus");
    let agent = node.start().await;
    let show = "echo \"[$NVIDIA_VISIBLE_DEVICES]\"; sleep 600";
    let rental = node.rental("busybox:latest", &["sh", "-c", show]);
    let rental = with_gpus(rental, &["GPU-8f6a-1", "GPU-8f6a-2"]);
    agent.wish(1, &[&rental], LEASE_MS).await;
    let live = agent.until_running(&rental).await;
    assert_eq!(live.gpus, rental.gpus, "from its labels");
    let container = live.observed.container_id.expect("it runs");
    let said = || node.engine().docker(&["logs", &container]);
    assert!(came_to_hold(|| !said().is_empty()));
    assert_eq!(said(), "[GPU-8f6a-1,GPU-8f6a-2]");
    let asked = "{{range .HostConfig.DeviceRequests}}{{.Driver}} {{.Count}} {{.DeviceIDs}}{{end}}";
    assert_eq!(
        node.engine().docker(&["inspect", "-f", asked, &container]),
        "nvidia 0 [GPU-8f6a-1 GPU-8f6a-2]"
    );
    agent.end().await;
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_the_toolkit_starts_nothing_and_says_why() {
    let node = Node::new("no-toolkit");
    let agent = node.start().await;
    let rental = node.rental("busybox:latest", &["sleep", "600"]);
    let rental = with_gpus(rental, &["GPU-8f6a-1"]);
    agent.wish(1, &[&rental], LEASE_MS).await;
    let reason = agent.until_failed(&rental, "start_failed").await;
    assert!(reason.contains("nvidia"), "{reason}");
    node.until_containers(0).await;
    agent.end().await;
}
