//! Settings of the helper: flag, environment (`RAMARKET_HELPER_…`), TOML file, default, in this order.
//!
//! # Invariants
//! - The file is root's: nothing that the agent can write decides what the helper does.
//! - An unknown setting is an error, so that a misspelt one can't be overlooked.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::image::rules::{ImageRules, Pattern};

use crate::{
    config::{self, LogFormat},
    runtime::{
        cache, disk,
        network::{self, subnet::Subnet},
    },
};

/// Prefix of environment variables.
pub const ENV_PREFIX: &str = "RAMARKET_HELPER_";
/// The file that is read when none is named; it may be absent.
pub const DEFAULT_FILE: &str = "/etc/ramarket/helper.toml";

/// The helper's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the agent is listened for.
    pub socket: PathBuf,
    /// Where the binding to one agent is kept.
    pub state_dir: PathBuf,
    /// The user that may speak beside root.
    pub agent_user: String,
    /// Where Docker's engine listens: `unix://` and a path.
    pub docker_host: String,
    /// Memory that rentals may not take; 0 for what the market leaves as well.
    pub reserve_bytes: i64,
    /// Where rentals' addresses are taken from: a private network that nothing here uses.
    pub network_pool: Subnet,
    /// Name servers that rentals ask; public ones, since others are closed to rentals.
    pub network_dns: Vec<Ipv4Addr>,
    /// Networks that are closed to rentals besides private ones and those that this machine is connected to.
    pub network_blocked: Vec<Subnet>,
    /// Where the files that are rentals' disks lie; empty for the folder `disks` beside the binding.
    pub disk_dir: PathBuf,
    /// The most that rentals' disks take together; 0 for all that there is above the floor.
    pub disk_bytes: i64,
    /// What stays free of the machine's disk; 0 for a tenth of it and 5 GiB.
    pub disk_floor_bytes: i64,
    /// How long a rental's disk is kept after its end, seconds.
    pub volume_grace_s: u32,
    /// What a rental may write outside its disk.
    pub writable_bytes: i64,
    /// Registries whose images run here; `*` stands for any characters. The engine connects to them from this machine.
    pub image_registries: Vec<Pattern>,
    /// Repositories and digests that run here; all if there are none.
    pub images_allowed: Vec<Pattern>,
    /// Repositories and digests that don't run here.
    pub images_denied: Vec<Pattern>,
    /// Most layers of an image.
    pub image_layers_max: i64,
    /// Most bytes to fetch for an image.
    pub image_bytes_max: i64,
    /// Most bytes of images that no rental uses and that are kept for the next one.
    pub image_cache_max_bytes: i64,
    /// What stays free of the disk that holds images.
    pub image_floor_bytes: i64,
    /// What is logged.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        let networks = network::Settings::default();
        let disks = disk::Settings::new(PathBuf::new());
        let images = cache::Settings::default();
        Self {
            socket: PathBuf::from("/run/ramarket-helper/helper.sock"),
            state_dir: PathBuf::from("/var/lib/ramarket-helper"),
            agent_user: "ramarket-agent".to_owned(),
            docker_host: "unix:///var/run/docker.sock".to_owned(),
            reserve_bytes: 0,
            network_pool: networks.pool,
            network_dns: networks.dns,
            network_blocked: networks.blocked,
            disk_dir: disks.folder,
            disk_bytes: disks.total_bytes,
            disk_floor_bytes: disks.floor_bytes,
            volume_grace_s: disks.grace_s,
            writable_bytes: disks.writable_bytes,
            image_registries: images.rules.registries,
            images_allowed: images.rules.allowed,
            images_denied: images.rules.denied,
            image_layers_max: images.rules.layers_max,
            image_bytes_max: images.rules.bytes_max,
            image_cache_max_bytes: images.cache_max_bytes,
            image_floor_bytes: images.free_floor_bytes,
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
        }
    }
}

