//! Sampling passes: what is recorded when, over restarts.

use std::{collections::BTreeSet, sync::Arc};

use shared::{
    id::{Ids, NodeId},
    journal::{Exit, MeterState},
    sign::SigningKey,
    time::Timestamp,
    wire::observed::{ExitCause, ObservedRental, Phase},
};

use super::{Due, Meter, sample_pass};
use crate::{
    journal::{Journal, Moment, Owner},
    measure::Sampler,
    rental::LiveRental,
    testing::TempDir,
};

const CONTAINER: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// A machine with one container whose figures the test sets.
struct Machine {
    dir: TempDir,
    owner: Owner,
    rental: LiveRental,
}

impl Machine {
    fn new() -> Self {
        let pkcs8 = SigningKey::generate_pkcs8().expect("random");
        let key = SigningKey::from_pkcs8(&pkcs8).expect("key");
        let ids = Ids::counting();
        let node_id: NodeId = ids.mint();
        let machine = Self {
            dir: TempDir::new(),
            owner: Owner {
                node_id,
                coordinator_key: key.public(),
                key: Arc::new(key),
                boot_id: "0".repeat(32),
            },
            rental: LiveRental {
                observed: ObservedRental {
                    rental_id: ids.mint(),
                    lease_id: ids.mint(),
                    phase: Phase::Pending,
                    container_id: None,
                    image_digest: None,
                    started_at: None,
                    finished_at: None,
                },
                spec_sha256: "0".repeat(64),
                pid: None,
                gpus: Vec::new(),
            },
        };
        machine.write(
            "proc/self/mountinfo",
            "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        );
        machine.write("proc/77/cgroup", &format!("0::/docker/{CONTAINER}\n"));
        machine.uses(0, 0);
        Journal::create(
            &machine.dir.path().join("journal.db"),
            node_id,
            &machine.owner.key.public(),
        )
        .expect("made");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, text).expect("written");
    }

    fn uses(&self, cpu_us: i64, memory_bytes: i64) {
        let base = format!("sys/fs/cgroup/docker/{CONTAINER}");
        self.write(
            &format!("{base}/cpu.stat"),
            &format!("usage_usec {cpu_us}\n"),
        );
        self.write(
            &format!("{base}/memory.current"),
            &format!("{memory_bytes}\n"),
        );
    }

    fn meter(&self) -> Meter {
        let path = self.dir.path().join("journal.db");
        let journal = Journal::open(&path, self.owner.clone()).expect("opened");
        Meter::new(journal, Sampler::new(self.dir.path()))
    }

    fn in_phase(&self, phase: Phase) -> LiveRental {
        let mut rental = self.rental.clone();
        rental.pid = (phase == Phase::Running).then_some(77);
        rental.observed.container_id = Some(CONTAINER.to_owned());
        if phase != Phase::Starting {
            rental.observed.started_at = Some(Timestamp::from_secs(100));
        }
        rental.observed.phase = phase;
        rental
    }

    fn exited(&self) -> LiveRental {
        let mut rental = self.in_phase(Phase::Exited {
            exit: Exit {
                code: 137,
                oom_killed: true,
            },
            cause: ExitCause::Itself,
        });
        rental.observed.finished_at = Some(Timestamp::from_secs(109));
        rental
    }
}

fn pass(meter: &mut Meter, rental: &LiveRental, second: i64, due: Due) -> usize {
    let moment = Moment {
        beacon: "ab".to_owned(),
        t_wall: Timestamp::from_secs(100 + second),
        t_boot_ms: second * 1_000,
    };
    sample_pass(
        meter,
        std::slice::from_ref(rental),
        &BTreeSet::new(),
        &moment,
        due,
    )
    .expect("journalled")
}

#[test]
fn a_life_is_recorded_at_changes_at_ticks_and_once_at_its_end() {
    let machine = Machine::new();
    let mut meter = machine.meter();
    assert_eq!(
        pass(&mut meter, &machine.rental, 0, Due::Tick),
        0,
        "there is no container yet"
    );
    let starting = machine.in_phase(Phase::Starting);
    assert_eq!(pass(&mut meter, &starting, 1, Due::Change), 1);
    assert_eq!(pass(&mut meter, &starting, 2, Due::Tick), 0);
    let running = machine.in_phase(Phase::Running);
    machine.uses(1_000, 4_000);
    assert_eq!(pass(&mut meter, &running, 3, Due::Change), 1);
    assert_eq!(
        pass(&mut meter, &running, 4, Due::Change),
        0,
        "another rental's change"
    );
    machine.uses(5_000, 6_000);
    assert_eq!(pass(&mut meter, &running, 5, Due::Tick), 1);
    let stopping = machine.in_phase(Phase::Stopping);
    assert_eq!(
        pass(&mut meter, &stopping, 6, Due::Tick),
        1,
        "it runs until it has ended"
    );
    let exited = machine.exited();
    assert_eq!(pass(&mut meter, &exited, 9, Due::Change), 1);
    for second in 10..13 {
        assert_eq!(pass(&mut meter, &exited, second, Due::Tick), 0);
    }

    let records = meter.journal().unacked(usize::MAX).expect("records");
    let states: Vec<MeterState> = records.iter().map(|signed| signed.record.state).collect();
    use MeterState::{Exited, Preparing, Running};
    assert_eq!(states, [Preparing, Running, Running, Running, Exited]);
    let last = &records[4].record;
    assert_eq!(
        last.exit,
        Some(Exit {
            code: 137,
            oom_killed: true
        })
    );
    assert_eq!(last.finished_at, Some(Timestamp::from_secs(109)));
    assert_eq!(last.cum_cpu_ns, 5_000_000, "the last sample stays");
    assert_eq!(last.cum_mem_byte_s, 10_000, "mean of 4000 and 6000 for 2 s");
    assert_eq!(records[1].record.finished_at, None);
}

