//! Section `tasks`: how often the built-in timers run; each is also woken when there is something to do.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// How often the built-in timers run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TasksConfig {
    /// Gives events their place in the stream, milliseconds.
    pub event_relay_ms: u32,
    /// Online, suspect, offline, milliseconds.
    pub liveness_ms: u32,
    /// Extends leases and stops what ran out of funds, milliseconds.
    pub leases_ms: u32,
    /// Tells of paid time and balances that run out, milliseconds.
    pub spending_ms: u32,
    /// Ends what is over and gives up what never started, milliseconds.
    pub expiry_ms: u32,
    /// Settles rentals that ended, milliseconds.
    pub settlement_ms: u32,
    /// Asks what became of payments in doubt, milliseconds.
    pub payments_ms: u32,
    /// Sends payouts, and asks what became of those in doubt, milliseconds.
    pub payouts_ms: u32,
    /// Proves that what was posted since the last pass adds up, milliseconds.
    pub ledger_check_ms: u32,
    /// Sends queued mail, milliseconds.
    pub mail_ms: u32,
    /// Expires proofs of identity and deletes their documents, milliseconds.
    pub kyc_ms: u32,
    /// Removes sessions and links that are over, milliseconds.
    pub forgetting_ms: u32,
    /// Adds to the figures over time, milliseconds.
    pub analytics_ms: u32,
    /// Forgets what is older than `retention` says, milliseconds.
    pub retention_ms: u32,
    /// Hands events to webhooks, milliseconds.
    pub webhooks_ms: u32,
    /// Sends what webhooks are due, milliseconds.
    pub webhook_courier_ms: u32,
}

impl Default for TasksConfig {
    fn default() -> Self {
        Self {
            event_relay_ms: 1_000,
            liveness_ms: 1_000,
            leases_ms: 5_000,
            spending_ms: 5_000,
            expiry_ms: 1_000,
            settlement_ms: 5_000,
            payments_ms: 5_000,
            payouts_ms: 5_000,
            ledger_check_ms: 60_000,
            mail_ms: 1_000,
            kyc_ms: 60_000,
            forgetting_ms: 60_000,
            analytics_ms: 60_000,
            retention_ms: 3_600_000,
            webhooks_ms: 1_000,
            webhook_courier_ms: 1_000,
        }
    }
}

impl TasksConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        const HOUR_MS: u32 = 3_600_000;
        // other coordinators' events reach our listeners by this timer alone
        within("tasks.event_relay_ms", self.event_relay_ms, 10, 1_000)?;
        within("tasks.liveness_ms", self.liveness_ms, 10, HOUR_MS)?;
        within("tasks.leases_ms", self.leases_ms, 10, HOUR_MS)?;
        within("tasks.spending_ms", self.spending_ms, 10, HOUR_MS)?;
        within("tasks.expiry_ms", self.expiry_ms, 10, HOUR_MS)?;
        within("tasks.settlement_ms", self.settlement_ms, 10, HOUR_MS)?;
        within("tasks.kyc_ms", self.kyc_ms, 10, HOUR_MS)?;
        within("tasks.payments_ms", self.payments_ms, 10, HOUR_MS)?;
        within("tasks.payouts_ms", self.payouts_ms, 10, HOUR_MS)?;
        within("tasks.ledger_check_ms", self.ledger_check_ms, 10, HOUR_MS)?;
        within("tasks.mail_ms", self.mail_ms, 10, HOUR_MS)?;
        within("tasks.forgetting_ms", self.forgetting_ms, 10, HOUR_MS)?;
        within("tasks.analytics_ms", self.analytics_ms, 10, HOUR_MS)?;
        within("tasks.retention_ms", self.retention_ms, 10, HOUR_MS)?;
        within("tasks.webhooks_ms", self.webhooks_ms, 10, HOUR_MS)?;
        within(
            "tasks.webhook_courier_ms",
            self.webhook_courier_ms,
            10,
            HOUR_MS,
        )
    }
}
