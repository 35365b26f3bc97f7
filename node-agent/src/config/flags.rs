//! The agent's settings as flags.

use std::{net::Ipv4Addr, path::PathBuf};

use serde::Serialize;
use shared::image::rules::Pattern;

use super::LogFormat;
use crate::runtime::network::subnet::Subnet;

/// Settings given as flags; each wins over environment and file.
#[derive(Debug, Clone, Default, Serialize, clap::Args)]
pub struct Flags {
    /// Where key, identity, journal and desired state are kept
    #[arg(long, global = true, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// What is logged: a level, or a filter such as info,node_agent::report=debug
    #[arg(long, global = true, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How log lines look
    #[arg(long, global = true, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// How many days usage records are kept after the coordinator acknowledged them
    #[arg(long, global = true, value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_keep_days: Option<u32>,
    /// The most that the logs of rentals that are over take together; 0 keeps none
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs_kept_bytes: Option<i64>,
    /// How many days they are kept
    #[arg(long, global = true, value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs_kept_days: Option<u32>,
    /// Where Docker's engine listens: unix:// and a path
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_host: Option<String>,
    /// Where rentals' addresses are taken from: a private network that nothing here uses
    #[arg(long, global = true, value_name = "NETWORK")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_pool: Option<Subnet>,
    /// Name servers that rentals ask, public ones: one to three, with commas between
    #[arg(long, global = true, value_name = "ADDRESSES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_dns: Option<Vec<Ipv4Addr>>,
    /// Networks that are closed to rentals besides private ones and this machine's, with commas between
    #[arg(long, global = true, value_name = "NETWORKS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_blocked: Option<Vec<Subnet>>,
    /// Where the files that are rentals' disks lie; empty for the folder disks beside the journal
    #[arg(long, global = true, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_dir: Option<PathBuf>,
    /// The most that rentals' disks take together; 0 for all that there is above the floor
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<i64>,
    /// What stays free of the machine's disk; 0 for a tenth of it and 5 GiB
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_floor_bytes: Option<i64>,
    /// How long a rental's disk is kept after its end
    #[arg(long, global = true, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_grace_s: Option<u32>,
    /// What a rental may write outside its disk
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable_bytes: Option<i64>,
    /// Registries whose images run here, with * for any characters and commas between
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_registries: Option<Vec<Pattern>>,
    /// Repositories and digests that run here, with commas between; all if there are none
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_allowed: Option<Vec<Pattern>>,
    /// Repositories and digests that don't run here, with commas between
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_denied: Option<Vec<Pattern>>,
    /// Most layers of an image
    #[arg(long, global = true, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_layers_max: Option<i64>,
    /// Most bytes to fetch for an image
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_bytes_max: Option<i64>,
    /// Most bytes of images that no rental uses and that are kept for the next one
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_cache_max_bytes: Option<i64>,
    /// What stays free of the disk that holds images
    #[arg(long, global = true, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_floor_bytes: Option<i64>,
    /// Where ramarket-helper listens; empty for an agent that works with Docker's engine itself
    #[arg(long, global = true, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper_socket: Option<String>,
    /// Where the running agent is asked and told; agent.sock in the data folder unless given
    #[arg(long, global = true, value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_socket: Option<String>,
}
