//! The loop over a simulated engine: what an agent does over restarts, outages and a market that changes its mind.

use shared::{
    clock::ManualClock,
    container::RawSpec,
    id::{Ids, RentalId},
    image::{Digest, RegistryAuth, rules::PinnedImage},
    journal::Exit,
    resources::Resources,
    time::Timestamp,
    wire::{
        desired::{DesiredRental, Wanted},
        observed::ExitCause,
    },
};

use super::*;
use crate::{
    kept::Limits,
    runtime::{
        Container, ContainerState, RuntimeError, code,
        fake::{FakeRuntime, Op},
    },
    testing::TempDir,
};

const LEASE_MS: i64 = 60_000;
/// Longer than anything here takes on a busy machine; a failing test ends then.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node whose engine and disk outlive its agent.
struct Node {
    folder: TempDir,
    clock: ManualClock,
    engine: FakeRuntime,
    ids: Ids,
}

/// An agent's reconciler.
struct Agent {
    handle: Handle,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Node {
    fn new() -> Self {
        let clock = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
        let engine = FakeRuntime::new(Arc::new(clock.clone()));
        engine.add_image("busybox", false);
        Self {
            folder: TempDir::new(),
            clock,
            engine,
            ids: Ids::counting(),
        }
    }

    fn kept(&self) -> KeptLogs {
        let limits = Limits {
            bytes: 1 << 20,
            keep_ms: 1 << 40,
        };
        let folder = self.folder.path().join("logs");
        KeptLogs::open(folder, limits, Arc::new(self.clock.clone())).expect("a folder")
    }

    async fn start(&self) -> Agent {
        let shutdown = CancellationToken::new();
        let tracker = TaskTracker::new();
        let handle = start(
            self.folder.path(),
            Arc::new(self.engine.clone()),
            Arc::new(self.kept()),
            Arc::new(self.clock.clone()),
            "boot-a".to_owned(),
            shutdown.clone(),
            &tracker,
        )
        .await
        .expect("started");
        Agent {
            handle,
            shutdown,
            tracker,
        }
    }

    fn rental(&self, image: &str) -> DesiredRental {
        let spec = RawSpec {
            image: image.to_owned(),
            ..RawSpec::default()
        };
        DesiredRental {
            rental_id: self.ids.mint(),
            lease_id: self.ids.mint(),
            wanted: Wanted::Run,
            spec: spec.try_into().expect("valid"),
            resources: Resources {
                ram_bytes: 64 << 20,
                cpu_millis: 100,
                ..Resources::default()
            },
            gpus: Vec::new(),
            internet: true,
            isolation: None,
            image: None,
            private_image: false,
        }
    }

    /// The market's reply: these rentals, each with a lease of 60 s.
    async fn wish(&self, agent: &Agent, generation: i64, rentals: &[DesiredRental]) {
        let leases = rentals.iter().map(|rental| Lease {
            rental_id: rental.rental_id,
            lease_id: rental.lease_id,
            lease_ms: LEASE_MS,
        });
        let desired = DesiredState {
            generation,
            rentals: rentals.to_vec(),
        };
        let sent_boot_ms = self.clock.boot_ms();
        agent
            .handle
            .apply(desired, leases.collect(), sent_boot_ms)
            .await
            .expect("durable");
    }

    fn container_of(&self, rental_id: RentalId) -> Option<Container> {
        let mut all = self.engine.containers().into_iter();
        all.find(|container| container.rental_id == Some(rental_id))
    }

    async fn until_engine(&self, what: &str, holds: impl Fn(&FakeRuntime) -> bool) {
        let mut look = tokio::time::interval(Duration::from_millis(2));
        let wait = async {
            while !holds(&self.engine) {
                look.tick().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(
            waited.is_ok(),
            "never: {what}: {:?}",
            self.engine.containers()
        );
    }
}

impl Agent {
    async fn until(&self, what: &str, holds: impl Fn(&[LiveRental]) -> bool) {
        let mut live = self.handle.live();
        let waited = tokio::time::timeout(PATIENCE, live.wait_for(|live| holds(live))).await;
        assert!(
            waited.is_ok(),
            "never: {what}: {:?}",
            *self.handle.live().borrow()
        );
    }

    async fn until_phase(&self, rental: &DesiredRental, holds: impl Fn(&Phase) -> bool) {
        let mine = |live: &[LiveRental]| {
            let mut live = live.iter();
            live.find(|live| live.observed.rental_id == rental.rental_id)
                .is_some_and(|live| holds(&live.observed.phase))
        };
        self.until("the phase", mine).await;
    }

    async fn until_failed(&self, rental: &DesiredRental, wanted: &str) {
        self.until_phase(
            rental,
            |phase| matches!(phase, Phase::Failed { code, .. } if code == wanted),
        )
        .await;
    }

    async fn until_running(&self, rental: &DesiredRental) {
        self.until_phase(rental, |phase| *phase == Phase::Running)
            .await;
    }

    async fn until_exited(&self, rental: &DesiredRental, by: ExitCause) {
        self.until_phase(
            rental,
            |phase| matches!(phase, Phase::Exited { cause, .. } if *cause == by),
        )
        .await;
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[tokio::test]
async fn a_rental_runs_until_it_is_stopped_and_removed() {
    let node = Node::new();
    let agent = node.start().await;
    let mut rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    assert_eq!(agent.handle.generation(), 1);
    let live = agent.handle.live().borrow()[0].clone();
    let container = node.container_of(rental.rental_id).expect("there");
    assert_eq!(live.pid, container.pid);
    assert!(live.pid.is_some());
    assert_eq!(live.observed.container_id, Some(container.id));
    assert_eq!(live.observed.started_at, container.started_at);
    assert_eq!(live.spec_sha256, rental.spec.sha256_hex());

    rental.wanted = Wanted::Stop;
    node.wish(&agent, 2, std::slice::from_ref(&rental)).await;
    agent.until_exited(&rental, ExitCause::Wanted).await;
    assert!(
        node.container_of(rental.rental_id).is_some(),
        "kept to be read"
    );
    node.wish(&agent, 3, &[]).await;
    node.until_engine("no container", |e| e.containers().is_empty())
        .await;
    agent.until("nothing live", <[LiveRental]>::is_empty).await;
    agent.end().await;
}

#[tokio::test]
async fn a_restarted_agent_finds_its_rentals_and_says_why_they_ended() {
    let node = Node::new();
    let agent = node.start().await;
    let rental = node.rental("busybox");
    let other = node.rental("busybox");
    node.wish(&agent, 1, &[rental.clone(), other.clone()]).await;
    agent.until_running(&rental).await;
    agent.until_running(&other).await;
    let before = node.container_of(rental.rental_id);
    node.engine.exit(
        other.rental_id,
        Exit {
            code: 3,
            oom_killed: false,
        },
    );
    agent.until_exited(&other, ExitCause::Itself).await;
    agent.end().await;
    assert_eq!(
        node.container_of(rental.rental_id),
        before,
        "the end of an agent stops nothing"
    );

    let agent = node.start().await;
    // known before anything is waited for: the first beat tells the truth
    assert_eq!(agent.handle.live().borrow().len(), 2);
    agent.until_running(&rental).await;
    agent.until_exited(&other, ExitCause::Itself).await;
    node.clock.advance_ms(LEASE_MS);
    agent.until_exited(&rental, ExitCause::LeaseEnded).await;
    agent.end().await;

    let agent = node.start().await;
    agent.until_exited(&rental, ExitCause::LeaseEnded).await;
    node.wish(&agent, 1, &[rental.clone(), other.clone()]).await;
    agent.until_exited(&rental, ExitCause::LeaseEnded).await;
    assert_eq!(
        node.engine.calls(Op::Start),
        2,
        "what ended is not started again"
    );
    agent.end().await;
}

#[tokio::test]
async fn a_lease_that_ended_while_no_agent_ran_stops_the_rental_at_once() {
    let node = Node::new();
    let agent = node.start().await;
    let rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    agent.end().await;
    node.clock.advance_ms(LEASE_MS + 1);
    let agent = node.start().await;
    agent.until_exited(&rental, ExitCause::LeaseEnded).await;
    agent.end().await;
    assert_eq!(node.engine.graces(), [Duration::ZERO], "nothing runs on");
}

#[tokio::test]
async fn who_is_stopped_gets_time_to_end_but_none_beyond_the_lease() {
    let node = Node::new();
    let agent = node.start().await;
    let mut rental = node.rental("busybox");
    let mut late = node.rental("busybox");
    node.wish(&agent, 1, &[rental.clone(), late.clone()]).await;
    agent.until_running(&rental).await;
    agent.until_running(&late).await;
    rental.wanted = Wanted::Stop;
    node.wish(&agent, 2, &[rental.clone(), late.clone()]).await;
    agent.until_exited(&rental, ExitCause::Wanted).await;
    node.clock.advance_ms(LEASE_MS - 3_000);
    late.wanted = Wanted::Stop;
    let desired = DesiredState {
        generation: 3,
        rentals: vec![rental, late.clone()],
    };
    let sent_boot_ms = node.clock.boot_ms();
    let applied = agent.handle.apply(desired, Vec::new(), sent_boot_ms).await;
    applied.expect("durable");
    agent.until_exited(&late, ExitCause::Wanted).await;
    agent.end().await;
    let seconds = node.engine.graces();
    assert_eq!(seconds, [10, 3].map(Duration::from_secs));
}

#[tokio::test]
async fn an_engine_that_is_away_makes_nothing_lost() {
    let node = Node::new();
    let agent = node.start().await;
    let rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    node.engine.set_down(true);
    let asked = node.engine.calls(Op::List);
    node.until_engine("asked again", |e| e.calls(Op::List) >= asked + 3)
        .await;
    assert_eq!(
        agent.handle.live().borrow()[0].observed.phase,
        Phase::Running
    );
    let late = node.rental("busybox");
    node.wish(&agent, 2, &[rental.clone(), late.clone()]).await;
    node.engine.set_down(false);
    agent.until_running(&late).await;
    agent.until_running(&rental).await;
    assert_eq!(node.engine.calls(Op::Create), 2);
    agent.end().await;
}

#[tokio::test]
async fn an_agent_that_starts_before_the_engine_says_nothing_and_then_the_truth() {
    let node = Node::new();
    let agent = node.start().await;
    let rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    agent.end().await;
    node.engine.set_down(true);
    let agent = node.start().await;
    assert!(agent.handle.live().borrow().is_empty());
    node.engine.set_down(false);
    agent.until_running(&rental).await;
    agent.end().await;
}

#[tokio::test]
async fn a_container_removed_by_someone_else_is_lost_and_not_made_again() {
    let node = Node::new();
    let agent = node.start().await;
    let rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    let container = node.container_of(rental.rental_id).expect("there");
    node.engine.vanish(&container.id);
    agent.until_failed(&rental, code::CONTAINER_LOST).await;
    agent.end().await;
    let agent = node.start().await;
    agent.until_failed(&rental, code::CONTAINER_LOST).await;
    assert_eq!(node.engine.calls(Op::Create), 1);
    agent.end().await;
}

#[tokio::test]
async fn orphans_go_only_once_the_desired_state_is_known() {
    let node = Node::new();
    let agent = node.start().await;
    let rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    agent.end().await;

    std::fs::write(node.folder.path().join("desired.json"), b"torn").expect("written");
    let orphan = Container {
        id: "f".repeat(64),
        rental_id: None,
        ..node.container_of(rental.rental_id).expect("there")
    };
    node.engine.put(&orphan);
    let agent = node.start().await;
    assert_eq!(agent.handle.generation(), 0);
    agent.until_running(&rental).await;
    assert_eq!(node.engine.containers().len(), 2, "nothing is touched");

    node.wish(&agent, 2, std::slice::from_ref(&rental)).await;
    node.until_engine("the orphan is gone", |e| e.containers().len() == 1)
        .await;
    agent.until_running(&rental).await;
    assert_eq!(node.engine.calls(Op::Create), 1);
    agent.end().await;
}

#[tokio::test]
async fn a_slow_pull_holds_nobody_up_and_can_be_called_off() {
    let node = Node::new();
    node.engine.add_to_registry("big");
    node.engine.hold(Op::Pull);
    let agent = node.start().await;
    let mut slow = node.rental("big");
    let quick = node.rental("busybox");
    node.wish(&agent, 1, &[slow.clone(), quick.clone()]).await;
    agent
        .until_phase(&slow, |phase| matches!(phase, Phase::Pulling { .. }))
        .await;
    agent.until_running(&quick).await;
    slow.wanted = Wanted::Stop;
    node.wish(&agent, 2, &[slow.clone(), quick.clone()]).await;
    agent.until_failed(&slow, code::STOPPED_BEFORE_START).await;
    agent.end().await;
}

#[tokio::test]
async fn a_private_image_waits_for_its_credentials_and_is_fetched_as_it_was_quoted() {
    let node = Node::new();
    node.engine.add_to_registry("private");
    let agent = node.start().await;
    let mut rental = node.rental("private");
    rental.private_image = true;
    rental.image = Some(PinnedImage {
        digest: Digest::of(b"quoted"),
        layers: 1,
        bytes: 1,
    });
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    node.until_engine("a try", |engine| engine.calls(Op::Create) >= 2)
        .await;
    assert!(node.engine.fetched().is_empty(), "not without credentials");
    let auth = RegistryAuth::new("ada".to_owned(), "hush-4711".to_owned()).expect("fine");
    agent.handle.take_secrets(vec![PullSecret {
        rental_id: rental.rental_id,
        auth: auth.clone(),
    }]);
    agent.until_running(&rental).await;
    let fetched = node.engine.fetched();
    assert_eq!(fetched[0].auth.as_ref(), Some(&auth));
    assert_eq!(fetched[0].pinned, rental.image);
    agent.end().await;
    for entry in std::fs::read_dir(node.folder.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read(&path).unwrap_or_default();
        let held = text.windows(9).any(|part| part == b"hush-4711");
        assert!(!held, "{} holds it", path.display());
    }
}

#[tokio::test]
async fn a_pull_ends_in_a_running_rental() {
    let node = Node::new();
    node.engine.add_to_registry("big");
    let trouble = RuntimeError::refused(code::IMAGE_PULL_FAILED, "the line broke");
    node.engine.fail_next(Op::Pull, trouble);
    let agent = node.start().await;
    let rental = node.rental("big");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    assert_eq!(node.engine.calls(Op::Pull), 2);
    agent.end().await;
}

#[tokio::test]
async fn what_cant_start_fails_with_its_code_and_leaves_nothing() {
    let node = Node::new();
    node.engine.add_image("volumes", true);
    let agent = node.start().await;
    let absent = node.rental("nowhere");
    let volumes = node.rental("volumes");
    let mut gpu = node.rental("busybox");
    gpu.resources.gpu_count = 1;
    let all = [absent.clone(), volumes.clone(), gpu.clone()];
    node.wish(&agent, 1, &all).await;
    agent.until_failed(&absent, code::IMAGE_NOT_FOUND).await;
    agent
        .until_failed(&volumes, code::IMAGE_NOT_SUPPORTED)
        .await;
    agent.until_failed(&gpu, code::NOT_SUPPORTED).await;

    let refusal = RuntimeError::refused(code::START_FAILED, "no such command");
    node.engine.fail_next(Op::Start, refusal);
    let unstartable = node.rental("busybox");
    node.wish(&agent, 2, std::slice::from_ref(&unstartable))
        .await;
    agent.until_failed(&unstartable, code::START_FAILED).await;
    node.until_engine("nothing is left", |e| e.containers().is_empty())
        .await;
    agent.until_failed(&unstartable, code::START_FAILED).await;
    agent.end().await;
}

#[tokio::test]
async fn an_engine_that_breaks_off_at_each_call_costs_a_retry_and_nothing_else() {
    for op in [Op::Create, Op::Start, Op::Inspect, Op::List] {
        let node = Node::new();
        let agent = node.start().await;
        let rental = node.rental("busybox");
        let broke = RuntimeError::Unavailable("it broke off".to_owned());
        node.engine.fail_next(op, broke);
        node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
        agent.until_running(&rental).await;
        assert_eq!(node.engine.containers().len(), 1, "{op:?}");
        agent.end().await;
    }
}

#[tokio::test]
async fn a_failed_stop_is_tried_again() {
    let node = Node::new();
    let agent = node.start().await;
    let mut rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    let refusal = RuntimeError::refused(code::ENGINE_REFUSED, "could not kill");
    node.engine.fail_next(Op::Stop, refusal);
    rental.wanted = Wanted::Stop;
    node.wish(&agent, 2, std::slice::from_ref(&rental)).await;
    agent.until_exited(&rental, ExitCause::Wanted).await;
    assert_eq!(node.engine.calls(Op::Stop), 2);
    agent.end().await;
}

#[test]
fn an_agent_killed_between_create_and_start_starts_what_it_created() {
    let node = Node::new();
    let rental = node.rental("busybox");
    node.engine.hold(Op::Start);
    let machine = tokio::runtime::Runtime::new().expect("a runtime");
    machine.block_on(async {
        let agent = node.start().await;
        node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
        node.until_engine("start is called", |e| e.calls(Op::Start) == 1)
            .await;
    });
    // as `kill -9` would: all tasks are gone in the middle of what they did, only disk and engine stay
    machine.shutdown_background();
    let created = node.container_of(rental.rental_id).expect("created");
    assert_eq!(created.state, ContainerState::Created);

    node.engine.release(Op::Start);
    let machine = tokio::runtime::Runtime::new().expect("a runtime");
    machine.block_on(async {
        let agent = node.start().await;
        agent.until_running(&rental).await;
        let container = node.container_of(rental.rental_id).expect("there");
        assert_eq!(container.id, created.id);
        agent.end().await;
    });
}

#[tokio::test]
async fn a_rental_under_another_lease_replaces_the_old_one() {
    let node = Node::new();
    let agent = node.start().await;
    let mut rental = node.rental("busybox");
    node.wish(&agent, 1, std::slice::from_ref(&rental)).await;
    agent.until_running(&rental).await;
    let old = node.container_of(rental.rental_id).expect("there");
    rental.lease_id = node.ids.mint();
    node.wish(&agent, 2, std::slice::from_ref(&rental)).await;
    let wanted = rental.lease_id;
    agent
        .until("the new lease runs", |live| {
            live.iter()
                .any(|r| r.observed.lease_id == wanted && r.observed.phase == Phase::Running)
        })
        .await;
    let new = node.container_of(rental.rental_id).expect("there");
    assert_ne!(new.id, old.id);
    assert_eq!(node.engine.containers().len(), 1);
    agent.end().await;
}
