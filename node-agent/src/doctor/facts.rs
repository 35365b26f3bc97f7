//! What the checks decide from: looked at once, decided nowhere here.
//!
//! # Invariants
//! - Each look is bounded in time; what can't be looked at is a fact as well, never an error of the doctor's.
//! - Looking changes nothing.

mod coordinator;
mod kernel;
mod systemd;

pub use kernel::Listening;

use std::{
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use shared::{clock::Clock, resources::Inventory};
use tokio::time::timeout;

use crate::{
    config::Config,
    data_dir::DataDir,
    endpoint::BaseUrl,
    identity::Stored,
    lifecycle,
    measure::cgroup::Mounts,
    operator::{
        client::Client,
        protocol::{Answer, Question},
    },
    probe::Prober,
    status::Status,
};

/// How long a program or a name server may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Longest answer of a coordinator that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1_024;

/// Everything that was looked at.
#[derive(Debug)]
pub struct Facts {
    /// What the machine has, the engine's side included.
    pub inventory: Result<Inventory, String>,
    /// `1` or `2`; `None` without control groups.
    pub cgroup_version: Option<i64>,
    /// Controllers that the kernel offers.
    pub controllers: Vec<String>,
    /// Memory that could be given to a program now.
    pub ram_available_bytes: Option<i64>,
    /// Whether an NVIDIA device is there.
    pub nvidia_device: bool,
    /// Ports on which something listens.
    pub listening: Vec<Listening>,
    /// The agent's files.
    pub files: Vec<FileFact>,
    /// Whether a time service keeps the clock; `None` if nobody says.
    pub clock_synced: Option<bool>,
    /// Whether this machine is a node.
    pub enrolled: Enrolled,
    /// The coordinator, if one is known.
    pub market: Option<Market>,
    /// The helper.
    pub helper: Helper,
    /// Whom the helper's socket has to belong to: whoever runs the helper, root but for a trial by hand.
    pub helper_owner: u32,
    /// Whether the agent's process lives.
    pub agent_runs: bool,
    /// How it is doing, if it can be asked.
    pub status: Option<Status>,
    /// systemd's unit; `None` without systemd.
    pub unit: Option<Unit>,
}

/// A file of the agent's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFact {
    /// Which.
    pub path: PathBuf,
    /// The rights that it may give at most.
    pub wanted: u32,
    /// Those that it gives; `None` if it isn't there.
    pub mode: Option<u32>,
}

/// Whether this machine is a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// Yes.
    Yes {
        /// Which node.
        node_id: String,
        /// Of which coordinator.
        url: String,
    },
    /// No.
    No,
    /// It was, and can't be read any more.
    Damaged(String),
}

/// The way to the coordinator.
#[derive(Debug)]
pub struct Market {
    /// Its URL.
    pub url: String,
    /// Its host.
    pub host: String,
    /// The host's addresses.
    pub addresses: Result<Vec<IpAddr>, String>,
    /// What it answered.
    pub answered: Result<Answered, String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// Whether it is what a coordinator answers.
    pub is_market: bool,
    /// How long it took.
    pub took_ms: i64,
    /// How far this machine's clock is ahead of its own; `None` if it doesn't say the time.
    pub ahead_ms: Option<i64>,
}

/// The helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Helper {
    /// The agent does without.
    None,
    /// It doesn't answer.
    Away(String),
    /// It listens.
    There {
        /// Of its socket.
        mode: u32,
        /// Whose socket it is.
        uid: u32,
    },
}

/// systemd's unit of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// `loaded`, `not-found`, …
    pub load: String,
    /// `active`, `failed`, …
    pub active: String,
    /// `enabled`, `disabled`, …
    pub enabled: String,
    /// How long the agent may say nothing, microseconds; 0: for ever.
    pub watchdog_us: u64,
}

