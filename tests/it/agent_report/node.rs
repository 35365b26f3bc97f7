//! A node of the test: the agent's own parts, with a machine and containers that the test sets.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use node_agent::{
    boundary::HelperRuntime,
    config::Config,
    data_dir::DataDir,
    endpoint::BaseUrl,
    enroll::{Order, enroll},
    identity::Identity,
    journal::{Counters, Draft, Journal, Moment, Owner, verify_file},
    kept::KeptLogs,
    link,
    measure::Sampler,
    operator::orders::Orders,
    probe::{Prober, gpu::GpuProbe},
    rental::LiveRental,
    report::{self, Contact, Meter, Parts, Rentals, Reporter, samples::Samples},
    streams::{Sources, Streams},
};
use shared::{
    clock::{Clock, SystemClock},
    id::Ids,
    journal::{Exit, MeterState},
    resources::Inventory,
    secret::Secret,
    time::Timestamp,
    wire::{
        desired::{DesiredState, Lease},
        observed::{ExitCause, ObservedRental, Phase},
    },
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::coordinator::Coordinator;

/// How long a condition may take before the test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// A system clock whose wall clock is wrong.
#[derive(Debug, Default)]
pub(super) struct SkewedClock(AtomicI64);

impl SkewedClock {
    pub(super) fn step_wall_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_ms(self.0.load(Ordering::SeqCst))
    }

    fn boot_ms(&self) -> i64 {
        SystemClock.boot_ms()
    }
}

/// The side that runs containers, as far as the beat sees it.
struct FakeRentals {
    live: watch::Sender<Vec<LiveRental>>,
    applied: Arc<Mutex<Vec<i64>>>,
}

#[async_trait]
impl Rentals for FakeRentals {
    fn live(&self) -> watch::Receiver<Vec<LiveRental>> {
        self.live.subscribe()
    }

    fn generation(&self) -> i64 {
        0
    }

    async fn apply(
        &self,
        _desired: DesiredState,
        _leases: Vec<Lease>,
        sent_boot_ms: i64,
    ) -> anyhow::Result<()> {
        self.applied.lock().expect("lock").push(sent_boot_ms);
        Ok(())
    }
}

/// A machine with its data folder.
pub(super) struct Node {
    folder: PathBuf,
    pub(super) applied: Arc<Mutex<Vec<i64>>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The agent on a [`Node`].
pub(super) struct Agent {
    pub(super) reporter: Reporter,
    pub(super) clock: Arc<SkewedClock>,
    rentals: Arc<FakeRentals>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

fn inventory() -> Inventory {
    let mut prober = Prober::with_gpus(GpuProbe::new(None));
    let docker = Err("not asked".to_owned());
    prober.inventory(docker).expect("measured")
}

impl Node {
    pub(super) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("ramarket-it-{}-{number}-{name}", std::process::id());
        let node = Self {
            folder: std::env::temp_dir().join(folder),
            applied: Arc::default(),
        };
        node.dir().create().expect("folder");
        node.write_machine();
        node
    }

    pub(super) async fn enrolled(name: &str, coordinator: &Coordinator) -> Self {
        let node = Self::new(name);
        node.try_enroll(coordinator, false).await.expect("enrolled");
        node
    }

    fn dir(&self) -> DataDir {
        DataDir::new(self.folder.join("data"))
    }

