//! What a stranger's container may do: Docker's creation body, built purely from the rental, and the check that it took.
//!
//! # Invariants
//! - Nothing of a specification reaches a field that limits: image, command and environment are all that a consumer sets.
//! - No network, no host path, no device, no added privilege; six capabilities that root images need to change owners and users.
//! - [`check`] compares what Docker says it holds with what was asked, and runs before the container's first instruction: an engine
//!   that ignores a limit (a kernel without it makes Docker warn and go on) gets no rental started.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use shared::{id::RentalId, resources::Resources, wire::desired::DesiredRental};

use super::{LABEL_LEASE, LABEL_NODE, LABEL_RENTAL, LABEL_SPEC, RuntimeError, code};

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
/// The most shared memory (`/dev/shm`), which counts as memory.
const SHM_BYTES_MAX: i64 = 1 << 30;

/// What of the host decides limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    /// Whether containers live in the cgroup v1 hierarchy.
    pub cgroup_v1: bool,
    /// The hard limit on open files here; asking for more makes containers fail to start where root may not raise limits.
    pub open_files_limit: i64,
}

impl HostFacts {
    /// Reads them from this machine.
    #[must_use]
    pub fn read() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        Self {
            cgroup_v1: !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            open_files_limit: limit
                .and_then(|limit| i64::try_from(limit).ok())
                .unwrap_or(i64::MAX),
        }
    }
}

/// The container's name: one per rental, so that creating twice can't make two.
#[must_use]
pub fn name(rental_id: RentalId) -> String {
    format!("ramarket-{rental_id}")
}

/// What of the resources can't be enforced yet, as a refusal.
///
/// # Errors
/// A GPU or disk space is asked for.
pub fn check_supported(resources: &Resources) -> Result<(), RuntimeError> {
    let refuse = |what: &str| {
        let reason =
            format!("this node can't enforce {what} yet; rent without it or choose another node");
        Err(RuntimeError::refused(code::NOT_SUPPORTED, reason))
    };
    match resources {
        Resources { gpu_count, .. } if *gpu_count != 0 => refuse("GPUs"),
        Resources { disk_bytes, .. } if *disk_bytes != 0 => refuse("disk quotas"),
        Resources { ram_bytes, .. } if *ram_bytes <= 0 => refuse("a rental without memory"),
        Resources { cpu_millis, .. } if *cpu_millis <= 0 => refuse("a rental without CPU"),
        _ => Ok(()),
    }
}