impl Facts {
    /// Looks at everything; `url` names a coordinator where none is known.
    ///
    /// # Errors
    /// `url` isn't one.
    pub async fn gather(
        config: &Config,
        url: Option<&str>,
        clock: &dyn Clock,
    ) -> anyhow::Result<Self> {
        let dir = DataDir::new(&config.data_dir);
        let enrolled = enrolled(&dir);
        let known = match (url, &enrolled) {
            (Some(url), _) => Some(BaseUrl::to_connect(url)?),
            (None, Enrolled::Yes { url, .. }) => BaseUrl::to_connect(url).ok(),
            (None, _) => None,
        };
        let market = match known {
            Some(url) => Some(coordinator::market(&url, clock).await),
            None => None,
        };
        let inventory = inventory(config).await;
        let root = Path::new("/");
        let cgroup_version = Mounts::read(root).ok().and_then(|mounts| mounts.version());
        Ok(Self {
            cgroup_version,
            controllers: kernel::controllers(root),
            ram_available_bytes: inventory
                .as_ref()
                .ok()
                .map(|inventory| Prober::new().load(inventory).ram_available_bytes),
            helper: helper(config, &inventory),
            inventory,
            nvidia_device: Path::new("/dev/nvidiactl").exists(),
            listening: kernel::listening(root),
            files: files(&dir),
            clock_synced: systemd::clock_synced().await,
            enrolled,
            market,
            helper_owner: 0,
            agent_runs: dir.is_locked(),
            status: status(config).await,
            unit: systemd::unit().await,
        })
    }
}

async fn inventory(config: &Config) -> Result<Inventory, String> {
    let prober = Arc::new(Mutex::new(Prober::new()));
    let measured = async {
        let engine = lifecycle::engine(config, scope(config))?;
        lifecycle::measure(&prober, engine.as_ref()).await
    };
    measured.await.map_err(|error| format!("{error:#}"))
}

/// As whom the helper is asked: as this machine's agent, if it was enrolled, since the helper knows then what it found. Where there is none
/// it is nobody, so that looking changes no firewall.
fn scope(config: &Config) -> String {
    if config.helper_socket.is_empty() {
        return String::new();
    }
    let scope = std::fs::read_to_string(DataDir::new(&config.data_dir).scope());
    scope.unwrap_or_default().trim().to_owned()
}

async fn status(config: &Config) -> Option<Status> {
    let path = config.operator_socket_path();
    let asked = async {
        let mut client = Client::connect(&path).await.ok()??;
        match client.ask(&Question::Status {}).await.ok()? {
            Answer::Status(status) => Some(*status),
            _ => None,
        }
    };
    timeout(WITHIN, asked).await.ok().flatten()
}

fn enrolled(dir: &DataDir) -> Enrolled {
    let path = dir.identity();
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Enrolled::No,
        Err(error) => Enrolled::Damaged(format!("{} can't be read: {error}", path.display())),
        Ok(text) => match serde_json::from_slice::<Stored>(&text) {
            Ok(stored) => Enrolled::Yes {
                node_id: stored.node_id.to_string(),
                url: stored.url,
            },
            Err(error) => Enrolled::Damaged(format!("{} is damaged: {error}", path.display())),
        },
    }
}

/// The agent's folder and what in it is nobody else's.
fn files(dir: &DataDir) -> Vec<FileFact> {
    let inside = [
        dir.key(),
        dir.identity(),
        dir.journal(),
        dir.status(),
        dir.orders(),
        dir.scope(),
    ];
    let wanted = std::iter::once((dir.path().to_owned(), 0o700))
        .chain(inside.into_iter().map(|path| (path, 0o600)));
    wanted
        .map(|(path, wanted)| FileFact {
            mode: std::fs::metadata(&path)
                .ok()
                .map(|found| found.permissions().mode() & 0o7777),
            path,
            wanted,
        })
        .collect()
}

fn helper(config: &Config, inventory: &Result<Inventory, String>) -> Helper {
    if config.helper_socket.is_empty() {
        return Helper::None;
    }
    let found = match std::fs::metadata(&config.helper_socket) {
        Ok(found) => found,
        Err(error) => return Helper::Away(format!("{}: {error}", config.helper_socket)),
    };
    let reason = inventory
        .as_ref()
        .ok()
        .and_then(|inventory| inventory.docker_absent_reason.as_deref())
        .filter(|reason| reason.starts_with("ramarket-helper"));
    match reason {
        Some(reason) => Helper::Away(reason.to_owned()),
        None => Helper::There {
            mode: found.permissions().mode() & 0o777,
            uid: found.uid(),
        },
    }
}
