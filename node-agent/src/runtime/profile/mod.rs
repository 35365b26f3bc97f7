//! What a stranger's container may do: Docker's creation body, built purely from the rental and the machine, and the check that it took.
//!
//! # Invariants
//! - Nothing of a specification reaches a field that limits: image, command and environment are all that a consumer sets.
//! - No host path, no device but the GPUs that the rental is named, no added privilege, nothing mounted but the rental's own disk; six
//!   capabilities that root images need to change owners and users, and none for
//!   images that run as another user. The network is one that [`super::network`] made for this rental, or none.
//! - System calls are those that [`seccomp`] lists; everything else is refused by the kernel.
//! - Every label that this program reads is set, or the image would set it: what a label says is the node's word.
//! - [`check()`] compares every field of what Docker says it holds, and our labels, with what was asked, and runs before the container's first
//!   instruction: an engine that ignores a limit (a kernel without it makes Docker warn and go on) gets no rental started.

mod check;
mod gpus;
mod ground;
mod own_disk;
pub mod seccomp;

use std::collections::{BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum, ThrottleDevice,
};
use shared::{
    container::limits::DISK_BYTES_MIN,
    id::RentalId,
    resources::{QuotaMeans, Resources, is_gpu_uuid},
    wire::desired::DesiredRental,
};

use super::{
    LABEL_DISK, LABEL_GPUS, LABEL_LEASE, LABEL_NODE, LABEL_PROBE, LABEL_RENTAL, LABEL_SPEC,
    RuntimeError, code, label,
};

pub use check::check;
pub use ground::Ground;
pub use own_disk::volume;

/// What is left of root's capabilities: enough for images that change owners and step down to a user.
pub const CAPABILITIES: [&str; 6] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "SETUID",
    "SETGID",
    "KILL",
];
/// Seconds between SIGTERM and SIGKILL.
pub const STOP_GRACE_S: i64 = 10;
/// The most processes of a container.
const PIDS_MAX: i64 = 8_192;
/// The most open files of a process.
const OPEN_FILES_MAX: i64 = 65_536;
/// The most shared memory (`/dev/shm`), and the most in `/tmp`; both count as memory.
const SHM_BYTES_MAX: i64 = 1 << 30;
/// What a process may lock in memory: keys of programs that encrypt, not a hog's pages. Programs that compute on GPUs lock what they copy
/// from, all of the rental's memory if they like.
const LOCKED_BYTES_MAX: i64 = 64 << 10;
/// What one rental may read, and write, of the engine's disk in a second.
const DISK_BYTES_PER_S_MAX: i64 = 200 << 20;
/// The same, in operations.
const DISK_OPERATIONS_PER_S_MAX: i64 = 5_000;
/// [`Cage::network`] of a rental that has none.
pub const NO_NETWORK: &str = "none";

/// What decides a container's cage besides the rental itself.
#[derive(Debug, Clone, Copy)]
pub struct Cage<'a> {
    /// The node's label.
    pub scope: &'a str,
    /// What host and engine can do.
    pub ground: &'a Ground,
    /// Whether the image's first process starts as root.
    pub root_image: bool,
    /// The rental's own network by name, or [`NO_NETWORK`].
    pub network: &'a str,
    /// The OCI runtime by its name at the engine; the engine's default if `None`.
    pub runtime: Option<&'a str>,
    /// Addresses of the name servers that a rental with a network asks.
    pub dns: &'a [String],
    /// What keeps it within its disk; `None` where there are none.
    pub means: Option<QuotaMeans>,
    /// What it may write outside a disk of its own, where the engine limits that.
    pub root_bytes: i64,
}

/// The container's name: one per rental, so that creating twice can't make two.
#[must_use]
pub fn name(rental_id: RentalId) -> String {
    format!("ramarket-{rental_id}")
}

