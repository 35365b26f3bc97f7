//! Memory, processors, disks and system, by sysinfo.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use shared::resources::Disk;
use sysinfo::{DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

use super::{DEVICES_MAX, bounded};
use crate::measure::cgroup::Mounts;

/// File systems that hold data on a device of this machine. Anything else is memory, a layer over another one, or the network,
/// where asking for free space may hang.
const LOCAL_FILE_SYSTEMS: [&str; 12] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "ntfs3",
    "vfat",
];
/// A boot partition or a configuration drive isn't a disk to rent from.
const DISK_BYTES_MIN: i64 = 1 << 30;

pub(super) struct Host {
    pub(super) hostname: String,
    pub(super) kernel: String,
    pub(super) os: String,
    pub(super) ram_total_bytes: i64,
    pub(super) cpu_model: String,
    pub(super) cpu_count: i64,
    pub(super) disks: Vec<Disk>,
    pub(super) cgroup_version: i64,
}

/// The machine's memory, bytes.
pub(super) fn ram_total_bytes() -> anyhow::Result<i64> {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    total_of(&System::new_with_specifics(memory).map_err(unmeasured)?)
}

fn unmeasured(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("this machine can't be measured: {error}")
}

fn total_of(system: &System) -> anyhow::Result<i64> {
    i64::try_from(system.total_memory())
        .ok()
        .filter(|bytes| *bytes > 0)
        .context("the kernel doesn't say how much memory this machine has (/proc/meminfo)")
}

pub(super) fn measure(root: &Path) -> anyhow::Result<Host> {
    let system = System::new_with_specifics(
        RefreshKind::nothing()
            .with_memory(MemoryRefreshKind::nothing().with_ram())
            .with_cpu(sysinfo::CpuRefreshKind::nothing()),
    )
    .map_err(unmeasured)?;
    let ram_total_bytes = total_of(&system)?;
    let unknown = |_| "unknown".to_owned();
    Ok(Host {
        hostname: bounded(&System::host_name().unwrap_or_else(unknown)),
        kernel: bounded(&System::kernel_version().unwrap_or_else(unknown)),
        os: os_name(root),
        ram_total_bytes,
        cpu_model: system
            .cpus()
            .first()
            .map(|cpu| bounded(cpu.brand()))
            .filter(|model| !model.is_empty())
            .unwrap_or_else(|| "unknown".to_owned()),
        cpu_count: usable_cpus()?,
        disks: disks(),
        cgroup_version: Mounts::read(root)?.version().context(
            "no control groups are mounted; containers can't be limited on this machine",
        )?,
    })
}

/// Processors that this process may run on: fewer than the machine has if it is confined.
/// Processors that this process may use.
pub(super) fn usable_cpus() -> anyhow::Result<i64> {
    let count = std::thread::available_parallelism()
        .context("the kernel doesn't say how many processors there are")?;
    Ok(i64::try_from(count.get()).unwrap_or(i64::MAX))
}

/// `PRETTY_NAME` of `/etc/os-release`.
fn os_name(root: &Path) -> String {
    let text = ["etc/os-release", "usr/lib/os-release"]
        .iter()
        .find_map(|path| std::fs::read_to_string(root.join(path)).ok())
        .unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| bounded(name.trim().trim_matches(['"', '\''])))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "Linux".to_owned())
}

fn disks() -> Vec<Disk> {
    let list = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let mut disks = list.map_or_else(
        |_| Vec::new(),
        |list| {
            list.iter()
                .map(|disk| Found {
                    device: disk.name().to_string_lossy().into_owned(),
                    disk: Disk {
                        mount: disk.mount_point().to_string_lossy().into_owned(),
                        file_system: disk.file_system().to_string_lossy().into_owned(),
                        total_bytes: i64::try_from(disk.total_space()).unwrap_or(i64::MAX),
                    },
                    read_only: disk.is_read_only(),
                })
                .collect()
        },
    );
    choose(&mut disks)
}

/// A mounted file system as the kernel lists it.
pub(super) struct Found {
    pub(super) device: String,
    pub(super) disk: Disk,
    pub(super) read_only: bool,
}

/// Keeps each device that holds data once, by its shortest mount point, sorted.
pub(super) fn choose(found: &mut Vec<Found>) -> Vec<Disk> {
    found.retain(|found| {
        !found.read_only
            && LOCAL_FILE_SYSTEMS.contains(&found.disk.file_system.as_str())
            && found.disk.total_bytes >= DISK_BYTES_MIN
            && found.disk.mount.len() <= super::TEXT_CHARS_MAX
    });
    found.sort_by(|a, b| {
        (a.disk.mount.len(), &a.disk.mount).cmp(&(b.disk.mount.len(), &b.disk.mount))
    });
    let mut devices = BTreeSet::new();
    let mut disks: Vec<Disk> = found
        .drain(..)
        .filter(|found| devices.insert(found.device.clone()))
        .map(|found| found.disk)
        .take(DEVICES_MAX)
        .collect();
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    disks
}
