//! Agent and helper are killed at any moment, one or both, also between the creation of a container and its start: rentals don't notice,
//! none is started twice, and what nobody knows of is gone within a minute.

use std::time::Duration;

use shared::clock::{Clock as _, SystemClock};
use system_tests::{containers::Facts, market::Store, node::Node, payer::Rented, wait};

use crate::faults_support::{Chance, Stage, is_full};

/// Kills of `make test`, and of `make test-full`.
const REDUCED: u32 = 20;
const FULL: u32 = 200;
/// By when an orphan is gone.
const ORPHAN_MS_MAX: i64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    Helper,
    Both,
}

impl Victim {
    fn kill(self, node: &mut Node) {
        if self != Self::Helper {
            node.kill9();
        }
        if self != Self::Agent {
            node.kill9_helper();
        }
    }

    /// Starts what was killed.
    fn revive(self, node: &mut Node) {
        match self {
            Self::Helper => node.launch_helper(),
            Self::Agent | Self::Both => node.launch(),
        }
    }
}

/// What came of the kills.
#[derive(Debug, Default)]
struct Count {
    of_agent: u32,
    of_helper: u32,
    of_both: u32,
    /// Between a container's creation and its start.
    between: u32,
    orphans: u32,
    slowest_orphan_ms: i64,
}

impl Count {
    fn take(&mut self, victim: Victim) {
        *match victim {
            Victim::Agent => &mut self.of_agent,
            Victim::Helper => &mut self.of_helper,
            Victim::Both => &mut self.of_both,
        } += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_and_helper_killed_at_random_moments_touch_no_rental_and_start_none_twice() {
    let kills = if is_full() { FULL } else { REDUCED };
    let mut chance = Chance::new("faults_boundary");
    let mut stage = Stage::new(Store::Sqlite, &[]).await;
    let rentals = [stage.running().await, stage.running().await];
    let mut third: Option<Rented> = None;
    let mut count = Count::default();
    for kill in 0..kills {
        let victim = chance.pick(&[Victim::Agent, Victim::Helper, Victim::Both]);
        count.take(victim);
        match (kill % 4, third.take()) {
            // in the middle of a launch
            (0 | 2, None) => {
                let launched = stage.rent().await;
                if chance.pick(&[true, false]) {
                    until_created(&stage, &launched).await;
                } else {
                    chance.moment(0..400).await;
                }
                victim.kill(&mut stage.node);
                count.between += u32::from(is_between(&stage, &launched).await);
                chance.moment(0..500).await;
                victim.revive(&mut stage.node);
                launched.until("running").await;
                stage.untouched(&rentals, 1).await;
                third = Some(launched);
            }
            // in the middle of a stop
            (1, Some(stopped)) => {
                stopped.stop().await;
                chance.moment(0..400).await;
                victim.kill(&mut stage.node);
                chance.moment(0..500).await;
                victim.revive(&mut stage.node);
                stage.billed_as_docker_says(&stopped, 0).await;
                stage.untouched(&rentals, 0).await;
            }
            // while a container is there that nobody knows of
            (3, kept) => {
                victim.kill(&mut stage.node);
                stray(&stage.node);
                let revived_at = SystemClock.now();
                victim.revive(&mut stage.node);
                stage.untouched(&rentals, usize::from(kept.is_some())).await;
                let took_ms = SystemClock.now().ms_since(revived_at);
                assert!(
                    took_ms <= ORPHAN_MS_MAX,
                    "an orphan was there for {took_ms} ms"
                );
                count.orphans += 1;
                count.slowest_orphan_ms = count.slowest_orphan_ms.max(took_ms);
                third = kept;
            }
            (_, kept) => {
                chance.moment(0..800).await;
                victim.kill(&mut stage.node);
                chance.moment(0..300).await;
                victim.revive(&mut stage.node);
                stage.untouched(&rentals, usize::from(kept.is_some())).await;
                third = kept;
            }
        }
    }
    eprintln!("faults_boundary: {kills} kills, 0 restarts, 0 duplicates: {count:?}");
    if let Some(third) = third {
        third.stop().await;
        stage.billed_as_docker_says(&third, 0).await;
    }
    stage.end(&rentals, 0).await;
}

/// Waits until the rental's container is there, started or not.
async fn until_created(stage: &Stage, launched: &Rented) {
    wait::until("the container is created", || async {
        stage.node.engine().of_rental(&launched.id).await
    })
    .await;
}

/// Whether the rental's container is there and was never started.
async fn is_between(stage: &Stage, launched: &Rented) -> bool {
    let facts = stage.node.engine().of_rental(&launched.id).await;
    let unstarted = |facts: Facts| facts.started_at.is_none();
    facts.is_some_and(unstarted)
}

/// A container with the node's label, of a rental that nobody knows; started while neither looks.
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

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_its_helper_says_so_and_goes_on_when_it_is_there() {
    let mut stage = Stage::new(Store::Sqlite, &[]).await;
    let rentals = [stage.running().await];
    stage.node.kill9_helper();
    // ordered while nothing can be done about it
    let ordered = stage.rent().await;
    wait::pass(Duration::from_millis(500)).await;
    stage.untouched(&rentals, 0).await;
    stage.node.launch_helper();
    ordered.until("running").await;
    stage.untouched(&rentals, 1).await;
    ordered.stop().await;
    stage.billed_as_docker_says(&ordered, 0).await;
    stage.end(&rentals, 0).await;
}
