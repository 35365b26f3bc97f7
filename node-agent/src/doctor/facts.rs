//! What the checks decide from: looked at once, decided nowhere here.
//!
//! # Invariants
//! - Each look is bounded in time; what can't be looked at is a fact as well, never an error of the doctor's.
//! - Looking changes nothing.

use std::{
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use shared::{clock::Clock, resources::Inventory};
use tokio::{process::Command, time::timeout};

use crate::{
    config::Config,
    data_dir::DataDir,
    endpoint::BaseUrl,
    http,
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
/// Ports of Docker's network API: in plain text, and with TLS.
const DOCKER_PORTS: [u16; 2] = [2_375, 2_376];
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
    /// Ports of Docker's network API on which something listens.
    pub docker_tcp: Vec<u16>,
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
            Some(url) => Some(market(&url, clock).await),
            None => None,
        };
        let inventory = inventory(config).await;
        let root = Path::new("/");
        let cgroup_version = Mounts::read(root).ok().and_then(|mounts| mounts.version());
        Ok(Self {
            cgroup_version,
            controllers: controllers(root),
            ram_available_bytes: inventory
                .as_ref()
                .ok()
                .map(|inventory| Prober::new().load(inventory).ram_available_bytes),
            helper: helper(config, &inventory),
            inventory,
            nvidia_device: Path::new("/dev/nvidiactl").exists(),
            docker_tcp: listening(root, &DOCKER_PORTS),
            files: files(&dir),
            clock_synced: clock_synced().await,
            enrolled,
            market,
            helper_owner: 0,
            agent_runs: dir.is_locked(),
            status: status(config).await,
            unit: unit().await,
        })
    }
}

async fn inventory(config: &Config) -> Result<Inventory, String> {
    let prober = Arc::new(Mutex::new(Prober::new()));
    let measured = async {
        let engine = lifecycle::engine(config, String::new())?;
        lifecycle::measure(&prober, engine.as_ref()).await
    };
    measured.await.map_err(|error| format!("{error:#}"))
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

/// Controllers of both versions.
fn controllers(root: &Path) -> Vec<String> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let second = text("sys/fs/cgroup/cgroup.controllers");
    let mut all: Vec<String> = second.split_ascii_whitespace().map(str::to_owned).collect();
    // name, hierarchy, groups, enabled
    let first = text("proc/cgroups");
    all.extend(first.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (name, hierarchy) = (fields.next()?, fields.next()?);
        let enabled = fields.nth(1)? == "1";
        (enabled && hierarchy != "0").then(|| name.to_owned())
    }));
    all
}

/// Which of these ports something listens on, on any address.
fn listening(root: &Path, ports: &[u16]) -> Vec<u16> {
    /// `TCP_LISTEN`
    const LISTENS: &str = "0A";
    let mut open = Vec::new();
    for table in ["proc/net/tcp", "proc/net/tcp6"] {
        let text = std::fs::read_to_string(root.join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut fields = line.split_ascii_whitespace();
            let (Some(local), Some(state)) = (fields.nth(1), fields.nth(1)) else {
                continue;
            };
            let port = local
                .rsplit_once(':')
                .and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            let wanted = port.filter(|port| state == LISTENS && ports.contains(port));
            open.extend(wanted.filter(|port| !open.contains(port)));
        }
    }
    open
}

async fn market(url: &BaseUrl, clock: &dyn Clock) -> Market {
    let parsed = url.as_str().parse::<reqwest::Url>().ok();
    let host = parsed.as_ref().and_then(|url| url.host_str());
    let host = host.unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = parsed
        .as_ref()
        .and_then(reqwest::Url::port_or_known_default);
    let looked_up = timeout(
        WITHIN,
        tokio::net::lookup_host((host.clone(), port.unwrap_or(443))),
    );
    let addresses = match looked_up.await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    };
    Market {
        url: url.as_str().to_owned(),
        answered: answered(url, clock).await,
        host,
        addresses,
    }
}

