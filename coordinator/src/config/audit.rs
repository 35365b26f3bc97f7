//! Section `audit`: the key that signs checkpoints of the audit log, and how often it does.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// The audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Ed25519 key of checkpoints (PKCS#8); without it `data_dir/keys/audit.pk8`, made at the first start.
    pub key_file: Option<PathBuf>,
    /// If something was recorded, a checkpoint is signed every so many seconds.
    pub checkpoint_s: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            key_file: None,
            checkpoint_s: 60,
        }
    }
}

impl AuditConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("audit.checkpoint_s", self.checkpoint_s, 1, 86_400)
    }
}
