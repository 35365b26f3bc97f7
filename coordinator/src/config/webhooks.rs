//! Section `webhooks`: how many, how patient, how long remembered.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// Webhooks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Endpoints of one account.
    pub per_user_max: u32,
    /// Tests and replays of one account in a minute.
    pub sends_per_minute: u32,
    /// An endpoint at which nothing arrived for so many days is switched off.
    pub disable_after_days: u32,
    /// Deliveries are kept for so many days.
    pub deliveries_kept_days: u32,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            per_user_max: 20,
            sends_per_minute: 30,
            disable_after_days: 5,
            deliveries_kept_days: 30,
        }
    }
}

impl WebhooksConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("webhooks.per_user_max", self.per_user_max, 0, 1_000)?;
        within(
            "webhooks.sends_per_minute",
            self.sends_per_minute,
            1,
            60_000,
        )?;
        within(
            "webhooks.disable_after_days",
            self.disable_after_days,
            1,
            365,
        )?;
        // what is still to be sent isn't forgotten: the last attempt is made on the fourth day
        within(
            "webhooks.deliveries_kept_days",
            self.deliveries_kept_days,
            5,
            3_650,
        )
    }
}
