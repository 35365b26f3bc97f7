//! The sampler on fixture trees of each kind of machine, and on this one.

use std::{convert::Infallible, path::Path};

use shared::{
    id::Ids,
    wire::observed::{ObservedRental, Phase},
};

use super::*;
use crate::testing::TempDir;

const CONTAINER: &str = "0f5a6d3c0f5a6d3c0f5a6d3c0f5a6d3c0f5a6d3c0f5a6d3c0f5a6d3c0f5a6d3c";
const PID: i32 = 4242;

/// What Debian 12 with systemd has: version 2 only.
const MOUNTS_V2: &str = "\
24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";
/// Version 1 as `cgroupfs-mount` makes it, `cpu` and `cpuacct` together.
const MOUNTS_V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:11 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:12 - cgroup cgroup rw,memory
";
/// Version 1 with an empty version 2 beside it, `cpu` and `cpuacct` apart.
const MOUNTS_HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const NET_HEAD: &str = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes packets\n";

struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new(mounts: &str, groups: &str) -> Self {
        let machine = Self {
            dir: TempDir::new(),
        };
        machine.write("proc/self/mountinfo", mounts);
        machine.write(&format!("proc/{PID}/cgroup"), groups);
        machine.net(0, 0);
        machine
    }

    fn v1() -> Self {
        Self::new(
            MOUNTS_V1,
            &format!("5:cpu,cpuacct:/docker/{CONTAINER}\n4:memory:/docker/{CONTAINER}\n"),
        )
    }

    fn v2() -> Self {
        Self::new(
            MOUNTS_V2,
            &format!("0::/system.slice/docker-{CONTAINER}.scope\n"),
        )
    }

    fn hybrid() -> Self {
        Self::new(
            MOUNTS_HYBRID,
            &format!(
                "4:memory:/docker/{CONTAINER}\n2:cpuacct:/docker/{CONTAINER}\n1:cpu:/docker/{CONTAINER}\n0::/\n"
            ),
        )
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, text).expect("written");
    }

    fn net(&self, rx: i64, tx: i64) {
        self.write(
            &format!("proc/{PID}/net/dev"),
            &format!("{NET_HEAD}  lo: 9 1 0 0 0 0 0 0 9 1\neth0: {rx} 1 0 0 0 0 0 0 {tx} 1\n"),
        );
    }
}

fn rental(pid: Option<i32>) -> LiveRental {
    let ids = Ids::counting();
    LiveRental {
        observed: ObservedRental {
            rental_id: ids.mint(),
            lease_id: ids.mint(),
            phase: Phase::Running,
            container_id: Some(CONTAINER.to_owned()),
            image_digest: None,
            started_at: None,
            finished_at: None,
        },
        spec_sha256: String::new(),
        pid,
        gpus: Vec::new(),
    }
}

fn sample(sampler: &mut Sampler, rental: &LiveRental, boot_ms: i64) -> Counters {
    sampler
        .sample(rental, boot_ms, || Ok::<_, Infallible>(None))
        .unwrap_or_else(|never| match never {})
}

/// Two samples a second apart on a machine whose files `write(machine, cpu_ns, memory_bytes)` changes.
fn check(machine: &Machine, write: impl Fn(&Machine, i64, i64)) {
    let mut sampler = Sampler::new(machine.root());
    let rental = rental(Some(PID));
    write(machine, 5_000_000, 1_000);
    assert_eq!(
        sample(&mut sampler, &rental, 10_000),
        Counters {
            cpu_ns: 5_000_000,
            ..Counters::default()
        }
    );
    write(machine, 9_000_000, 3_000);
    machine.net(70, 7);
    let expected = Counters {
        cpu_ns: 9_000_000,
        mem_byte_s: 2_000,
        rx_bytes: 70,
        tx_bytes: 7,
    };
    assert_eq!(sample(&mut sampler, &rental, 11_000), expected);
    // it ended: the last sample stays
    let ended = LiveRental {
        pid: None,
        ..rental
    };
    assert_eq!(sample(&mut sampler, &ended, 20_000), expected);
}

#[test]
fn version_1_is_read() {
    let machine = Machine::v1();
    assert_eq!(
        cgroup::Mounts::read(machine.root())
            .expect("mounts")
            .version(),
        Some(1)
    );
    check(&machine, |machine, cpu_ns, memory| {
        let base = format!("docker/{CONTAINER}");
        machine.write(
            &format!("sys/fs/cgroup/cpu,cpuacct/{base}/cpuacct.usage"),
            &format!("{cpu_ns}\n"),
        );
        machine.write(
            &format!("sys/fs/cgroup/memory/{base}/memory.usage_in_bytes"),
            &format!("{memory}\n"),
        );
    });
}