/// What a rental asks for and can't be enforced, as a refusal. Whether there are disks is the machine's to say, when one is made.
///
/// # Errors
/// GPUs that aren't named one by one: a word like `all` in their place would give every GPU of the machine. Less disk space than a file
/// system needs.
pub fn check_supported(rental: &DesiredRental) -> Result<(), RuntimeError> {
    let refuse = |what: &str| {
        let reason =
            format!("this node can't enforce {what} yet; rent without it or choose another node");
        Err(RuntimeError::refused(code::NOT_SUPPORTED, reason))
    };
    let named: BTreeSet<&String> = rental.gpus.iter().filter(|id| is_gpu_uuid(id)).collect();
    let as_many = |count: i64| {
        usize::try_from(count).is_ok_and(|count| count == named.len() && count == rental.gpus.len())
    };
    match &rental.resources {
        Resources { gpu_count, .. } if !as_many(*gpu_count) => {
            refuse("GPUs that aren't named by as many UUIDs")
        }
        Resources { disk_bytes, .. } if *disk_bytes != 0 && *disk_bytes < DISK_BYTES_MIN => {
            refuse("a disk of less than 64 MiB")
        }
        Resources { ram_bytes, .. } if *ram_bytes <= 0 => refuse("a rental without memory"),
        Resources { cpu_millis, .. } if *cpu_millis <= 0 => refuse("a rental without CPU"),
        _ => Ok(()),
    }
}

/// Whether an image's first process starts as root, by the user that the image names. A name that isn't root's counts as another's: should
/// the image's own table give it root's number, it is root without capabilities.
#[must_use]
pub fn starts_as_root(user: Option<&str>) -> bool {
    let user = user.unwrap_or_default();
    let name = user.split_once(':').map_or(user, |(name, _)| name);
    matches!(name, "" | "0" | "root")
}

/// The name of a rental's image, whole, so that no engine takes it for an id: by the digest that was quoted or fetched, else by its tag.
#[must_use]
pub fn image_of(rental: &DesiredRental) -> String {
    let image = rental.spec.image_ref();
    match &rental.image {
        Some(pinned) => image.at(&pinned.digest).canonical(),
        None => image.canonical(),
    }
}

/// The body of Docker's create call.
#[must_use]
pub fn create_body(rental: &DesiredRental, cage: &Cage<'_>) -> ContainerCreateBody {
    let command = rental.spec.command();
    ContainerCreateBody {
        image: Some(image_of(rental)),
        cmd: (!command.is_empty()).then(|| command.to_vec()),
        env: Some(environment(rental)),
        labels: Some(labels(rental, cage.scope)),
        // an image's own health check is CPU and process noise that nobody asked for
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        stop_timeout: Some(STOP_GRACE_S),
        tty: Some(false),
        open_stdin: Some(false),
        host_config: Some(HostConfig {
            mounts: own_disk::mounts(rental, cage.means),
            ..host_config(&rental.resources, &rental.gpus, cage)
        }),
        ..ContainerCreateBody::default()
    }
}