/// Settings given as flags; each wins over environment and file.
#[derive(Debug, Clone, Default, Serialize, clap::Args)]
pub struct Flags {
    /// Where the agent is listened for
    #[arg(long, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Where the binding to one agent is kept
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// The user that may speak beside root
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_user: Option<String>,
    /// Where Docker's engine listens: unix:// and a path
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_host: Option<String>,
    /// Memory that rentals may not take; 0 for what the market leaves as well
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve_bytes: Option<i64>,
    /// Where rentals' addresses are taken from: a private network that nothing here uses
    #[arg(long, value_name = "NETWORK")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_pool: Option<Subnet>,
    /// Name servers that rentals ask, public ones: one to three, with commas between
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_dns: Option<Vec<Ipv4Addr>>,
    /// Networks that are closed to rentals besides private ones and this machine's, with commas between
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_blocked: Option<Vec<Subnet>>,
    /// Where the files that are rentals' disks lie; empty for the folder disks beside the binding
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_dir: Option<PathBuf>,
    /// The most that rentals' disks take together; 0 for all that there is above the floor
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<i64>,
    /// What stays free of the machine's disk; 0 for a tenth of it and 5 GiB
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_floor_bytes: Option<i64>,
    /// How long a rental's disk is kept after its end
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_grace_s: Option<u32>,
    /// What a rental may write outside its disk
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable_bytes: Option<i64>,
    /// Registries whose images run here, with * for any characters and commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_registries: Option<Vec<Pattern>>,
    /// Repositories and digests that run here, with commas between; all if there are none
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_allowed: Option<Vec<Pattern>>,
    /// Repositories and digests that don't run here, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_denied: Option<Vec<Pattern>>,
    /// Most layers of an image
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_layers_max: Option<i64>,
    /// Most bytes to fetch for an image
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_bytes_max: Option<i64>,
    /// Most bytes of images that no rental uses and that are kept for the next one
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_cache_max_bytes: Option<i64>,
    /// What stays free of the disk that holds images
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_floor_bytes: Option<i64>,
    /// What is logged: a level, or a filter such as info,node_agent::boundary=debug
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How log lines look
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// Reads the settings; `file` must exist if it is named.
    ///
    /// # Errors
    /// A setting is unknown or out of bounds, or the file can't be read.
    pub fn load(file: Option<&Path>, flags: &Flags) -> anyhow::Result<Self> {
        let source = config::Source {
            file,
            default_file: Path::new(DEFAULT_FILE),
            env_prefix: ENV_PREFIX,
        };
        let settings: Self = source.read(&Self::default(), flags)?;
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> anyhow::Result<()> {
        for (name, path) in [("socket", &self.socket), ("state_dir", &self.state_dir)] {
            anyhow::ensure!(
                path.is_absolute(),
                "{name} is {}; give an absolute path",
                path.display()
            );
        }
        anyhow::ensure!(
            config::socket_of(&self.docker_host).is_some(),
            "docker_host is {}; give unix:// and an absolute path",
            self.docker_host
        );
        anyhow::ensure!(
            self.reserve_bytes >= 0,
            "reserve_bytes is {}; it may not be negative",
            self.reserve_bytes
        );
        self.disks().check()?;
        self.images().check()?;
        self.networks().check()
    }

    /// What decides about images.
    #[must_use]
    pub fn images(&self) -> cache::Settings {
        cache::Settings {
            rules: ImageRules {
                registries: self.image_registries.clone(),
                allowed: self.images_allowed.clone(),
                denied: self.images_denied.clone(),
                layers_max: self.image_layers_max,
                bytes_max: self.image_bytes_max,
            },
            cache_max_bytes: self.image_cache_max_bytes,
            free_floor_bytes: self.image_floor_bytes,
            ..cache::Settings::default()
        }
    }

    /// What decides rentals' networks.
    #[must_use]
    pub fn networks(&self) -> network::Settings {
        network::Settings {
            pool: self.network_pool,
            dns: self.network_dns.clone(),
            blocked: self.network_blocked.clone(),
        }
    }

    /// What decides rentals' disks.
    #[must_use]
    pub fn disks(&self) -> disk::Settings {
        let folder = match self.disk_dir.as_os_str().is_empty() {
            true => self.state_dir.join("disks"),
            false => self.disk_dir.clone(),
        };
        disk::Settings {
            folder,
            total_bytes: self.disk_bytes,
            floor_bytes: self.disk_floor_bytes,
            grace_s: self.volume_grace_s,
            writable_bytes: self.writable_bytes,
        }
    }
}

/// A user's id and its group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Looks a user up in `/etc/passwd`, where the package makes the agent's.
///
/// # Errors
/// The file can't be read.
pub(super) fn account(name: &str) -> anyhow::Result<Option<Account>> {
    let passwd = std::fs::read_to_string("/etc/passwd").context("/etc/passwd can't be read")?;
    Ok(account_in(&passwd, name))
}

fn account_in(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name && !name.is_empty();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        found.then_some(Account { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helper.example.toml");
    const DOCUMENT: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/AGENT_CONFIGURATION.md"
    );

    #[test]
    fn the_example_and_the_document_hold_every_setting_with_its_default() {
        let example = Path::new(EXAMPLE);
        let settings = Settings::load(Some(example), &Flags::default()).expect("loads");
        assert_eq!(settings, Settings::default());
        let example = std::fs::read_to_string(EXAMPLE).expect("example");
        let document = std::fs::read_to_string(DOCUMENT).expect("document");
        let helper = document.split_once("## The helper").expect("a chapter").1;
        let value = serde_json::to_value(Settings::default()).expect("json");
        for (name, default) in value.as_object().expect("object") {
            let set = format!("{name} = ");
            assert!(example.lines().any(|line| line.starts_with(&set)), "{name}");
            let row = helper
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}` ")));
            let row = row.unwrap_or_else(|| panic!("{name} has no row"));
            let default = default.to_string();
            for part in [
                format!("`--{}`", name.replace('_', "-")),
                format!("`{ENV_PREFIX}{}`", name.to_uppercase()),
                format!("`{}`", default.trim_matches('"')),
            ] {
                assert!(row.contains(&part), "{name}: {part}");
            }
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for flags in [
            Flags {
                socket: Some("helper.sock".into()),
                ..Flags::default()
            },
            Flags {
                docker_host: Some("tcp://10.0.0.1:2375".into()),
                ..Flags::default()
            },
            Flags {
                reserve_bytes: Some(-1),
                ..Flags::default()
            },
        ] {
            Settings::load(Some(Path::new(EXAMPLE)), &flags).expect_err("refused");
        }
    }

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nramarket-agent:x:998:997::/:/bin/false\nodd\n";
        let found = account_in(passwd, "ramarket-agent").expect("there");
        assert_eq!((found.uid, found.gid), (998, 997));
        assert_eq!(account_in(passwd, "ramarket"), None);
        assert_eq!(account_in(passwd, ""), None);
    }
}