#[test]
fn a_restarted_agent_goes_on_where_the_journal_ends() {
    let machine = Machine::new();
    let running = machine.in_phase(Phase::Running);
    let mut meter = machine.meter();
    machine.uses(1_000, 1_000);
    pass(&mut meter, &running, 1, Due::Tick);
    pass(&mut meter, &running, 3, Due::Tick);
    drop(meter);

    let mut meter = machine.meter();
    machine.uses(9_000, 1_000);
    assert_eq!(
        pass(&mut meter, &running, 60, Due::Change),
        0,
        "nothing changed while it was down"
    );
    pass(&mut meter, &running, 61, Due::Tick);
    pass(&mut meter, &running, 62, Due::Tick);
    let records = meter.journal().unacked(usize::MAX).expect("records");
    let figures: Vec<(i64, i64)> = records
        .iter()
        .map(|signed| (signed.record.cum_cpu_ns, signed.record.cum_mem_byte_s))
        .collect();
    assert_eq!(
        figures,
        [
            (1_000_000, 0),
            (1_000_000, 2_000),
            (9_000_000, 2_000),
            (9_000_000, 3_000)
        ],
        "the kernel counted on; memory × time isn't made up for the time nobody looked"
    );
    let exited = machine.exited();
    assert_eq!(pass(&mut meter, &exited, 63, Due::Change), 1);
    drop(meter);
    let mut meter = machine.meter();
    assert_eq!(
        pass(&mut meter, &exited, 64, Due::Tick),
        0,
        "its end is told already"
    );
}

#[test]
fn a_container_that_ended_while_the_agent_was_down_is_told_of_with_its_last_figures() {
    let machine = Machine::new();
    let mut meter = machine.meter();
    machine.uses(7_000, 0);
    pass(&mut meter, &machine.in_phase(Phase::Running), 1, Due::Tick);
    drop(meter);
    let mut meter = machine.meter();
    assert_eq!(pass(&mut meter, &machine.exited(), 50, Due::Tick), 1);
    let last = meter
        .journal()
        .last_of(machine.rental.observed.rental_id)
        .expect("read")
        .expect("there");
    assert_eq!(
        (last.state, last.cum_cpu_ns),
        (MeterState::Exited, 7_000_000)
    );
}

#[test]
fn what_failed_is_not_signed_for() {
    let machine = Machine::new();
    let mut meter = machine.meter();
    let failed = machine.in_phase(Phase::Failed {
        code: "container_lost".into(),
        reason: "it is gone".into(),
    });
    assert_eq!(pass(&mut meter, &failed, 1, Due::Change), 0);
    assert_eq!(pass(&mut meter, &failed, 2, Due::Tick), 0);
}

#[test]
fn old_records_go_but_not_what_a_live_rental_goes_on_from() {
    let machine = Machine::new();
    let mut meter = machine.meter();
    let exited = machine.exited();
    pass(&mut meter, &exited, 1, Due::Change);
    let mut other = machine.in_phase(Phase::Running);
    other.observed.rental_id = Ids::System.mint();
    let both = [exited.clone(), other.clone()];
    let moment = Moment {
        beacon: String::new(),
        t_wall: Timestamp::from_secs(103),
        t_boot_ms: 3_000,
    };
    for _ in 0..3 {
        sample_pass(&mut meter, &both, &BTreeSet::new(), &moment, Due::Tick).expect("journalled");
    }
    let head = meter.journal().head();
    let received_at = Timestamp::from_secs(104);
    let canonical =
        shared::journal::Ack::canonical(machine.owner.node_id, head.seq, &head.hash, received_at);
    let ack = shared::journal::Ack {
        seq: head.seq,
        hash: head.hash,
        received_at,
        signature: machine
            .owner
            .key
            .sign(shared::journal::ACK_DOMAIN, &canonical),
    };
    meter.journal_mut().acknowledge(&ack).expect("acknowledged");
    let later = Timestamp::from_secs(1_000);
    assert_eq!(
        meter.prune(later).expect("pruned"),
        0,
        "the ended one is still on this node"
    );
    sample_pass(&mut meter, &[other], &BTreeSet::new(), &moment, Due::Tick).expect("journalled");
    assert!(meter.prune(later).expect("pruned") > 0);
}
