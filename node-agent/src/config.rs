//! Settings: flag, environment (`RAMARKET_AGENT_…`), TOML file, default, in this order.
//!
//! # Invariants
//! - Nothing here describes the machine: that is measured.
//! - An unknown setting is an error, so that a misspelt one can't be overlooked.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use figment::{
    Figment,
    providers::{Env, Format as _, Serialized, Toml},
};
use serde::{Deserialize, Serialize};
use shared::image::rules::{ImageRules, Pattern};

use crate::{
    data_dir::DataDir,
    kept,
    runtime::{
        cache, disk,
        network::{Settings, subnet::Subnet},
    },
};

mod flags;

pub use flags::Flags;

/// Prefix of environment variables.
pub const ENV_PREFIX: &str = "RAMARKET_AGENT_";
/// The file that is read when none is named; it may be absent.
pub const DEFAULT_FILE: &str = "/etc/ramarket/agent.toml";

const JOURNAL_KEEP_DAYS_MAX: u32 = 3_650;
const LOGS_KEPT_DAYS_MAX: u32 = 365;

/// The agent's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where key, identity, journal and desired state are kept.
    pub data_dir: PathBuf,
    /// What is logged: a level, or a filter such as `info,node_agent::report=debug`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// How long usage records are kept after the coordinator acknowledged them.
    pub journal_keep_days: u32,
    /// The most that the logs of rentals that are over take together; 0 keeps none.
    pub logs_kept_bytes: i64,
    /// How long they are kept.
    pub logs_kept_days: u32,
    /// Where Docker's engine listens: `unix://` and a path.
    pub docker_host: String,
    /// Where `ramarket-helper` listens; empty for an agent that works with Docker's engine itself.
    pub helper_socket: String,
    /// Where the running agent is asked and told; empty for `agent.sock` in `data_dir`.
    pub operator_socket: String,
    /// Where rentals' addresses are taken from: a private network that nothing here uses.
    pub network_pool: Subnet,
    /// Name servers that rentals ask; public ones, since others are closed to rentals.
    pub network_dns: Vec<Ipv4Addr>,
    /// Networks that are closed to rentals besides private ones and those that this machine is connected to.
    pub network_blocked: Vec<Subnet>,
    /// Where the files that are rentals' disks lie; empty for the folder `disks` beside the journal.
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
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `text` on a terminal, else `json`.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        let networks = Settings::default();
        let disks = disk::Settings::new(PathBuf::new());
        let images = cache::Settings::default();
        Self {
            data_dir: PathBuf::from("/var/lib/ramarket-agent"),
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            journal_keep_days: 7,
            logs_kept_bytes: 1 << 30,
            logs_kept_days: 7,
            docker_host: "unix:///var/run/docker.sock".to_owned(),
            helper_socket: String::new(),
            operator_socket: String::new(),
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
        }
    }
}

/// Where a program's settings come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The file that was named.
    pub(crate) file: Option<&'a Path>,
    /// The one that is read otherwise, if it is there.
    pub(crate) default_file: &'a Path,
    /// Of environment variables.
    pub(crate) env_prefix: &'static str,
}

impl Source<'_> {
    /// Reads settings: `flags` win over the environment, that over the file, and that over `defaults`.
    ///
    /// # Errors
    /// The named file doesn't exist, or a setting is unknown or of another type.
    pub(crate) fn read<T: Serialize + serde::de::DeserializeOwned>(
        &self,
        defaults: &T,
        flags: &impl Serialize,
    ) -> anyhow::Result<T> {
        if let Some(file) = self.file {
            anyhow::ensure!(
                file.is_file(),
                "the configuration file {} doesn't exist",
                file.display()
            );
        }
        let default_file = self.default_file;
        // the default one needn't be there
        let file = self
            .file
            .or_else(|| default_file.is_file().then_some(default_file));
        let mut figment = Figment::from(Serialized::defaults(defaults));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let file = file.unwrap_or(default_file);
        let prefix = self.env_prefix;
        let figment = figment
            // CONFIG names the file itself
            .merge(Env::prefixed(prefix).ignore(&["config"]))
            .merge(Serialized::defaults(flags));
        figment.extract().with_context(|| {
            format!(
                "the configuration can't be used ({}, {prefix}…, flags)",
                file.display()
            )
        })
    }
}