    /// Control groups of the containers of [`running`].
    fn write_machine(&self) {
        let write = |path: &str, text: &str| {
            let path = self.folder.join("root").join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            std::fs::write(path, text).expect("written");
        };
        write(
            "proc/self/mountinfo",
            "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        );
        for number in 1..=3 {
            let container = container(number);
            write(
                &format!("proc/{number}/cgroup"),
                &format!("0::/docker/{container}\n"),
            );
            let base = format!("sys/fs/cgroup/docker/{container}");
            write(&format!("{base}/cpu.stat"), "usage_usec 1000\n");
            write(&format!("{base}/memory.current"), "1000000\n");
        }
    }

    pub(super) async fn try_enroll(
        &self,
        coordinator: &Coordinator,
        force: bool,
    ) -> anyhow::Result<Identity> {
        let order = Order {
            url: BaseUrl::to_connect(&coordinator.url())?,
            token: Secret::new("one-time".to_owned()),
            name: None,
            force,
        };
        enroll(&self.dir(), order, inventory(), &SystemClock).await
    }

    fn journal(&self, identity: &Identity) -> Journal {
        let owner = Owner {
            node_id: identity.node_id,
            key: Arc::clone(&identity.key),
            boot_id: "b".repeat(32),
            coordinator_key: identity.coordinator_key,
        };
        Journal::open(&self.dir().journal(), owner).expect("opened")
    }

    /// The newest record on disk; the agent may be running.
    pub(super) fn journal_seq(&self) -> i64 {
        let key = Identity::load(&self.dir()).expect("enrolled").key.public();
        let found = verify_file(&self.dir().journal(), &key).expect("one chain");
        found.head.seq
    }

    /// As if the agent had been cut off for long; returns the number of the last record.
    pub(super) fn write_backlog(&self, records: i64) -> i64 {
        let identity = Identity::load(&self.dir()).expect("enrolled");
        let mut journal = self.journal(&identity);
        let rental = running(1);
        for number in 0..records {
            let moment = Moment {
                beacon: "ab".repeat(16),
                t_wall: Timestamp::from_secs(number),
                t_boot_ms: number,
            };
            let draft = Draft {
                rental_id: rental.observed.rental_id,
                lease_id: rental.observed.lease_id,
                state: MeterState::Running,
                container_id: container(1),
                image_digest: String::new(),
                spec_sha256: rental.spec_sha256.clone(),
                started_at: rental.observed.started_at,
                finished_at: None,
                counters: Counters::default(),
                exit: None,
            };
            journal.append(&moment, vec![draft]).expect("appended");
        }
        journal.head().seq
    }

    pub(super) fn start(&self, skew_ms: i64) -> Agent {
        let identity = Identity::load(&self.dir()).expect("enrolled");
        let clock = Arc::new(SkewedClock::default());
        clock.step_wall_ms(skew_ms);
        let rentals = Arc::new(FakeRentals {
            live: watch::Sender::new(Vec::new()),
            applied: Arc::clone(&self.applied),
        });
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let inventory = watch::Sender::new(Arc::new(inventory())).subscribe();
        let orders = Orders::open(self.dir().orders(), identity.node_id).expect("none yet");
        let parts = Parts {
            meter: Meter::new(
                self.journal(&identity),
                Sampler::new(self.folder.join("root")),
            ),
            identity,
            samples: Arc::new(Samples::open(self.dir().samples()).expect("a folder")),
            prober: Arc::new(Mutex::new(Prober::new())),
            inventory,
            rentals: Arc::clone(&rentals) as Arc<dyn Rentals>,
            orders: Arc::new(orders),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            boot_id: "b".repeat(32),
            journal_keep_ms: 1_000,
            status_file: Some(self.dir().status()),
        };
        Agent {
            reporter: report::start(parts, &shutdown, &tracker).expect("started"),
            clock,
            rentals,
            shutdown,
            tracker,
        }
    }

    /// Of a node without rentals and without an engine.
    fn streams(&self, agent: &Agent) -> Arc<Streams> {
        let limits = Config::default().kept_logs();
        let clock = Arc::clone(&agent.clock) as Arc<dyn Clock>;
        let kept = KeptLogs::open(self.dir().logs(), limits, clock).expect("a folder");
        let engine = HelperRuntime::new(self.folder.join("nowhere.sock"), String::new());
        let sources = Sources {
            runtime: Arc::new(engine),
            kept: Arc::new(kept),
            samples: Arc::new(Samples::open(self.dir().samples()).expect("a folder")),
            live: agent.rentals.live(),
        };
        Streams::new(sources, agent.shutdown.clone(), agent.tracker.clone())
    }

    pub(super) fn start_with_link(&self) -> Agent {
        let agent = self.start(0);
        link::start(
            Identity::load(&self.dir()).expect("enrolled"),
            (agent.reporter.clone(), self.streams(&agent)),
            Arc::clone(&agent.clock) as Arc<dyn Clock>,
            &agent.shutdown,
            &agent.tracker,
        )
        .expect("started");
        agent
    }
}

impl Agent {
    pub(super) fn set_live(&self, live: Vec<LiveRental>) {
        self.rentals.live.send_replace(live);
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait())
            .await
            .expect("the agent ends");
    }

    pub(super) async fn until_contact(&self, what: &str, is: impl FnMut(&Contact) -> bool) {
        let mut contact = self.reporter.contact.clone();
        match tokio::time::timeout(PATIENCE, contact.wait_for(is)).await {
            Ok(Ok(_)) => {}
            other => panic!("not {what}: {:?}", other.map(|found| found.map(|_| ()))),
        }
    }

    /// Waits until that many sampling passes came to their end.
    pub(super) async fn until_passes(&self, passes: usize) {
        let mut last = self.reporter.last_pass_boot_ms.clone();
        last.mark_unchanged();
        for _ in 0..passes {
            let pass = tokio::time::timeout(PATIENCE, last.changed()).await;
            pass.expect("sampling goes on").expect("the agent runs");
        }
    }
}

fn container(number: i32) -> String {
    format!("{number:064x}")
}

fn rental(number: i32, phase: Phase) -> LiveRental {
    let ids = Ids::counting();
    for _ in 0..number {
        ids.mint::<shared::id::RentalId>();
    }
    LiveRental {
        observed: ObservedRental {
            rental_id: ids.mint(),
            lease_id: ids.mint(),
            phase,
            container_id: None,
            image_digest: None,
            started_at: None,
            finished_at: None,
        },
        spec_sha256: "0".repeat(64),
        pid: None,
        gpus: Vec::new(),
    }
}

/// Rental `number` runs.
pub(super) fn running(number: i32) -> LiveRental {
    let mut rental = rental(number, Phase::Running);
    rental.pid = Some(number);
    rental.observed.container_id = Some(container(number));
    rental.observed.started_at = Some(Timestamp::from_secs(1));
    rental
}

/// Rental `number` ended.
pub(super) fn exited(number: i32) -> LiveRental {
    let mut rental = running(number);
    rental.pid = None;
    rental.observed.finished_at = Some(Timestamp::from_secs(2));
    rental.observed.phase = Phase::Exited {
        exit: Exit {
            code: 0,
            oom_killed: false,
        },
        cause: ExitCause::Itself,
    };
    rental
}

/// The image of rental `number` is being pulled.
pub(super) fn pulling(number: i32, done_bytes: i64) -> LiveRental {
    rental(
        number,
        Phase::Pulling {
            done_bytes,
            total_bytes: 1_000,
        },
    )
}
