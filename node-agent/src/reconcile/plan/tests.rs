//! The plan as a table: each combination of wish, container, note, lease and work under way.

use shared::{
    clock::{Clock, ManualClock},
    container::RawSpec,
    id::{Ids, LeaseId},
    journal::Exit,
    resources::Resources,
    time::Timestamp,
    wire::desired::{DesiredState, Lease},
};

use super::*;
use crate::lease::Leases;

const EXITED: ContainerState = ContainerState::Exited(Exit {
    code: 0,
    oom_killed: false,
});

/// One rental and everything that may be said of it.
struct Bench {
    rental: DesiredRental,
    desired: bool,
    known: bool,
    leased: bool,
    containers: Vec<Container>,
    notes: Notes,
    busy: BTreeMap<Key, Busy>,
}

impl Bench {
    fn new(wanted: Wanted) -> Self {
        let ids = Ids::counting();
        let spec = RawSpec {
            image: "busybox".to_owned(),
            ..RawSpec::default()
        };
        let rental = DesiredRental {
            rental_id: ids.mint(),
            lease_id: ids.mint(),
            wanted,
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
        };
        Self {
            rental,
            desired: true,
            known: true,
            leased: true,
            containers: Vec::new(),
            notes: Notes::default(),
            busy: BTreeMap::new(),
        }
    }

    fn run() -> Self {
        Self::new(Wanted::Run)
    }

    fn stop() -> Self {
        Self::new(Wanted::Stop)
    }

    fn container(&self, id: &str, state: ContainerState) -> Container {
        Container {
            id: id.to_owned(),
            rental_id: Some(self.rental.rental_id),
            lease_id: Some(self.rental.lease_id),
            spec_sha256: self.rental.spec.sha256_hex(),
            gpus: Vec::new(),
            state,
            pid: None,
            started_at: None,
            finished_at: None,
            image_digest: None,
            over_disk: None,
        }
    }

    fn with(mut self, state: ContainerState) -> Self {
        self.containers.push(self.container("c1", state));
        self
    }

    /// A container of an earlier lease.
    fn with_earlier(mut self, state: ContainerState) -> Self {
        let mut container = self.container("c0", state);
        container.lease_id = Some(earlier_lease());
        self.containers.push(container);
        self
    }

    fn started(mut self) -> Self {
        self.notes
            .started(self.rental.rental_id, self.rental.lease_id, "c1");
        self
    }

    fn stopping(mut self, cause: ExitCause) -> Self {
        self.notes
            .stopping(self.rental.rental_id, self.rental.lease_id, cause);
        self
    }

    fn failed(mut self) -> Self {
        let failure = Failure {
            code: "x".to_owned(),
            reason: "y".to_owned(),
        };
        self.notes
            .failed(self.rental.rental_id, self.rental.lease_id, failure);
        self
    }

    fn busy(mut self, busy: Busy) -> Self {
        self.busy.insert(Key::Rental(self.rental.rental_id), busy);
        self
    }

    fn unleased(mut self) -> Self {
        self.leased = false;
        self
    }

    fn not_desired(mut self) -> Self {
        self.desired = false;
        self
    }

    fn unknown(mut self) -> Self {
        self.known = false;
        self
    }

    fn steps(&self) -> Vec<Step> {
        let clock = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
        let now = Now::read(&clock);
        let rentals: Vec<_> = self
            .desired
            .then(|| self.rental.clone())
            .into_iter()
            .collect();
        let mut leases = Leases::none("boot".to_owned());
        let lease = Lease {
            rental_id: self.rental.rental_id,
            lease_id: self.rental.lease_id,
            lease_ms: if self.leased { 60_000 } else { 0 },
        };
        leases.grant(&rentals, &[lease], clock.boot_ms(), now);
        let desired = self.known.then_some(DesiredState {
            generation: 1,
            rentals,
        });
        plan(&View {
            wish: &Wish { desired, leases },
            containers: &self.containers,
            notes: &self.notes,
            busy: &self.busy,
            now,
        })
    }

    /// The plan in short words, for tables.
    fn words(&self) -> String {
        let word = |step: &Step| match step {
            Step::Launch(_) => "launch".to_owned(),
            Step::Abort(_) => "abort".to_owned(),
            Step::Stop(_, id, cause) => format!("stop {id} {cause:?}"),
            Step::Remove(_, id, why) => format!("remove {id} {why:?}"),
            Step::Adopt(_, id) => format!("adopt {id}"),
            Step::Fail(_, failure) => format!("fail {}", failure.code),
            Step::Forget(_) => "forget".to_owned(),
        };
        let words: Vec<String> = self.steps().iter().map(word).collect();
        words.join(", ")
    }
}

fn earlier_lease() -> LeaseId {
    format!("lea_{:032x}", 99).parse().expect("an id")
}

fn check(cases: Vec<(&str, Bench, &str)>) {
    for (name, bench, expected) in cases {
        assert_eq!(bench.words(), expected, "{name}");
    }
}

