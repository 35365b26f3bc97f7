//! Section `limits`: how often callers may do what costs us something, and how much is done at once.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// Limits by meaning. Those on logins are in `auth`, on quotes in `payments`, on connections in `http`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Refreshes of tokens per client address and minute.
    pub refreshes_per_minute: u32,
    /// Top-ups per account and minute.
    pub topups_per_minute: u32,
    /// Rentals and extensions per account, or per client address without one, and minute.
    pub rentals_per_minute: u32,
    /// A node may beat so many times as often as `agents.beat_interval_ms` says; beats that we ask for aren't counted.
    pub beats_over_nominal: u32,
    /// Requests handled at once, those of the two lanes below not counted; more are refused with 503.
    pub requests_at_once: u32,
    /// Beats and links of agents handled at once, whatever else goes on.
    pub agent_requests_at_once: u32,
    /// Orders and payments handled at once, whatever else goes on.
    pub payment_requests_at_once: u32,
    /// Memory for request bodies that are being received, MiB, for each of the three lanes.
    pub body_memory_mib: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            refreshes_per_minute: 30,
            topups_per_minute: 10,
            rentals_per_minute: 30,
            beats_over_nominal: 2,
            requests_at_once: 256,
            agent_requests_at_once: 256,
            payment_requests_at_once: 128,
            body_memory_mib: 32,
        }
    }
}

impl LimitsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within(
            "limits.refreshes_per_minute",
            self.refreshes_per_minute,
            1,
            60_000,
        )?;
        within(
            "limits.topups_per_minute",
            self.topups_per_minute,
            1,
            60_000,
        )?;
        within(
            "limits.rentals_per_minute",
            self.rentals_per_minute,
            1,
            60_000,
        )?;
        within(
            "limits.beats_over_nominal",
            self.beats_over_nominal,
            1,
            1_000,
        )?;
        within("limits.requests_at_once", self.requests_at_once, 1, 100_000)?;
        within(
            "limits.agent_requests_at_once",
            self.agent_requests_at_once,
            1,
            100_000,
        )?;
        within(
            "limits.payment_requests_at_once",
            self.payment_requests_at_once,
            1,
            100_000,
        )?;
        within("limits.body_memory_mib", self.body_memory_mib, 2, 65_536)
    }
}
