//! Section `payouts`: money out, its limits, and the key that sends it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::money::Amount;

use super::{ConfigError, within};

/// Money out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PayoutsConfig {
    /// The wallet's private key: 64 hex digits. The sandbox makes one; with real payments, without it payouts are made by hand.
    pub key_file: Option<PathBuf>,
    /// What providers earned is paid out by itself every so many seconds; 0: only when they ask.
    pub schedule_s: u32,
    /// Less than this isn't paid out to accounts.
    pub minimum: Amount,
    /// Less than this isn't sent back to wallets without an account.
    pub dust: Amount,
    /// A payout above this needs two administrators.
    pub approval_above: Amount,
    /// The most that leaves for one account or wallet in a day (UTC).
    pub account_daily_max: Amount,
    /// The most that leaves the market in a day (UTC).
    pub market_daily_max: Amount,
    /// A change of a payout address takes effect after so many seconds.
    pub address_hold_s: u32,
    /// What is signed for a payout holds for so many seconds; then it is signed anew.
    pub valid_for_s: u32,
}

impl Default for PayoutsConfig {
    fn default() -> Self {
        let whole = |units: i64| Amount::from_atomic(units.saturating_mul(1_000_000));
        Self {
            key_file: None,
            schedule_s: 86_400,
            minimum: whole(1).unwrap_or_default(),
            dust: Amount::from_atomic(10_000).unwrap_or_default(),
            approval_above: whole(1_000).unwrap_or_default(),
            account_daily_max: whole(10_000).unwrap_or_default(),
            market_daily_max: whole(100_000).unwrap_or_default(),
            address_hold_s: 2 * 86_400,
            valid_for_s: 600,
        }
    }
}

impl PayoutsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("payouts.schedule_s", self.schedule_s, 0, 366 * 86_400)?;
        within(
            "payouts.address_hold_s",
            self.address_hold_s,
            0,
            90 * 86_400,
        )?;
        // facilitators take what holds for fifteen minutes at most
        within("payouts.valid_for_s", self.valid_for_s, 60, 900)?;
        if self.account_daily_max > self.market_daily_max {
            return Err(ConfigError::invalid(
                "payouts.account_daily_max",
                "one account can't take out more than payouts.market_daily_max",
            ));
        }
        if self.minimum > self.account_daily_max {
            return Err(ConfigError::invalid(
                "payouts.minimum",
                "nothing could be paid out: use at most payouts.account_daily_max",
            ));
        }
        Ok(())
    }
}