/// The body of Docker's create call. `scope` is the node's label.
#[must_use]
pub fn create_body(rental: &DesiredRental, scope: &str, host: HostFacts) -> ContainerCreateBody {
    let command = rental.spec.command();
    ContainerCreateBody {
        image: Some(rental.spec.image().to_owned()),
        cmd: (!command.is_empty()).then(|| command.to_vec()),
        env: Some(
            rental
                .spec
                .env()
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        labels: Some(labels(rental, scope)),
        // an image's own health check is CPU and process noise that nobody asked for
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        stop_timeout: Some(STOP_GRACE_S),
        tty: Some(false),
        open_stdin: Some(false),
        host_config: Some(host_config(&rental.resources, host)),
        ..ContainerCreateBody::default()
    }
}

fn labels(rental: &DesiredRental, scope: &str) -> HashMap<String, String> {
    [
        (LABEL_RENTAL, rental.rental_id.to_string()),
        (LABEL_LEASE, rental.lease_id.to_string()),
        (LABEL_SPEC, rental.spec.sha256_hex()),
        (LABEL_NODE, scope.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn host_config(resources: &Resources, host: HostFacts) -> HostConfig {
    HostConfig {
        memory: Some(resources.ram_bytes),
        // equal means no swap: no thrash of the provider's disk, and an honest end when memory is full
        memory_swap: Some(resources.ram_bytes),
        memory_swappiness: host.cgroup_v1.then_some(0),
        nano_cpus: Some(resources.cpu_millis.saturating_mul(1_000_000)),
        pids_limit: Some(pids_limit(resources.cpu_millis)),
        shm_size: Some((resources.ram_bytes / 4).min(SHM_BYTES_MAX)),
        ulimits: Some(vec![
            ulimit("core", 0),
            ulimit("nofile", OPEN_FILES_MAX.min(host.open_files_limit)),
        ]),
        oom_kill_disable: Some(false),
        // the tenant dies before the agent, the engine or sshd
        oom_score_adj: Some(500),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        publish_all_ports: Some(false),
        log_config: Some(log_config()),
        // a restart by the engine would run without a lease, and how it ended must stay to be read
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        init: Some(true),
        // masked_paths and readonly_paths stay unset: setting them would replace Docker's own
        ..HostConfig::default()
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

/// Compares what Docker says of a container with the body that it was to be created from.
///
/// # Errors
/// A refusal that names the first limit that isn't in force.
pub fn check(
    asked: &ContainerCreateBody,
    held: &ContainerInspectResponse,
) -> Result<(), RuntimeError> {
    let volumes = held.config.as_ref().and_then(|c| c.volumes.as_ref());
    if volumes.is_some_and(|volumes| !volumes.is_empty()) {
        // the request names none, so they are the image's
        return Err(RuntimeError::refused(
            code::IMAGE_NOT_SUPPORTED,
            "the image declares volumes, which would escape the rental's limits; use an image without VOLUME",
        ));
    }
    match first_difference(asked, held) {
        None => Ok(()),
        Some(what) => Err(RuntimeError::refused(
            code::CREATE_FAILED,
            format!(
                "this node's container engine didn't enforce {what}; the container wasn't started"
            ),
        )),
    }
}

fn first_difference(
    asked: &ContainerCreateBody,
    held: &ContainerInspectResponse,
) -> Option<&'static str> {
    let (Some(asked), Some(host)) = (asked.host_config.as_ref(), held.host_config.as_ref()) else {
        return Some("any limit");
    };
    let none = |list: Option<usize>| list.is_none_or(|len| len == 0);
    let namespace_shared = |mode: Option<&String>| mode.is_some_and(|mode| !mode.is_empty());
    let checks = [
        ("that it is unprivileged", host.privileged == Some(false)),
        ("its memory limit", host.memory == asked.memory),
        ("that it can't swap", host.memory_swap == asked.memory_swap),
        ("its CPU limit", host.nano_cpus == asked.nano_cpus),
        ("its process limit", host.pids_limit == asked.pids_limit),
        (
            "that it has no network",
            host.network_mode == asked.network_mode,
        ),
        (
            "that it drops all capabilities",
            capabilities(host.cap_drop.as_ref()) == ["ALL"],
        ),
        (
            "its list of capabilities",
            capabilities(host.cap_add.as_ref()) == capabilities(asked.cap_add.as_ref()),
        ),
        (
            "that it gains no privileges",
            host.security_opt == asked.security_opt,
        ),
        ("its own IPC namespace", host.ipc_mode == asked.ipc_mode),
        (
            "its own cgroup namespace",
            host.cgroupns_mode == asked.cgroupns_mode,
        ),
        (
            "its own namespaces",
            !namespace_shared(host.pid_mode.as_ref())
                && !namespace_shared(host.uts_mode.as_ref())
                && !namespace_shared(host.userns_mode.as_ref()),
        ),
        (
            "that it isn't restarted",
            host.restart_policy.as_ref().and_then(|p| p.name) == Some(RestartPolicyNameEnum::NO),
        ),
        ("its log limits", host.log_config == asked.log_config),
        ("that it may be killed", host.oom_kill_disable != Some(true)),
        (
            "that it holds nothing of the host",
            none(held.mounts.as_ref().map(Vec::len))
                && none(host.binds.as_ref().map(Vec::len))
                && none(host.devices.as_ref().map(Vec::len))
                && none(host.device_requests.as_ref().map(Vec::len)),
        ),
    ];
    checks
        .into_iter()
        .find(|(_, holds)| !holds)
        .map(|(what, _)| what)
}

/// Sorted names without the prefix, which Docker adds in some versions.
fn capabilities(names: Option<&Vec<String>>) -> Vec<&str> {
    let mut names: Vec<&str> = names
        .into_iter()
        .flatten()
        .map(|name| name.strip_prefix("CAP_").unwrap_or(name))
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests;
