//! Section `retention`: how long what happened is kept. The ledger, payments and the audit log are kept forever.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// How long things are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Events, days.
    pub events_days: u32,
    /// Signed usage records of rentals that are settled, days.
    pub usage_records_days: u32,
    /// What offers cost, days.
    pub offer_prices_days: u32,
    /// Idempotency keys, days.
    pub idempotency_keys_days: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            events_days: 90,
            usage_records_days: 180,
            offer_prices_days: 365,
            idempotency_keys_days: 30,
        }
    }
}

impl RetentionConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("retention.events_days", self.events_days, 7, 3_650)?;
        within(
            "retention.usage_records_days",
            self.usage_records_days,
            30,
            3_650,
        )?;
        within(
            "retention.offer_prices_days",
            self.offer_prices_days,
            30,
            3_650,
        )?;
        within(
            "retention.idempotency_keys_days",
            self.idempotency_keys_days,
            1,
            3_650,
        )
    }
}
