//! Checks of the machine itself: control groups, disk, memory, files, time.

use shared::resources::{Finding, QuotaMeans, host_reserve_bytes};

use super::{
    facts::{Facts, FileFact},
    failed, ok, warning,
};
use crate::operator::units::shown_bytes;

/// Controllers without which a rental can't be limited or measured.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Whether the kernel can limit and count what rentals use.
pub(super) fn cgroups(name: &'static str, facts: &Facts) -> Finding {
    let version = facts.cgroup_version;
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|wanted| !facts.controllers.iter().any(|known| known == wanted))
        .collect();
    match (version, missing.as_slice()) {
        (None, _) => failed(
            name,
            "no control groups are mounted: nothing can be limited or measured",
            "boot with systemd, or mount /sys/fs/cgroup",
        ),
        (Some(version), []) => ok(
            name,
            &format!(
                "control groups of version {version} with {}",
                CONTROLLERS.join(", ")
            ),
        ),
        (Some(version), missing) => failed(
            name,
            &format!(
                "control groups of version {version} lack {}: rentals can't be limited by it",
                missing.join(", ")
            ),
            "boot with cgroup_enable=memory swapaccount=1, or let systemd delegate the controllers",
        ),
    }
}

/// What keeps rentals within their disk space.
pub(super) fn disk_quota(name: &'static str, facts: &Facts) -> Finding {
    let disk = facts.inventory.as_ref().ok();
    match disk.and_then(|inventory| inventory.rental_disk.as_ref()) {
        Some(disk) => {
            let space = shown_bytes(disk.total_bytes);
            match disk.means {
                QuotaMeans::Engine => ok(
                    name,
                    &format!("{space} for rentals, kept by the engine's quota"),
                ),
                QuotaMeans::Loopback => ok(
                    name,
                    &format!("{space} for rentals, each a file system of its own"),
                ),
                QuotaMeans::Policed => warning(
                    name,
                    &format!("{space} for rentals, and nothing but watching keeps them within it"),
                    "put Docker's data on XFS with project quotas (pquota), or on btrfs",
                ),
            }
        }
        None => warning(
            name,
            "no disk space can be rented out here: nothing divides it",
            "put Docker's data on XFS with project quotas (pquota), or leave room for rentals' volumes beside the agent's helper",
        ),
    }
}

/// Whether there is as much memory as is offered.
pub(super) fn memory(name: &'static str, facts: &Facts) -> Finding {
    let (Some(available), Ok(inventory)) = (facts.ram_available_bytes, &facts.inventory) else {
        return failed(
            name,
            "the kernel doesn't say how much memory there is",
            "look at /proc/meminfo",
        );
    };
    let reserve = host_reserve_bytes(inventory.ram_total_bytes);
    if let Some(pressure) = facts
        .status
        .as_ref()
        .and_then(|status| status.memory_pressure.as_ref())
    {
        return warning(
            name,
            &format!("memory is short: {pressure}"),
            "end what this machine does besides, or rent out less: ramarket-agent share --ram …",
        );
    }
    let standing = facts
        .status
        .as_ref()
        .and_then(|status| status.standing.as_ref());
    let Some(standing) = standing else {
        return ok(
            name,
            &format!(
                "{} of {} are available, {} stay with the machine",
                shown_bytes(available),
                shown_bytes(inventory.ram_total_bytes),
                shown_bytes(reserve)
            ),
        );
    };
    let offered = standing.free.ram_bytes;
    if available >= offered {
        return ok(
            name,
            &format!(
                "{} are available for the {} that can still be rented",
                shown_bytes(available),
                shown_bytes(offered)
            ),
        );
    }
    warning(
        name,
        &format!(
            "{} can still be rented, and only {} are available",
            shown_bytes(offered),
            shown_bytes(available)
        ),
        "end what this machine does besides, or rent out less: ramarket-agent share --ram …",
    )
}

/// Whether what is secret is kept so.
pub(super) fn files(name: &'static str, facts: &Facts) -> Finding {
    let open: Vec<String> = facts
        .files
        .iter()
        .filter(|file| is_open(file))
        .map(|file| {
            format!(
                "{} has mode {:04o} instead of {:04o}",
                file.path.display(),
                file.mode.unwrap_or_default(),
                file.wanted
            )
        })
        .collect();
    if !open.is_empty() {
        return failed(
            name,
            &format!(
                "others can read what is the agent's alone: {}",
                open.join("; ")
            ),
            "run: sudo ramarket-agent doctor --fix; and if anybody may have read the key, enrol anew",
        );
    }
    match facts
        .files
        .iter()
        .filter(|file| file.mode.is_some())
        .count()
    {
        0 => ok(name, "none are there yet"),
        count => ok(
            name,
            &format!("{count} files are readable by the agent alone"),
        ),
    }
}

/// Whether a file gives more rights than it may.
pub(super) fn is_open(file: &FileFact) -> bool {
    file.mode.is_some_and(|mode| mode & !file.wanted != 0)
}

/// Services that as they are installed ask nobody who they are, by port.
const TRUSTING: [(u16, &str); 8] = [
    (111, "rpcbind"),
    (2_049, "NFS"),
    (6_000, "X11"),
    (6_379, "Redis"),
    (9_200, "Elasticsearch"),
    (10_255, "kubelet"),
    (11_211, "memcached"),
    (27_017, "MongoDB"),
];

/// Whether something waits for connections that shouldn't: lending needs no open port at all.
pub(super) fn ports(name: &'static str, facts: &Facts) -> Finding {
    let open: Vec<u16> = facts
        .listening
        .iter()
        .filter(|found| found.from_outside)
        .map(|found| found.port)
        .collect();
    let trusting: Vec<String> = TRUSTING
        .into_iter()
        .filter(|(port, _)| open.contains(port))
        .map(|(port, service)| format!("{port} ({service})"))
        .collect();
    if !trusting.is_empty() {
        return warning(
            name,
            &format!(
                "open to the network, and as installed to everybody: {}; rentals can't reach it, others can",
                trusting.join(", ")
            ),
            "let it listen on 127.0.0.1 only, or close it in this machine's own firewall",
        );
    }
    let shown: Vec<String> = open.iter().map(ToString::to_string).collect();
    let open = match shown.as_slice() {
        [] => "nothing here waits for connections from outside".to_owned(),
        shown => format!("open to the network: {}", shown.join(", ")),
    };
    ok(
        name,
        &format!("{open}; lending needs no open port, the agent dials out"),
    )
}

/// Whether something keeps the clock right.
pub(super) fn clock_sync(name: &'static str, facts: &Facts) -> Finding {
    match facts.clock_synced {
        Some(true) => ok(name, "the clock is kept by a time service"),
        Some(false) => warning(
            name,
            "no time service keeps the clock: once it is more than a minute off, the coordinator refuses what this machine signs",
            "run: systemctl enable --now systemd-timesyncd, or install chrony",
        ),
        None => warning(
            name,
            "whether a time service keeps the clock isn't known here (no timedatectl)",
            "make sure that one does",
        ),
    }
}
