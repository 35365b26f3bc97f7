//! The Docker engine as the bench sees it: bare create and start, `docker run -d`, when a container started, and its events.

use std::{collections::HashMap, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use bollard::{
    Docker,
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{
        CreateContainerOptions, EventsOptions, InspectContainerOptions, ListContainersOptions,
        RemoveContainerOptions, StartContainerOptions,
    },
};
use futures_util::StreamExt as _;
use node_agent::runtime::{LABEL_NODE, LABEL_RENTAL};
use shared::{
    clock::{Clock as _, SystemClock},
    time::Timestamp,
};
use tokio::{process::Command, sync::mpsc, task::JoinHandle};

use crate::machine::until;

const ANSWER_SECONDS_MAX: u64 = 120;
const SOCKET: &str = "unix:///var/run/docker.sock";
const EVENTS_MAX: usize = 4_096;

/// The engine of this machine, if one answers.
pub(crate) async fn connect() -> Result<Docker> {
    let docker =
        Docker::connect_with_unix(SOCKET, ANSWER_SECONDS_MAX, bollard::API_DEFAULT_VERSION)?;
    Ok(docker.negotiate_version().await?)
}

/// Creates and starts a container by the two calls alone; returns its id and when the first was answered.
pub(super) async fn create_and_start(
    docker: &Docker,
    body: ContainerCreateBody,
) -> Result<(String, Timestamp)> {
    let created = docker
        .create_container(None::<CreateContainerOptions>, body)
        .await?;
    let created_at = SystemClock.now();
    docker
        .start_container(&created.id, None::<StartContainerOptions>)
        .await?;
    Ok((created.id, created_at))
}

/// `docker run -d` of the same container; returns its id.
pub(super) async fn run_by_command(body: &ContainerCreateBody, seccomp: &Path) -> Result<String> {
    let mut command = Command::new("docker");
    command
        .args(["--host", SOCKET, "run", "-d"])
        .args(flags(body, seccomp)?);
    command
        .args(body.image.iter())
        .args(body.cmd.iter().flatten());
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .context("no docker command")?;
    ensure!(
        output.status.success(),
        "docker run failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The create call's body as flags of the command, so that both make the same container.
fn flags(body: &ContainerCreateBody, seccomp: &Path) -> Result<Vec<String>> {
    let host = body
        .host_config
        .as_ref()
        .context("a body without host configuration")?;
    let mut flags = vec!["--no-healthcheck".to_owned()];
    let mut flag = |name: &str, value: String| flags.push(format!("--{name}={value}"));
    let mut numbers = |pairs: &[(&str, Option<i64>)]| {
        for (name, value) in pairs {
            value.iter().for_each(|value| flag(name, value.to_string()));
        }
    };
    numbers(&[
        ("memory", host.memory),
        ("memory-swap", host.memory_swap),
        ("memory-reservation", host.memory_reservation),
        ("memory-swappiness", host.memory_swappiness),
        ("pids-limit", host.pids_limit),
        ("shm-size", host.shm_size),
        ("oom-score-adj", host.oom_score_adj),
        ("stop-timeout", body.stop_timeout),
    ]);
    let nanos = host.nano_cpus.context("no CPU limit")?;
    flag(
        "cpus",
        format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000),
    );
    flag(
        "network",
        host.network_mode.clone().context("no network mode")?,
    );
    flag("ipc", host.ipc_mode.clone().context("no ipc mode")?);
    flag("init", host.init.unwrap_or_default().to_string());
    flags.extend(lists(host));
    flags.extend(confined(host, seccomp));
    Ok(flags)
}

fn lists(host: &HostConfig) -> Vec<String> {
    let mut flags = Vec::new();
    let mut flag = |name: &str, value: String| flags.push(format!("--{name}={value}"));
    if let Some(mode) = host.cgroupns_mode {
        flag("cgroupns", mode.to_string());
    }
    for (name, values) in [
        ("cap-drop", &host.cap_drop),
        ("cap-add", &host.cap_add),
        ("dns", &host.dns),
    ] {
        values
            .iter()
            .flatten()
            .for_each(|value| flag(name, value.clone()));
    }
    for limit in host.ulimits.iter().flatten() {
        let (name, soft, hard) = (
            limit.name.clone().unwrap_or_default(),
            limit.soft,
            limit.hard,
        );
        flag(
            "ulimit",
            format!(
                "{name}={}:{}",
                soft.unwrap_or_default(),
                hard.unwrap_or_default()
            ),
        );
    }
    if let Some(log) = &host.log_config {
        log.typ
            .iter()
            .for_each(|driver| flag("log-driver", driver.clone()));
        for (name, value) in log.config.iter().flatten() {
            flag("log-opt", format!("{name}={value}"));
        }
    }
    flags
}

/// What confines besides: the command reads the list of system calls from a file, where the engine takes its text.
fn confined(host: &HostConfig, seccomp: &Path) -> Vec<String> {
    let mut flags = Vec::new();
    let mut flag = |name: &str, value: String| flags.push(format!("--{name}={value}"));
    for option in host.security_opt.iter().flatten() {
        let list = option.starts_with("seccomp=");
        flag(
            "security-opt",
            if list {
                format!("seccomp={}", seccomp.display())
            } else {
                option.clone()
            },
        );
    }
    host.cgroup_parent
        .iter()
        .for_each(|parent| flag("cgroup-parent", parent.clone()));
    host.runtime
        .iter()
        .for_each(|runtime| flag("runtime", runtime.clone()));
    for (path, options) in host.tmpfs.iter().flatten() {
        flag("tmpfs", format!("{path}:{options}"));
    }
    for (name, devices) in [
        ("device-read-bps", &host.blkio_device_read_bps),
        ("device-write-bps", &host.blkio_device_write_bps),
        ("device-read-iops", &host.blkio_device_read_iops),
        ("device-write-iops", &host.blkio_device_write_iops),
    ] {
        for device in devices.iter().flatten() {
            let path = device.path.clone().unwrap_or_default();
            flag(name, format!("{path}:{}", device.rate.unwrap_or_default()));
        }
    }
    flags
}

/// Docker's `StartedAt`, and the first process.
pub(crate) async fn started(docker: &Docker, container: &str) -> Result<(Timestamp, i32)> {
    let answer = docker
        .inspect_container(container, None::<InspectContainerOptions>)
        .await?;
    let state = answer.state.context("no state")?;
    let at = state.started_at.context("no StartedAt")?;
    let pid = i32::try_from(state.pid.context("no process")?)?;
    Ok((Timestamp::parse_rfc3339(&at)?, pid))
}

/// Removes a container.
pub(super) async fn remove(docker: &Docker, container: &str) -> Result<()> {
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        link: false,
    };
    Ok(docker.remove_container(container, Some(options)).await?)
}

/// Containers of a node: rental and container id of each.
pub(crate) async fn of_node(docker: &Docker, node_id: &str) -> Result<Vec<(String, String)>> {
    let label = format!("{LABEL_NODE}={node_id}");
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        ..ListContainersOptions::default()
    };
    let found = docker.list_containers(Some(options)).await?;
    let ids = found.into_iter().filter_map(|container| {
        let rental = container.labels?.remove(LABEL_RENTAL)?;
        Some((rental, container.id?))
    });
    Ok(ids.collect())
}