/// The consumer's variables; a rental with GPUs is told which by the engine alone.
fn environment(rental: &DesiredRental) -> Vec<String> {
    let gpus = !rental.gpus.is_empty();
    let chosen = rental
        .spec
        .env()
        .iter()
        .filter(|(name, _)| !gpus || !gpus::ENGINES_VARIABLES.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"));
    // a name alone takes the image's variable away
    let taken = gpus::ENGINES_VARIABLES.iter().filter(|_| gpus);
    chosen.chain(taken.map(|&name| name.to_owned())).collect()
}

fn labels(rental: &DesiredRental, scope: &str) -> HashMap<String, String> {
    let bytes = rental.resources.disk_bytes;
    let disk = if bytes == 0 {
        String::new()
    } else {
        bytes.to_string()
    };
    // each, empty ones too: a name that isn't set here is the image's to set
    [
        (LABEL_RENTAL, rental.rental_id.to_string()),
        (LABEL_LEASE, rental.lease_id.to_string()),
        (LABEL_SPEC, rental.spec.sha256_hex()),
        (LABEL_NODE, scope.to_owned()),
        (LABEL_GPUS, rental.gpus.join(",")),
        (LABEL_DISK, disk),
        (LABEL_PROBE, String::new()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The host configuration alone, which is what cages; `gpus` by their UUIDs.
#[must_use]
pub fn host_config(resources: &Resources, gpus: &[String], cage: &Cage<'_>) -> HostConfig {
    let ground = cage.ground;
    let locked_bytes = if gpus.is_empty() {
        LOCKED_BYTES_MAX
    } else {
        resources.ram_bytes
    };
    let limits = HostConfig {
        memory: Some(resources.ram_bytes),
        // equal means no swap: no thrash of the provider's disk, and an honest end when memory is full
        memory_swap: Some(resources.ram_bytes),
        memory_swappiness: ground.cgroup_v1.then_some(0),
        // under pressure the kernel takes from those first that hold nearly all of theirs
        memory_reservation: Some(resources.ram_bytes / 10 * 9),
        nano_cpus: Some(resources.cpu_millis.saturating_mul(1_000_000)),
        pids_limit: Some(pids_limit(resources.cpu_millis)),
        shm_size: Some((resources.ram_bytes / 4).min(SHM_BYTES_MAX)),
        tmpfs: Some(tmpfs(resources.ram_bytes)),
        // no nproc: it counts a user's processes over all containers
        ulimits: Some(vec![
            ulimit("core", 0),
            ulimit("memlock", locked_bytes.min(ground.locked_bytes_limit)),
            ulimit("nofile", OPEN_FILES_MAX.min(ground.open_files_limit)),
        ]),
        oom_kill_disable: Some(false),
        // the tenant dies before the agent, the engine or sshd
        oom_score_adj: Some(500),
        cgroup_parent: Some(ground.cgroup_parent().to_owned()),
        log_config: Some(log_config()),
        storage_opt: (cage.means == Some(QuotaMeans::Engine)).then(|| {
            let bytes = cage.root_bytes.to_string();
            [("size".to_owned(), bytes)].into()
        }),
        ..HostConfig::default()
    };
    let limits = throttled(limits, ground.disk.as_deref());
    HostConfig {
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: cage
            .root_image
            .then(|| CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(security(ground)),
        runtime: cage.runtime.map(str::to_owned),
        network_mode: Some(cage.network.to_owned()),
        dns: (cage.network != NO_NETWORK).then(|| cage.dns.to_vec()),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        publish_all_ports: Some(false),
        // a restart by the engine would run without a lease, and how it ended must stay to be read
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        init: Some(true),
        device_requests: gpus::requests(gpus),
        // masked_paths and readonly_paths stay unset: setting them would replace Docker's own, which the check looks for
        ..limits
    }
}

/// The profile's text goes along: the engine takes contents, not a path.
fn security(ground: &Ground) -> Vec<String> {
    let mut options = vec![
        "no-new-privileges:true".to_owned(),
        format!("seccomp={}", seccomp::text()),
    ];
    if ground.apparmor {
        options.push("apparmor=docker-default".to_owned());
    }
    options
}

/// `/tmp` in memory, which counts as the rental's. `/run` stays as the image has it: the engine would mount over it, and images that made
/// folders there (databases, web servers) wouldn't find them.
fn tmpfs(ram_bytes: i64) -> HashMap<String, String> {
    let size = (ram_bytes / 4).min(SHM_BYTES_MAX);
    // tenants run what they build, so it isn't noexec
    let options = format!("rw,nosuid,nodev,exec,size={size}");
    [("/tmp".to_owned(), options)].into()
}

/// Caps what a rental reads from and writes to the engine's disk, where it is known and the kernel can.
fn throttled(limits: HostConfig, disk: Option<&str>) -> HostConfig {
    let cap = |rate: i64| {
        disk.map(|disk| {
            vec![ThrottleDevice {
                path: Some(disk.to_owned()),
                rate: Some(rate),
            }]
        })
    };
    HostConfig {
        blkio_device_read_bps: cap(DISK_BYTES_PER_S_MAX),
        blkio_device_write_bps: cap(DISK_BYTES_PER_S_MAX),
        blkio_device_read_iops: cap(DISK_OPERATIONS_PER_S_MAX),
        blkio_device_write_iops: cap(DISK_OPERATIONS_PER_S_MAX),
        ..limits
    }
}

fn pids_limit(cpu_millis: i64) -> i64 {
    let cores = cpu_millis.saturating_add(999) / 1_000;
    cores.saturating_mul(512).saturating_add(512).min(PIDS_MAX)
}

fn ulimit(name: &str, limit: i64) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(limit),
        hard: Some(limit),
    }
}

/// At most 30 MB on the provider's disk, and a flood stalls the log rather than the tenant.
fn log_config() -> HostConfigLogConfig {
    let config = [
        ("max-size", "10m"),
        ("max-file", "3"),
        ("mode", "non-blocking"),
        ("max-buffer-size", "4m"),
    ];
    HostConfigLogConfig {
        typ: Some("local".to_owned()),
        config: Some(
            config
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests;