/// The path of a `unix://` URL.
pub(crate) fn socket_of(docker_host: &str) -> Option<&str> {
    docker_host
        .strip_prefix("unix://")
        .filter(|path| path.starts_with('/'))
}

impl Config {
    /// Reads the settings; `file` must exist if it is named.
    ///
    /// # Errors
    /// A setting is unknown or out of bounds, or the file can't be read.
    pub fn load(file: Option<&Path>, flags: &Flags) -> anyhow::Result<Self> {
        let source = Source {
            file,
            default_file: Path::new(DEFAULT_FILE),
            env_prefix: ENV_PREFIX,
        };
        let config: Self = source.read(&Self::default(), flags)?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.data_dir.as_os_str().is_empty(),
            "data_dir is empty; give a path"
        );
        anyhow::ensure!(
            socket_of(&self.docker_host).is_some(),
            "docker_host is {}; give unix:// and an absolute path: an engine on another machine can't be measured",
            self.docker_host
        );
        anyhow::ensure!(
            self.helper_socket.is_empty() || self.helper_socket.starts_with('/'),
            "helper_socket is {}; give an absolute path, or leave it empty",
            self.helper_socket
        );
        anyhow::ensure!(
            (1..=JOURNAL_KEEP_DAYS_MAX).contains(&self.journal_keep_days),
            "journal_keep_days is {}; it may be 1 to {JOURNAL_KEEP_DAYS_MAX}",
            self.journal_keep_days
        );
        anyhow::ensure!(
            self.logs_kept_bytes >= 0,
            "logs_kept_bytes is {}; it may not be negative",
            self.logs_kept_bytes
        );
        anyhow::ensure!(
            (1..=LOGS_KEPT_DAYS_MAX).contains(&self.logs_kept_days),
            "logs_kept_days is {}; it may be 1 to {LOGS_KEPT_DAYS_MAX}",
            self.logs_kept_days
        );
        self.disks().check()?;
        anyhow::ensure!(
            self.operator_socket.is_empty() || self.operator_socket.starts_with('/'),
            "operator_socket is {}; give an absolute path, or leave it empty",
            self.operator_socket
        );
        self.images().check()?;
        self.networks().check()
    }

    /// Where the running agent is asked.
    #[must_use]
    pub fn operator_socket_path(&self) -> PathBuf {
        if self.operator_socket.is_empty() {
            DataDir::new(&self.data_dir).operator_socket()
        } else {
            PathBuf::from(&self.operator_socket)
        }
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
    pub fn networks(&self) -> Settings {
        Settings {
            pool: self.network_pool,
            dns: self.network_dns.clone(),
            blocked: self.network_blocked.clone(),
        }
    }

    /// What decides rentals' disks.
    #[must_use]
    pub fn disks(&self) -> disk::Settings {
        let folder = match self.disk_dir.as_os_str().is_empty() {
            true => self.data_dir.join("disks"),
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

    /// How much is kept of what rentals wrote.
    #[must_use]
    pub fn kept_logs(&self) -> kept::Limits {
        kept::Limits {
            bytes: self.logs_kept_bytes,
            keep_ms: i64::from(self.logs_kept_days) * 24 * 3_600_000,
        }
    }

    /// [`Config::journal_keep_days`] in milliseconds.
    #[must_use]
    pub fn journal_keep_ms(&self) -> i64 {
        i64::from(self.journal_keep_days) * 24 * 3_600_000
    }
}

#[cfg(test)]
mod tests;
