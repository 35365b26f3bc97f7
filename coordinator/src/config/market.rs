//! Section `market`: fee, quotes and lengths of rentals.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// The rules of the market.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarketConfig {
    /// The platform's fee, basis points of what is charged.
    pub fee_bps: u32,
    /// How far ahead of now a node may run a paid rental without hearing from us, seconds.
    pub horizon_s: u32,
    /// Leases are moved in steps of so many seconds.
    pub lease_step_s: u32,
    /// A quote is valid for so many seconds.
    pub quote_ttl_s: u32,
    /// Shortest rental, seconds.
    pub min_duration_s: u32,
    /// Longest rental, seconds.
    pub max_duration_s: u32,
    /// A rental is extended from a balance, or said to be out of funds, so many seconds before its paid end.
    pub grace_s: u32,
    /// What a provider earned becomes payable after so many seconds, in which the consumer may dispute it.
    pub dispute_window_s: u32,
}

impl Default for MarketConfig {
    fn default() -> Self {
        Self {
            fee_bps: 500,
            horizon_s: 900,
            lease_step_s: 60,
            quote_ttl_s: 300,
            min_duration_s: 60,
            max_duration_s: 30 * 86_400,
            grace_s: 300,
            dispute_window_s: 86_400,
        }
    }
}

impl MarketConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("market.fee_bps", self.fee_bps, 0, 5_000)?;
        within("market.horizon_s", self.horizon_s, 1, 86_400)?;
        // less and a rental could end between two turns of the timer that extends it
        within("market.grace_s", self.grace_s, 30, 86_400)?;
        within("market.lease_step_s", self.lease_step_s, 1, self.horizon_s)?;
        within("market.quote_ttl_s", self.quote_ttl_s, 1, 3_600)?;
        within("market.min_duration_s", self.min_duration_s, 1, 86_400)?;
        within(
            "market.max_duration_s",
            self.max_duration_s,
            self.min_duration_s,
            366 * 86_400,
        )?;
        within(
            "market.dispute_window_s",
            self.dispute_window_s,
            0,
            90 * 86_400,
        )
    }
}