/// Asks for what everybody may ask for.
async fn answered(url: &BaseUrl, clock: &dyn Clock) -> Result<Answered, String> {
    let client = http::client(url).map_err(|error| format!("{error:#}"))?;
    let (wall, asked) = (clock.now(), clock.boot_ms());
    let target = format!("{}/api/v1/market/summary", url.as_str());
    let response = client.get(target).send().await;
    let response = response.map_err(|error| http::unreachable(&error).to_string())?;
    let took_ms = clock.boot_ms() - asked;
    let status = response.status().as_u16();
    let theirs = response
        .headers()
        .get(reqwest::header::DATE)
        .and_then(|value| date_s(value.to_str().ok()?));
    let body = http::answer(response, ANSWER_BYTES_MAX).await;
    let is_market = body.is_ok_and(|body| {
        let value: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        value.is_some_and(|value| value.get("nodes").is_some())
    });
    // the header has whole seconds, of some moment while we waited
    let ours = wall.plus_ms(took_ms / 2).as_secs();
    Ok(Answered {
        status,
        is_market,
        took_ms,
        ahead_ms: theirs.map(|theirs| ours.saturating_sub(theirs).saturating_mul(1_000)),
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as seconds since 1970.
fn date_s(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let parts: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|known| known == month)? + 1;
    let moment = format!("{year}-{month:02}-{day}T{time}Z");
    let moment = shared::time::Timestamp::parse_rfc3339(&moment).ok()?;
    Some(moment.as_secs())
}

/// What a program says, if it is there and ends well in time.
async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(WITHIN, child).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

async fn clock_synced() -> Option<bool> {
    let text = said("timedatectl", &["show", "-p", "NTPSynchronized", "--value"]).await?;
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

async fn unit() -> Option<Unit> {
    // the folder is there exactly when systemd is the first process
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let properties = "LoadState,ActiveState,UnitFileState,WatchdogUSec";
    let text = said("systemctl", &["show", "ramarket-agent", "-p", properties]).await?;
    Some(parsed_unit(&text))
}

fn parsed_unit(text: &str) -> Unit {
    let of = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    };
    Unit {
        load: of("LoadState"),
        active: of("ActiveState"),
        enabled: of("UnitFileState"),
        watchdog_us: span_us(&of("WatchdogUSec")),
    }
}

/// As systemd shows a time: `30s`, `1min 30s`, `500ms`; 0 for none.
fn span_us(text: &str) -> u64 {
    let units = [
        ("min", 60_000_000),
        ("ms", 1_000),
        ("us", 1),
        ("s", 1_000_000),
        ("h", 3_600_000_000),
    ];
    let parts = text.split_ascii_whitespace().map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = part.split_at_checked(digits)?;
        let (_, scale) = units.iter().find(|(known, _)| *known == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*scale)
    });
    parts.map(Option::unwrap_or_default).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn texts_of_kernel_systemd_and_http_are_read() {
        assert_eq!(date_s("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for wrong in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nev 1994 08:49:37 GMT",
        ] {
            assert_eq!(date_s(wrong), None, "{wrong}");
        }
        assert_eq!(span_us("30s"), 30_000_000);
        assert_eq!(span_us("1min 30s"), 90_000_000);
        assert_eq!(span_us("0"), 0);
        assert_eq!(span_us("infinity"), 0);
        let unit = parsed_unit(
            "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nWatchdogUSec=30s\n",
        );
        assert_eq!(
            (
                unit.load.as_str(),
                unit.active.as_str(),
                unit.enabled.as_str(),
                unit.watchdog_us
            ),
            ("loaded", "active", "enabled", 30_000_000)
        );
    }

    #[test]
    fn ports_and_controllers_are_found() {
        let dir = TempDir::new();
        let root = dir.path();
        std::fs::create_dir_all(root.join("proc/net")).expect("folder");
        std::fs::create_dir_all(root.join("sys/fs/cgroup")).expect("folder");
        let header = "  sl  local_address rem_address   st tx_queue\n";
        // 2375 listens, 2376 is a connection's own end, 443 listens
        let lines = "   0: 00000000:0947 00000000:0000 0A 0\n   1: 0100007F:0948 0100007F:1F90 01 0\n   2: 00000000:01BB 00000000:0000 0A 0\n";
        std::fs::write(root.join("proc/net/tcp"), format!("{header}{lines}")).expect("written");
        assert_eq!(listening(root, &DOCKER_PORTS), [2_375]);
        let first =
            "#subsys_name hierarchy num_cgroups enabled\ncpu 3 1 1\nmemory 0 1 1\npids 5 1 0\n";
        std::fs::write(root.join("proc/cgroups"), first).expect("written");
        assert_eq!(controllers(root), ["cpu"]);
        let second = root.join("sys/fs/cgroup/cgroup.controllers");
        std::fs::write(second, "cpuset cpu memory pids\n").expect("written");
        assert!(controllers(root).contains(&"memory".to_owned()));
    }
}