#[test]
fn version_2_is_read() {
    let machine = Machine::v2();
    assert_eq!(
        cgroup::Mounts::read(machine.root())
            .expect("mounts")
            .version(),
        Some(2)
    );
    check(&machine, |machine, cpu_ns, memory| {
        let base = format!("sys/fs/cgroup/system.slice/docker-{CONTAINER}.scope");
        let us = cpu_ns / 1_000;
        machine.write(
            &format!("{base}/cpu.stat"),
            &format!("usage_usec {us}\nuser_usec 1\nsystem_usec 2\n"),
        );
        machine.write(&format!("{base}/memory.current"), &format!("{memory}\n"));
    });
}

#[test]
fn a_hybrid_machine_is_read_where_its_controllers_are() {
    let machine = Machine::hybrid();
    assert_eq!(
        cgroup::Mounts::read(machine.root())
            .expect("mounts")
            .version(),
        Some(1)
    );
    check(&machine, |machine, cpu_ns, memory| {
        machine.write(
            &format!("sys/fs/cgroup/cpuacct/docker/{CONTAINER}/cpuacct.usage"),
            &format!("{cpu_ns}\n"),
        );
        machine.write(
            &format!("sys/fs/cgroup/memory/docker/{CONTAINER}/memory.usage_in_bytes"),
            &format!("{memory}\n"),
        );
    });
}

#[test]
fn a_reused_process_id_is_not_charged_to_the_rental() {
    let machine = Machine::new(MOUNTS_V2, "0::/user.slice/session-1.scope\n");
    machine.write(
        "sys/fs/cgroup/user.slice/session-1.scope/cpu.stat",
        "usage_usec 999\n",
    );
    machine.write(
        "sys/fs/cgroup/user.slice/session-1.scope/memory.current",
        "999\n",
    );
    let mut sampler = Sampler::new(machine.root());
    assert_eq!(
        sample(&mut sampler, &rental(Some(PID)), 0),
        Counters::default()
    );
    assert!(cgroup::locate(machine.root(), PID, CONTAINER).is_err());
}

#[test]
fn a_group_outside_of_the_mount_is_refused() {
    let mounts = MOUNTS_V2.replace("0:30 / /sys/fs/cgroup", "0:30 /inner /sys/fs/cgroup");
    for groups in [
        format!("0::/docker-{CONTAINER}.scope\n"),
        format!("0::/inner/../docker-{CONTAINER}.scope\n"),
    ] {
        let machine = Machine::new(&mounts, &groups);
        assert!(
            cgroup::locate(machine.root(), PID, CONTAINER).is_err(),
            "{groups}"
        );
    }
    let machine = Machine::new(&mounts, &format!("0::/inner/{CONTAINER}\n"));
    let files = cgroup::locate(machine.root(), PID, CONTAINER).expect("found");
    assert_eq!(
        files.memory,
        machine
            .root()
            .join(format!("sys/fs/cgroup/{CONTAINER}/memory.current"))
    );
}

#[test]
fn a_group_that_vanishes_keeps_the_last_values() {
    let machine = Machine::v1();
    let base = format!("docker/{CONTAINER}");
    let cpu = format!("sys/fs/cgroup/cpu,cpuacct/{base}/cpuacct.usage");
    machine.write(&cpu, "7\n");
    machine.write(
        &format!("sys/fs/cgroup/memory/{base}/memory.usage_in_bytes"),
        "1000\n",
    );
    let mut sampler = Sampler::new(machine.root());
    let rental = rental(Some(PID));
    assert_eq!(sample(&mut sampler, &rental, 0).cpu_ns, 7);
    // an emptied file reads as nothing, as a removed group's does
    machine.write(&cpu, "");
    assert_eq!(sample(&mut sampler, &rental, 1_000).cpu_ns, 7);
}

#[test]
fn the_groups_of_this_machine_are_found() {
    let mounts = cgroup::Mounts::read(Path::new("/")).expect("mounts");
    assert!(mounts.version().is_some());
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("own groups");
    let memory = own
        .lines()
        .find_map(|line| line.split_once(":memory:").map(|(_, path)| path))
        .or_else(|| own.lines().find_map(|line| line.strip_prefix("0::")))
        .expect("a group");
    let pid = i32::try_from(std::process::id()).expect("pid");
    // this process is in no container: found or not, it must not pass for one
    let name = memory.rsplit('/').next().unwrap_or_default();
    if name.len() != 64 {
        assert!(cgroup::locate(Path::new("/"), pid, CONTAINER).is_err());
    }
}
