//! What a process holds of the machine: its resident memory, and how many files this one may open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Resident memory of a process, bytes.
///
/// # Panics
/// If it doesn't run.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    of(pid, "VmRSS:")
}

/// The most that it ever was, bytes.
///
/// # Panics
/// If it doesn't run.
#[must_use]
pub fn peak_bytes(pid: u32) -> u64 {
    of(pid, "VmHWM:")
}

fn of(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("kibibytes") * 1_024
}

/// Lets this process, and what it starts from now on, open as many files as it may.
///
/// # Panics
/// If that is fewer than `wanted`.
pub fn allow_open_files(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let has = limit.current;
    setrlimit(Resource::Nofile, limit).expect("the own limit may be raised");
    assert!(
        has.is_none_or(|has| has >= wanted),
        "this needs {wanted} open files: raise the hard limit (ulimit -Hn)"
    );
}
