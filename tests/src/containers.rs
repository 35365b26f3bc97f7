//! What the engine says of a node's containers: the measure of what the market says.

use std::{path::PathBuf, process::Command, sync::Once};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder},
};
use shared::time::Timestamp;

const TIMEOUT_S: u64 = 30;

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    socket: PathBuf,
}

/// A container as `docker inspect` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Docker's id.
    pub id: String,
    /// The first process, on the host; 0 when it doesn't run.
    pub pid: i64,
    /// Whether it runs.
    pub running: bool,
    /// `StartedAt`; `None` before its start.
    pub started_at: Option<Timestamp>,
    /// `FinishedAt`; `None` while it runs.
    pub finished_at: Option<Timestamp>,
    /// Whether the kernel killed it for its memory.
    pub oom_killed: bool,
    /// Its memory limit, bytes.
    pub memory_bytes: i64,
    /// The rental's own network by name, or `none`.
    pub network_mode: String,
}

/// A container's life as the engine's events told it; they outlive the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended.
    pub died_at: Timestamp,
    /// How often it was started.
    pub starts: usize,
}

impl Engine {
    /// The machine's engine, started when there is none; it has `busybox:latest`.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn shared() -> Self {
        static READY: Once = Once::new();
        READY.call_once(|| {
            for task in ["start", "image"] {
                let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/docker-engine.sh");
                let done = Command::new(path).arg(task).status();
                assert!(done.expect("a script").success(), "docker-engine.sh {task}");
            }
        });
        Self::at("/var/run/docker.sock")
    }

    /// The engine behind a socket.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// For `DOCKER_HOST`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Runs the Docker client and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.args(["--host", &self.host()]).args(arguments);
        let output = command.output().expect("docker runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Ids of a node's containers, those that ended included.
    ///
    /// # Panics
    /// If the engine doesn't answer.
    pub async fn of_node(&self, node_id: &str) -> Vec<String> {
        self.labelled(&format!("ramarket.node={node_id}")).await
    }

    /// The container of a rental; `None` when there is none.
    ///
    /// # Panics
    /// If the engine doesn't answer, or there are two.
    pub async fn of_rental(&self, rental_id: &str) -> Option<Facts> {
        let ids = self.labelled(&format!("ramarket.rental={rental_id}")).await;
        assert!(ids.len() <= 1, "{rental_id} has {} containers", ids.len());
        self.inspect(ids.first()?).await
    }

    /// What is known of a container; `None` when it is gone.
    ///
    /// # Panics
    /// If the engine doesn't answer.
    pub async fn inspect(&self, id: &str) -> Option<Facts> {
        let api = self.api();
        let asked = api.inspect_container(id, None::<InspectContainerOptions>);
        let found = match asked.await {
            Ok(found) => found,
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return None,
            Err(error) => panic!("the engine doesn't answer: {error}"),
        };
        let state = found.state.unwrap_or_default();
        let host = found.host_config.unwrap_or_default();
        Some(Facts {
            id: id.to_owned(),
            pid: state.pid.unwrap_or(0),
            running: state.running.unwrap_or(false),
            started_at: moment(state.started_at.as_deref()),
            finished_at: moment(state.finished_at.as_deref()),
            oom_killed: state.oom_killed.unwrap_or(false),
            memory_bytes: host.memory.unwrap_or(0),
            network_mode: host.network_mode.unwrap_or_default(),
        })
    }

    /// The life of a rental's container between `since` and now, by the engine's events. The engine keeps its last 256.
    ///
    /// # Panics
    /// If the events tell of no start and end.
    #[must_use]
    pub fn life_of(&self, rental_id: &str, since: Timestamp, now: Timestamp) -> Life {
        let told = self.docker(&[
            "events",
            "--since",
            &since.to_string(),
            "--until",
            &now.to_string(),
            "--filter",
            &format!("label=ramarket.rental={rental_id}"),
            "--format",
            "{{.Action}} {{.TimeNano}}",
        ]);
        let of = |action: &str| -> Vec<Timestamp> {
            let told = told.lines().filter_map(|line| line.split_once(' '));
            told.filter(|(what, _)| *what == action)
                .map(|(_, nanos)| nanos.parse::<i64>().expect("nanoseconds") / 1_000)
                .map(Timestamp::from_micros)
                .collect()
        };
        let (starts, deaths) = (of("start"), of("die"));
        Life {
            started_at: *starts.first().expect("an event of its start"),
            died_at: *deaths.last().expect("an event of its end"),
            starts: starts.len(),
        }
    }

    /// Removes whatever a node left.
    pub fn remove_all_of(&self, node_id: &str) {
        let label = format!("label=ramarket.node={node_id}");
        let probes = format!("label=ramarket.probe={node_id}");
        let mut left = self.docker(&["ps", "-aq", "--no-trunc", "--filter", &label]);
        left.push_str(&self.docker(&["ps", "-aq", "--no-trunc", "--filter", &probes]));
        for id in left.split_whitespace() {
            // it may be on its way already
            let mut remove = Command::new("docker");
            remove.args(["--host", &self.host(), "rm", "-fv", id]);
            drop(remove.output());
        }
        let networks = self.docker(&["network", "ls", "-q", "--filter", &label]);
        for id in networks.split_whitespace() {
            let mut remove = Command::new("docker");
            remove.args(["--host", &self.host(), "network", "rm", id]);
            drop(remove.output());
        }
    }

    async fn labelled(&self, label: &str) -> Vec<String> {
        let filters = std::collections::HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        let found = self.api().list_containers(Some(options)).await;
        let found = found.expect("the engine answers");
        found.into_iter().filter_map(|found| found.id).collect()
    }

    fn api(&self) -> Docker {
        let socket = self.socket.to_str().expect("text");
        Docker::connect_with_unix(socket, TIMEOUT_S, API_DEFAULT_VERSION).expect("an address")
    }
}

/// Docker writes "never" as the year 1.
fn moment(text: Option<&str>) -> Option<Timestamp> {
    let moment = Timestamp::parse_rfc3339(text?).ok()?;
    (moment > Timestamp::from_secs(0)).then_some(moment)
}
