//! Every limit as the kernel holds it, read from outside the container.

use std::{collections::BTreeMap, fs, path::PathBuf};

use shared::{
    journal::Exit,
    wire::observed::{ExitCause, Phase},
};

use super::node::{LEASE_MS, MIB, Node};

/// CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7.
const SIX_CAPABILITIES: &str = "00000000000000eb";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `/proc/<pid>/status` as name and value.
fn status(pid: i32) -> BTreeMap<String, String> {
    read(&format!("/proc/{pid}/status"))
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// A control file of the process's cgroup, in whichever hierarchy this machine has.
fn control(pid: i32, controller: &str, v1: &str, v2: &str) -> String {
    let v2_root = PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists();
    let text = read(&format!("/proc/{pid}/cgroup"));
    let path = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?, parts.next()?))
        })
        .find(|(names, _)| {
            names
                .split(',')
                .any(|name| name == if v2_root { "" } else { controller })
        })
        .map(|(_, path)| path.to_owned())
        .expect("a cgroup");
    let file = if v2_root {
        format!("/sys/fs/cgroup{path}/{v2}")
    } else {
        format!("/sys/fs/cgroup/{controller}{path}/{v1}")
    };
    read(&file).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_is_confined_as_designed() {
    let node = Node::new("confined");
    let agent = node.start().await;
    let rental = node.rental("busybox:latest", &["sleep", "600"]);
    agent.wish(1, &[&rental], LEASE_MS).await;
    let live = agent.until_running(&rental).await;
    let pid = live.pid.expect("it runs");

    let status = status(pid);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status[set], SIX_CAPABILITIES, "{set}");
    }
    assert_eq!(status["CapAmb"], "0000000000000000");
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Seccomp"], "2", "a filter is loaded");
    assert_eq!(read(&format!("/proc/{pid}/oom_score_adj")).trim(), "500");

    let interfaces = read(&format!("/proc/{pid}/net/dev"));
    let interfaces: Vec<_> = interfaces
        .lines()
        .skip(2)
        .filter_map(|l| l.split(':').next())
        .collect();
    let interfaces: Vec<_> = interfaces.iter().map(|name| name.trim()).collect();
    assert_eq!(interfaces.len(), 2, "{interfaces:?}");
    assert!(
        interfaces.contains(&"lo") && interfaces.contains(&"eth0"),
        "{interfaces:?}"
    );
    for space in ["net", "ipc", "pid", "mnt", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{space}")).expect("a namespace");
        assert_ne!(of(&pid.to_string()), of("self"), "{space}");
    }

    let ram = (256 * MIB).to_string();
    assert_eq!(
        control(pid, "memory", "memory.limit_in_bytes", "memory.max"),
        ram
    );
    assert_eq!(control(pid, "pids", "pids.max", "pids.max"), "1024");
    let cpu = control(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    let cpu = cpu.split_whitespace().next().expect("a quota");
    assert_eq!(cpu, "50000", "of a period of 100 ms");

    let limits = read(&format!("/proc/{pid}/limits"));
    let core = limits
        .lines()
        .find(|l| l.starts_with("Max core file size"))
        .expect("listed");
    assert!(
        core.split_whitespace()
            .skip(4)
            .take(2)
            .all(|limit| limit == "0"),
        "{core}"
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_more_memory_than_rented_is_killed_and_told_so() {
    let node = Node::new("oom");
    let agent = node.start().await;
    // one buffer of 300 MiB in a rental of 256 MiB
    let command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"];
    let rental = node.rental("busybox:latest", &command);
    agent.wish(1, &[&rental], LEASE_MS).await;
    let live = agent.until_exited(&rental, ExitCause::Itself).await;
    let Phase::Exited { exit, .. } = live.observed.phase else {
        panic!("it has exited");
    };
    let expected = Exit {
        code: 137,
        oom_killed: true,
    };
    assert_eq!(exit, expected);
    assert!(live.observed.finished_at > live.observed.started_at);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_stops_at_the_process_limit() {
    let node = Node::new("forks");
    let agent = node.start().await;
    // busybox's shell ends at the first fork that fails; its children then keep the container's init busy only
    let bomb = "i=0; while [ $i -lt 1100 ]; do sleep 600 & i=$((i+1)); done; echo all";
    let mut rental = node.rental("busybox:latest", &["sh", "-c", bomb]);
    rental.resources.ram_bytes = 1024 * MIB;
    agent.wish(1, &[&rental], LEASE_MS).await;
    let live = agent.until_exited(&rental, ExitCause::Itself).await;
    let id = live.observed.container_id.expect("there");
    let log = node.engine().docker(&["logs", &id]);
    assert!(!log.contains("all"), "1,100 processes came to be: {log}");
    let Phase::Exited { exit, .. } = live.observed.phase else {
        panic!("it has exited");
    };
    assert_ne!(exit.code, 0);
    assert!(!exit.oom_killed);
    agent.end().await;
}
