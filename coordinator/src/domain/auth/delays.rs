//! Who fails to prove who they are waits, and with each further failure twice as long: per account and per address.
//!
//! # Invariants
//! - Nobody is locked out: an attempt that comes too early isn't counted, the wait has a bound, and a link that arrives by mail
//!   ends it.
//! - An address that has no account waits like one that has.
//! - All coordinators of one database count together.

use std::net::IpAddr;

use ring::digest;
use shared::time::Timestamp;

use super::store::delays as store;
use crate::{
    config::AuthConfig,
    error::{Error, Kind, Result},
    store::Tx,
};

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// To be the owner of this account, by its e-mail address.
    Account(String),
    /// From this client, or for IPv6 its /64.
    Client(IpAddr),
}

/// When it begins to hurt, and how much.
#[derive(Debug)]
struct Policy {
    /// From so many failures in a row.
    from: i64,
    max_ms: i64,
    /// After so long without a failure all is forgotten.
    memory_ms: i64,
}

/// What is older than this says nothing any more.
pub(super) const MEMORY_MS: i64 = 24 * 3_600_000;

impl Policy {
    /// After so many failures in a row, milliseconds.
    fn delay_ms(&self, failures: i64) -> i64 {
        let Ok(doublings) = u32::try_from(failures - self.from) else {
            return if failures < self.from { 0 } else { self.max_ms };
        };
        let delay_ms = 1_000_i64.saturating_mul(2_i64.saturating_pow(doublings));
        delay_ms.min(self.max_ms)
    }
}

impl Tried {
    fn key(&self) -> Vec<u8> {
        let text = match self {
            Self::Account(email) => format!("account {email}"),
            Self::Client(ip) => format!("client {ip}"),
        };
        digest::digest(&digest::SHA256, text.as_bytes())
            .as_ref()
            .to_vec()
    }
}

/// The rules of waiting.
#[derive(Debug)]
pub struct Delays {
    account: Policy,
    client: Policy,
}

impl Delays {
    /// Waiting begins when as many have failed in a row as are let through in a minute.
    #[must_use]
    pub fn new(config: &AuthConfig) -> Self {
        Self {
            account: Policy {
                from: config.attempts_per_minute_account.into(),
                max_ms: 15 * 60_000,
                memory_ms: MEMORY_MS,
            },
            // behind one address there may be many people
            client: Policy {
                from: config.attempts_per_minute_ip.into(),
                max_ms: 5 * 60_000,
                memory_ms: 3_600_000,
            },
        }
    }

    const fn policy(&self, tried: &Tried) -> &Policy {
        match tried {
            Tried::Account(_) => &self.account,
            Tried::Client(_) => &self.client,
        }
    }

    /// Passes who needn't wait.
    ///
    /// # Errors
    /// 429 with the time to wait.
    pub fn check(&self, tx: &mut dyn Tx, now: Timestamp, tried: &[Tried]) -> Result<()> {
        for tried in tried {
            let Some(failed) = store::find(tx, tried.key())? else {
                continue;
            };
            let policy = self.policy(tried);
            let passed_ms = now.ms_since(failed.last);
            let wait_ms = policy.delay_ms(failed.failures) - passed_ms;
            if wait_ms > 0 && passed_ms < policy.memory_ms {
                return Err(too_early(wait_ms));
            }
        }
        Ok(())
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// What the database says.
    pub fn failed(&self, tx: &mut dyn Tx, now: Timestamp, tried: &[Tried]) -> Result<()> {
        for tried in tried {
            let forgotten = now.plus_ms(-self.policy(tried).memory_ms);
            store::count(tx, tried.key(), now, forgotten)?;
        }
        Ok(())
    }
}

/// Forgets the failures of an account whose owner has shown who they are.
///
/// # Errors
/// What the database says.
pub fn forgive(tx: &mut dyn Tx, email: &str) -> Result<()> {
    store::forget(tx, Tried::Account(email.to_owned()).key())
}

fn too_early(wait_ms: i64) -> Error {
    let retry_after_s = u64::try_from(wait_ms).unwrap_or_default().div_ceil(1_000);
    Error::new(
        Kind::TooMany { retry_after_s },
        "too_many_attempts",
        format!(
            "too many attempts failed; try again in {retry_after_s} s, or set a new password by mail"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound() {
        let Delays { account, client } = Delays::new(&AuthConfig::default());
        let delays: Vec<i64> = (0..9).map(|n| account.delay_ms(n)).collect();
        assert_eq!(delays, [0, 0, 0, 0, 0, 1_000, 2_000, 4_000, 8_000]);
        assert_eq!((client.delay_ms(19), client.delay_ms(20)), (0, 1_000));
        for policy in [account, client] {
            assert_eq!(policy.delay_ms(1_000), policy.max_ms);
            assert_eq!(policy.delay_ms(i64::MAX), policy.max_ms);
            assert!(policy.max_ms < policy.memory_ms && policy.memory_ms <= MEMORY_MS);
        }
    }
}