/// Removes what a node left.
pub(crate) async fn remove_of_node(node_id: &str) -> Result<()> {
    let docker = connect().await?;
    for (_, container) in of_node(&docker, node_id).await? {
        remove(&docker, &container).await?;
    }
    until("the node's containers are gone", async || {
        Ok(of_node(&docker, node_id).await?.is_empty().then_some(()))
    })
    .await
}

/// Something that happened to a rental's container.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) action: String,
    pub(super) rental_id: String,
    pub(super) container_id: String,
    pub(super) at: Timestamp,
}

/// The engine's events about the containers of a node.
pub(super) struct Events {
    receiver: mpsc::Receiver<Event>,
    reader: JoinHandle<()>,
}

impl Events {
    pub(super) fn of_node(docker: &Docker, node_id: &str) -> Self {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let options = EventsOptions {
            since: Some(SystemClock.now().as_secs().to_string()),
            until: None,
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![format!("{LABEL_NODE}={node_id}")],
            )])),
        };
        let mut stream = docker.events(Some(options));
        let reader = tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let event = message.actor.and_then(|actor| {
                    Some(Event {
                        action: message.action?,
                        rental_id: actor.attributes?.remove(LABEL_RENTAL)?,
                        container_id: actor.id?,
                        at: Timestamp::from_micros(message.time_nano? / 1_000),
                    })
                });
                if let Some(event) = event
                    && sender.send(event).await.is_err()
                {
                    return;
                }
            }
        });
        Self { receiver, reader }
    }

    /// The next event of this kind about this rental; those before it are dropped.
    pub(super) async fn next(&mut self, action: &str, rental_id: &str) -> Result<Event> {
        let found = async {
            loop {
                let event = self
                    .receiver
                    .recv()
                    .await
                    .context("the engine's events broke off")?;
                if event.action == action && event.rental_id == rental_id {
                    return Ok(event);
                }
            }
        };
        let patience = std::time::Duration::from_secs(ANSWER_SECONDS_MAX);
        let found: Result<Event> = tokio::time::timeout(patience, found)
            .await
            .with_context(|| format!("no {action} of {rental_id}"))?;
        found
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
