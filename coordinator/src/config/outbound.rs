//! Section `outbound`: what the coordinator may call on behalf of others.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::outbound::address::IpRange;

/// Ranges that may be listed.
const RANGES_MAX: usize = 64;

/// What the coordinator may call.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundConfig {
    /// Addresses that aren't public and may be called all the same, by http too.
    pub allow_private: Vec<IpRange>,
    /// Certificates (PEM) trusted besides the system's.
    pub extra_ca_file: Option<PathBuf>,
}

impl OutboundConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.allow_private.len() > RANGES_MAX {
            return Err(ConfigError::invalid(
                "outbound.allow_private",
                format!("list at most {RANGES_MAX} ranges"),
            ));
        }
        Ok(())
    }
}
