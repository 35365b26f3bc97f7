//! Section `agents`: the rhythm of nodes, and when silence means what.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// How often nodes speak and when they are missed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsConfig {
    /// A node beats so often, milliseconds.
    pub beat_interval_ms: u32,
    /// Silent for so many seconds: suspect.
    pub suspect_after_s: u32,
    /// Silent for so many seconds: offline.
    pub offline_after_s: u32,
    /// Of a gap in which the node couldn't reach us, so many seconds are still billed.
    pub coverage_gap_s: u32,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self {
            beat_interval_ms: 5_000,
            suspect_after_s: 15,
            offline_after_s: 60,
            coverage_gap_s: 90,
        }
    }
}

impl AgentsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within(
            "agents.beat_interval_ms",
            self.beat_interval_ms,
            100,
            60_000,
        )?;
        let beat_s = self.beat_interval_ms.div_ceil(1_000);
        within(
            "agents.suspect_after_s",
            self.suspect_after_s,
            beat_s,
            3_600,
        )?;
        within(
            "agents.offline_after_s",
            self.offline_after_s,
            self.suspect_after_s,
            86_400,
        )?;
        within("agents.coverage_gap_s", self.coverage_gap_s, beat_s, 3_600)
    }
}