use ContainerState::{Created, Removing, Running};

#[test]
fn who_writes_too_much_is_stopped_and_told_why() {
    let mut bench = Bench::run();
    let mut container = bench.container("c", ContainerState::Running);
    container.over_disk = Some("it wrote more than the 10 MiB that it may".to_owned());
    bench.containers.push(container);
    let id = bench.rental.rental_id;
    let stop = |cause| vec![Step::Stop(id, "c".to_owned(), cause)];
    assert_eq!(bench.steps(), stop(ExitCause::OverDisk));
    // the market's wish is the better reason
    bench.rental.wanted = Wanted::Stop;
    assert_eq!(bench.steps(), stop(ExitCause::Wanted));
}

#[test]
fn a_rental_to_run() {
    check(vec![
        ("new", Bench::run(), "launch"),
        ("no lease", Bench::run().unleased(), ""),
        ("under way", Bench::run().busy(Busy::Launching), ""),
        ("resting", Bench::run().busy(Busy::Resting), ""),
        (
            "lease ended under way",
            Bench::run().unleased().busy(Busy::Launching),
            "abort",
        ),
        (
            "created by one that died",
            Bench::run().with(Created),
            "launch",
        ),
        (
            "created, start noted",
            Bench::run().with(Created).started(),
            "launch",
        ),
        (
            "created, lease ended",
            Bench::run().with(Created).unleased(),
            "",
        ),
        ("runs, not noted", Bench::run().with(Running), "adopt c1"),
        ("runs", Bench::run().with(Running).started(), ""),
        (
            "lease ended",
            Bench::run().with(Running).started().unleased(),
            "stop c1 LeaseEnded",
        ),
        ("ended by itself", Bench::run().with(EXITED).started(), ""),
        ("ended, not noted", Bench::run().with(EXITED), "adopt c1"),
        (
            "ended, lease too",
            Bench::run().with(EXITED).started().unleased(),
            "",
        ),
        ("lost", Bench::run().started(), "fail container_lost"),
        (
            "lost while the lease ended",
            Bench::run().started().unleased(),
            "fail container_lost",
        ),
        (
            "being removed by someone",
            Bench::run().with(Removing).started(),
            "",
        ),
        ("given up", Bench::run().failed(), ""),
        (
            "given up, left-over",
            Bench::run().with(Created).failed(),
            "remove c1 Failed",
        ),
        (
            "given up, yet runs",
            Bench::run().with(Running).failed(),
            "remove c1 Failed",
        ),
    ]);
}

#[test]
fn a_stop_that_began_goes_on() {
    let begun = |cause| Bench::run().with(Running).started().stopping(cause);
    check(vec![
        (
            "the lease came back too late",
            begun(ExitCause::LeaseEnded),
            "stop c1 LeaseEnded",
        ),
        ("wanted again", begun(ExitCause::Wanted), "stop c1 Wanted"),
        (
            "it is over",
            Bench::run()
                .with(EXITED)
                .started()
                .stopping(ExitCause::LeaseEnded),
            "",
        ),
        (
            "the first reason stays",
            Bench::stop()
                .with(Running)
                .started()
                .stopping(ExitCause::LeaseEnded),
            "stop c1 LeaseEnded",
        ),
    ]);
}

#[test]
fn a_rental_to_stop() {
    check(vec![
        ("never created", Bench::stop(), "fail stopped_before_start"),
        ("said already", Bench::stop().failed(), ""),
        ("under way", Bench::stop().busy(Busy::Launching), "abort"),
        (
            "created",
            Bench::stop().with(Created),
            "fail stopped_before_start",
        ),
        (
            "runs",
            Bench::stop().with(Running).started(),
            "stop c1 Wanted",
        ),
        (
            "runs, not noted",
            Bench::stop().with(Running),
            "stop c1 Wanted",
        ),
        (
            "runs, lease ended",
            Bench::stop().with(Running).unleased(),
            "stop c1 Wanted",
        ),
        (
            "being stopped",
            Bench::stop().with(Running).busy(Busy::Ending),
            "",
        ),
        ("ended", Bench::stop().with(EXITED).started(), ""),
        ("lost", Bench::stop().started(), "fail container_lost"),
    ]);
}

#[test]
fn what_is_not_desired() {
    let stray = || {
        let mut bench = Bench::run().not_desired().with(Running);
        bench.containers[0].rental_id = None;
        bench
    };
    check(vec![
        (
            "runs",
            Bench::run().not_desired().with(Running),
            "remove c1 NotDesired",
        ),
        (
            "ended",
            Bench::run().not_desired().with(EXITED),
            "remove c1 NotDesired",
        ),
        (
            "created",
            Bench::run().not_desired().with(Created),
            "remove c1 NotDesired",
        ),
        (
            "being removed",
            Bench::run().not_desired().with(Removing),
            "",
        ),
        ("a stray", stray(), "remove c1 NotDesired"),
        (
            "a second at once",
            Bench::run().not_desired().with(EXITED).busy(Busy::Ending),
            "",
        ),
        (
            "left while launching",
            Bench::run().not_desired().busy(Busy::Launching),
            "abort",
        ),
        ("over", Bench::run().not_desired().started(), "forget"),
        (
            "over soon",
            Bench::run().not_desired().started().with(Removing),
            "",
        ),
    ]);
}

