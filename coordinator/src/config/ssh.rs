//! Section `ssh`: the gateway by which rentals are reached with a stock SSH client.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// The gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SshConfig {
    /// The address to listen on, port 0 takes a free one; without it SSH isn't offered.
    pub listen: Option<SocketAddr>,
    /// The name or address that clients are told; without it that of `http.public_url`.
    pub public_host: Option<String>,
    /// The port that clients are told; without it that of `listen`.
    pub public_port: Option<u16>,
    /// The host key, as `ssh-keygen -t ed25519` writes it; without it `data_dir/keys/ssh_host_ed25519`, made at the first start.
    pub host_key_file: Option<PathBuf>,
    /// Connections open at once; more are closed.
    pub connections_max: u32,
    /// Connections open at once from one client address (of IPv6 its /64); more are closed.
    pub connections_per_address_max: u32,
    /// New connections per client address and minute.
    pub connections_per_minute_ip: u32,
    /// Keys that were refused, per client address and minute; who tries more is cut off.
    pub refusals_per_minute_ip: u32,
    /// A connection on which no channel moved a byte for so many seconds ends.
    pub idle_s: u32,
    /// How often it is asked again whether a connection's key still opens its rental, seconds.
    pub recheck_s: u32,
}

impl Default for SshConfig {
    fn default() -> Self {
        Self {
            listen: None,
            public_host: None,
            public_port: None,
            host_key_file: None,
            connections_max: 1_024,
            connections_per_address_max: 64,
            connections_per_minute_ip: 120,
            refusals_per_minute_ip: 60,
            idle_s: 900,
            recheck_s: 60,
        }
    }
}

impl SshConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("ssh.connections_max", self.connections_max, 1, 100_000)?;
        within(
            "ssh.connections_per_address_max",
            self.connections_per_address_max,
            1,
            100_000,
        )?;
        within(
            "ssh.connections_per_minute_ip",
            self.connections_per_minute_ip,
            1,
            60_000,
        )?;
        within(
            "ssh.refusals_per_minute_ip",
            self.refusals_per_minute_ip,
            1,
            60_000,
        )?;
        within("ssh.idle_s", self.idle_s, 10, 86_400)?;
        within("ssh.recheck_s", self.recheck_s, 1, 600)?;
        let is_host = |host: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
            (1..=253).contains(&host.len()) && host.chars().all(known)
        };
        match &self.public_host {
            Some(host) if !is_host(host) => Err(ConfigError::invalid(
                "ssh.public_host",
                format!("{host}: write a host name or an address, without a port"),
            )),
            _ => Ok(()),
        }
    }
}
