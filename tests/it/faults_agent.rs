//! The agent is killed or replaced at any moment: rentals don't notice, and what they cost doesn't change.

use std::process::Command;

use system_tests::{containers::Engine, market::Store, node::Node, payer::Rented, people};

use crate::faults_support::{Chance, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_it_touches_no_rental_and_starts_none_twice() {
    let mut chance = Chance::new("faults_agent");
    let mut stage = Stage::new(Store::Sqlite, &[]).await;
    let rentals = [stage.running().await, stage.running().await];
    let mut third: Option<Rented> = None;
    for moment in 0..Chance::moments() {
        match (moment % 3, third.take()) {
            // in the middle of a launch
            (0, None) => {
                let launched = stage.rent().await;
                chance.moment(0..400).await;
                restart(&mut stage.node, &mut chance).await;
                launched.until("running").await;
                stage.untouched(&rentals, 1).await;
                third = Some(launched);
            }
            // in the middle of a stop
            (1, Some(stopped)) => {
                stopped.stop().await;
                chance.moment(0..400).await;
                restart(&mut stage.node, &mut chance).await;
                stage.billed_as_docker_says(&stopped, 0).await;
                stage.untouched(&rentals, 0).await;
            }
            _ => {
                chance.moment(0..1_500).await;
                restart(&mut stage.node, &mut chance).await;
                stage.untouched(&rentals, 0).await;
            }
        }
    }
    if let Some(third) = third {
        third.stop().await;
        stage.billed_as_docker_says(&third, 0).await;
    }
    stage.end(&rentals, 0).await;
}

/// Kills the agent, leaves it away for a moment, and starts it again.
async fn restart(node: &mut Node, chance: &mut Chance) {
    node.kill9();
    chance.moment(0..1_000).await;
    node.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_by_another_binary_it_goes_on_and_removes_orphans_of_its_own_only() {
    let mut stage = Stage::new(Store::Sqlite, &[]).await;
    let rentals = [stage.running().await, stage.running().await];
    let neighbours = people::signup(&stage.market, "neighbour", &["provider"]).await;
    let neighbour = Node::enrol(Engine::shared(), &stage.market, &neighbours).await;
    stage.node.stop();
    stage.untouched(&rentals, 0).await;
    stray(&stage.node);
    stray(&neighbour);

    let command = stage.node.command(&["run"]);
    let newer = stage.node.data_dir().with_file_name("ramarket-agent-2");
    std::fs::copy(command.get_program(), &newer).expect("a copy");
    let mut by_newer = Command::new(&newer);
    by_newer.args(command.get_args());
    stage.node.launch_by(by_newer);
    let runs = std::fs::read_link(format!("/proc/{}/exe", stage.node.pid()));
    assert_eq!(runs.expect("it runs"), newer);
    // the orphan goes, the neighbour's stays
    stage.untouched(&rentals, 0).await;
    let theirs = Engine::shared().of_node(neighbour.id()).await;
    assert_eq!(theirs.len(), 1, "the neighbour's container: {theirs:?}");
    stage.end(&rentals, 0).await;
}

/// A container with a node's label, of a rental that nobody knows.
fn stray(node: &Node) {
    let label = format!("ramarket.node={}", node.id());
    let started = node.engine().docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--label",
        &label,
        "--label",
        "ramarket.rental=rnt_00000000000000000000000000000000",
        "busybox:latest",
        "sleep",
        "600",
    ]);
    assert!(!started.is_empty());
}