#[test]
fn nothing_is_done_while_the_desired_state_is_unknown() {
    for state in [Created, Running, EXITED, Removing] {
        assert_eq!(Bench::run().unknown().with(state).words(), "", "{state:?}");
        assert_eq!(Bench::run().unknown().with(state).failed().words(), "");
    }
    assert_eq!(Bench::run().unknown().started().words(), "");
}

#[test]
fn another_lease_makes_another_rental() {
    let earlier_note = |mut bench: Bench| {
        bench
            .notes
            .started(bench.rental.rental_id, earlier_lease(), "c0");
        bench
    };
    check(vec![
        (
            "the old one goes first",
            Bench::run().with_earlier(Running),
            "remove c0 NotCurrent",
        ),
        (
            "also when it ended",
            Bench::run().with_earlier(EXITED),
            "remove c0 NotCurrent",
        ),
        (
            "and when it is being removed",
            Bench::run().with_earlier(Removing),
            "",
        ),
        (
            "then the new one comes",
            earlier_note(Bench::run()),
            "launch",
        ),
        (
            "a stop comes before tidying",
            Bench::run().with_earlier(EXITED).with(Running).unleased(),
            "stop c1 LeaseEnded",
        ),
        (
            "tidying comes when all else is well",
            Bench::run().with_earlier(EXITED).with(Running).started(),
            "remove c0 NotCurrent",
        ),
    ]);
}

#[test]
fn another_specification_counts_only_before_the_start() {
    let other = |state| {
        let mut bench = Bench::run().with(state).started();
        bench.containers[0].spec_sha256 = "00".to_owned();
        bench
    };
    check(vec![
        ("created", other(Created), "remove c1 OtherSpecification"),
        (
            "an agent that hashes differently leaves it alone",
            other(Running),
            "",
        ),
        ("ended", other(EXITED), ""),
    ]);
}

#[test]
fn of_two_containers_the_started_one_is_the_rentals() {
    let mut bench = Bench::run().with(Created).started();
    bench.containers[0].id = "c2".to_owned();
    let bench = bench.with(Running);
    assert_eq!(bench.words(), "remove c2 NotCurrent");
}

#[test]
fn what_cant_be_enforced_is_given_up_before_anything_is_made() {
    let mut bench = Bench::run();
    bench.rental.resources.gpu_count = 1;
    assert_eq!(bench.words(), "fail not_supported");
    bench.rental.resources.gpu_count = 0;
    bench.rental.resources.disk_bytes = 1;
    assert_eq!(bench.words(), "fail not_supported");
}

/// Over all combinations: no key gets two steps, and a container that was started is never launched.
#[test]
fn rules_that_hold_in_every_combination() {
    let states = [
        None,
        Some(Created),
        Some(Running),
        Some(EXITED),
        Some(Removing),
    ];
    let busies = [
        None,
        Some(Busy::Launching),
        Some(Busy::Ending),
        Some(Busy::Resting),
    ];
    let mut count = 0;
    for bits in 0_u32..128 {
        for (state, busy) in states
            .iter()
            .flat_map(|s| busies.iter().map(move |b| (s, b)))
        {
            let bit = |n: u32| bits & (1 << n) != 0;
            let mut bench = if bit(0) { Bench::run() } else { Bench::stop() };
            bench = if bit(1) { bench.started() } else { bench };
            bench = if bit(2) {
                bench.stopping(ExitCause::Wanted)
            } else {
                bench
            };
            bench = if bit(3) { bench.failed() } else { bench };
            bench = if bit(4) { bench.unleased() } else { bench };
            bench = if bit(5) { bench.not_desired() } else { bench };
            bench = if bit(6) {
                bench.with_earlier(EXITED)
            } else {
                bench
            };
            if let Some(state) = state {
                bench = bench.with(*state);
            }
            if let Some(busy) = busy {
                bench = bench.busy(*busy);
            }
            let steps = bench.steps();
            assert!(steps.len() <= 1, "{}", bench.words());
            let launches = steps.iter().any(|step| matches!(step, Step::Launch(_)));
            let ran = matches!(state, Some(Running | EXITED | Removing));
            let lost = state.is_none() && bit(1);
            assert!(!launches || !(ran || lost || bit(3) || bit(4) || bit(5) || !bit(0)));
            let passive = matches!(busy, Some(Busy::Ending | Busy::Resting));
            assert!(!passive || steps.is_empty(), "{}", bench.words());
            count += 1;
        }
    }
    assert_eq!(count, 128 * 20);
}
