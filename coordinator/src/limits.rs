//! Rate limits by meaning: so many of one [`Action`] per caller and minute, counted in memory, told in headers.
//!
//! # Invariants
//! - Each action has its own table, so that a flood of one can't crowd out another.
//! - Memory is bounded: an entry lives for the minute that it limits, and a table keeps at most [`ENTRIES_MAX`].
//! - Each coordinator counts for itself.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt::Write as _,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use shared::id::{NodeId, SessionId, UserId};

use crate::{
    config::Config,
    error::{Error, Kind, Result},
};

const WINDOW_MS: i64 = 60_000;
/// Callers of one action that are counted at once; when so many are active, new ones wait.
const ENTRIES_MAX: usize = 100_000;

/// Enough for somebody who waits for a mail; too few to annoy somebody with.
const MAILS_PER_MINUTE: u32 = 3;
/// A page of a terminal or of logs needs one each time that it connects.
const TICKETS_PER_MINUTE: u32 = 60;
/// Reports of rentals and statements about them: words that people write.
const STATEMENTS_PER_MINUTE: u32 = 10;

/// Logins of devices that one address begins: a household's, not a flood's.
const DEVICE_LOGINS_PER_MINUTE: u32 = 20;
/// Questions of devices of one address: ten that ask every five seconds.
const DEVICE_POLLS_PER_MINUTE: u32 = 120;
/// Codes that a person looks at or decides about: too few to guess one.
const DEVICE_CODES_PER_MINUTE: u32 = 10;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A login or signup, by address: hashing a password costs us much.
    SignIn,
    /// A login to one account.
    Login,
    /// A refresh of tokens, by address.
    Refresh,
    /// A refresh of the tokens of one session.
    RefreshSession,
    /// A mail that somebody asks for, by its address or the account.
    Mail,
    /// A login of a device, by address: each is a row.
    DeviceLogin,
    /// A question of a device, by address.
    DevicePoll,
    /// A code of a device, by the person who enters it.
    DeviceCode,
    /// A quote, answers with 402 included, by address: each is a row.
    Quote,
    /// A top-up of a balance.
    TopUp,
    /// A rental or its extension.
    Rent,
    /// A report of a rental, or a statement about one.
    Dispute,
    /// A ticket for a stream into a rental.
    Ticket,
    /// A test or replay of a webhook.
    WebhookSend,
    /// A node's beat that we didn't ask for.
    Beat,
    /// A connection to the SSH gateway, by address.
    SshConnect,
    /// A key that the SSH gateway refused, by address.
    SshRefused,
}

impl Action {
    const ALL: [Self; 17] = [
        Self::SignIn,
        Self::Login,
        Self::Refresh,
        Self::RefreshSession,
        Self::Mail,
        Self::DeviceLogin,
        Self::DevicePoll,
        Self::DeviceCode,
        Self::Quote,
        Self::TopUp,
        Self::Rent,
        Self::Dispute,
        Self::Ticket,
        Self::WebhookSend,
        Self::Beat,
        Self::SshConnect,
        Self::SshRefused,
    ];

    /// The name of its policy in headers.
    const fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign-in",
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::RefreshSession => "refresh-session",
            Self::Mail => "mail",
            Self::DeviceLogin => "device-login",
            Self::DevicePoll => "device-poll",
            Self::DeviceCode => "device-code",
            Self::Quote => "quote",
            Self::TopUp => "top-up",
            Self::Rent => "rent",
            Self::Dispute => "dispute",
            Self::Ticket => "ticket",
            Self::WebhookSend => "webhook-send",
            Self::Beat => "beat",
            Self::SshConnect => "ssh-connect",
            Self::SshRefused => "ssh-refused",
        }
    }

    fn per_minute(self, config: &Config) -> u32 {
        let limits = &config.limits;
        match self {
            Self::SignIn => config.auth.attempts_per_minute_ip,
            Self::Login => config.auth.attempts_per_minute_account,
            Self::Refresh | Self::RefreshSession => limits.refreshes_per_minute,
            Self::Mail => MAILS_PER_MINUTE,
            Self::DeviceLogin => DEVICE_LOGINS_PER_MINUTE,
            Self::DevicePoll => DEVICE_POLLS_PER_MINUTE,
            Self::DeviceCode => DEVICE_CODES_PER_MINUTE,
            Self::Quote => config.payments.quotes_per_minute_ip,
            Self::TopUp => limits.topups_per_minute,
            Self::Rent => limits.rentals_per_minute,
            Self::Dispute => STATEMENTS_PER_MINUTE,
            Self::Ticket => TICKETS_PER_MINUTE,
            Self::WebhookSend => config.webhooks.sends_per_minute,
            Self::SshConnect => config.ssh.connections_per_minute_ip,
            Self::SshRefused => config.ssh.refusals_per_minute_ip,
            Self::Beat => {
                let nominal = 60_000_u32.div_ceil(config.agents.beat_interval_ms.max(1));
                nominal.saturating_mul(limits.beats_over_nominal)
            }
        }
    }
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A client's address, or for IPv6 its /64: see `ClientIp::group`.
    Address(IpAddr),
    /// The e-mail address that somebody gives, whether there is such an account or not.
    Email(String),
    /// A signed-in person.
    User(UserId),
    /// A session.
    Session(SessionId),
    /// A node.
    Node(NodeId),
}

/// Where a caller stands, as `RateLimit-Policy` and `RateLimit` say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    action: Action,
    per_minute: u32,
    remaining: u32,
    /// Seconds until all of it is there again.
    reset_s: u64,
}

tokio::task_local! {
    static NOTED: RefCell<Vec<Standing>>;
}

/// Runs `work` and returns with its result where the callers stand that it counted.
pub async fn noting<T>(work: impl Future<Output = T>) -> (T, Vec<Standing>) {
    NOTED
        .scope(RefCell::default(), async {
            let result = work.await;
            let noted = NOTED.with(RefCell::take);
            (result, noted)
        })
        .await
}

/// The values of `RateLimit-Policy` and `RateLimit`; nothing when nothing was counted.
#[must_use]
pub fn headers(standings: &[Standing]) -> Option<(String, String)> {
    let (mut policy, mut rate) = (String::new(), String::new());
    for standing in standings {
        let comma = if policy.is_empty() { "" } else { ", " };
        let name = standing.action.name();
        let (quota, left) = (standing.per_minute, standing.remaining);
        write!(policy, "{comma}\"{name}\";q={quota};w=60").ok()?;
        write!(rate, "{comma}\"{name}\";r={left};t={}", standing.reset_s).ok()?;
    }
    (!policy.is_empty()).then_some((policy, rate))
}

/// Counts what callers do.
#[derive(Debug)]
pub struct Limits {
    tables: [Table; Action::ALL.len()],
}

impl Limits {
    /// With the configured numbers.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            tables: Action::ALL.map(|action| Table::new(action, action.per_minute(config))),
        }
    }

    /// Counts one more `action` of `caller` at `now_ms` of the boot clock.
    ///
    /// # Errors
    /// 429 when there were too many; a refused one doesn't count.
    pub fn count(&self, action: Action, caller: Caller, now_ms: i64) -> Result<()> {
        let table = self
            .tables
            .iter()
            .find(|table| table.action == action)
            .ok_or_else(|| Error::internal("an action without a table"))?;
        let outcome = table.count(caller, now_ms);
        let standing = match &outcome {
            Ok(standing) | Err((standing, _)) => *standing,
        };
        // outside of a request nobody reads it
        let _outside = NOTED.try_with(|noted| noted.borrow_mut().push(standing));
        outcome
            .map(drop)
            .map_err(|(_, wait_ms)| too_many(action, wait_ms))
    }
}

/// One action's callers: a burst of `per_minute`, refilled evenly.
#[derive(Debug)]
struct Table {
    action: Action,
    per_minute: u32,
    /// One weighs so many microseconds.
    weight_us: i64,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    /// When the weight of all that the caller did is gone, microseconds of the boot clock.
    free_at_us: HashMap<Caller, i64>,
    swept_at_us: i64,
}

impl Table {
    fn new(action: Action, per_minute: u32) -> Self {
        let per_minute = per_minute.max(1);
        Self {
            action,
            per_minute,
            weight_us: WINDOW_MS * 1_000 / i64::from(per_minute),
            entries: Mutex::new(Entries {
                free_at_us: HashMap::new(),
                swept_at_us: i64::MIN,
            }),
        }
    }

    /// Where the caller stands now; or where it stands and how many milliseconds it must wait.
    fn count(&self, caller: Caller, now_ms: i64) -> Result<Standing, (Standing, i64)> {
        const WINDOW_US: i64 = WINDOW_MS * 1_000;
        let now_us = now_ms.saturating_mul(1_000);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let free_at = entries.free_at_us.get(&caller).copied();
        if free_at.is_none() && entries.free_at_us.len() >= ENTRIES_MAX {
            entries.sweep(now_us);
            if entries.free_at_us.len() >= ENTRIES_MAX {
                return Err((self.standing(WINDOW_US), 1_000));
            }
        }
        let used_us = free_at.map_or(0, |at| at.saturating_sub(now_us).max(0));
        let over_us = used_us + self.weight_us - WINDOW_US;
        if over_us > 0 {
            return Err((self.standing(used_us), (over_us + 999) / 1_000));
        }
        let used_us = used_us + self.weight_us;
        entries.free_at_us.insert(caller, now_us + used_us);
        Ok(self.standing(used_us))
    }

    fn standing(&self, used_us: i64) -> Standing {
        let left_us = (WINDOW_MS * 1_000 - used_us).max(0);
        let remaining = u32::try_from(left_us / self.weight_us).unwrap_or(0);
        let reset_s = u64::try_from(used_us).unwrap_or(0).div_ceil(1_000_000);
        Standing {
            action: self.action,
            per_minute: self.per_minute,
            remaining: remaining.min(self.per_minute),
            reset_s,
        }
    }
}

impl Entries {
    /// Forgets callers whose weight is gone; at most once a second, because it looks at all of them.
    fn sweep(&mut self, now_us: i64) {
        if now_us.saturating_sub(self.swept_at_us) >= 1_000_000 {
            self.swept_at_us = now_us;
            self.free_at_us.retain(|_, free_at| *free_at > now_us);
        }
    }
}

fn too_many(action: Action, wait_ms: i64) -> Error {
    let retry_after_s = u64::try_from(wait_ms).unwrap_or_default().div_ceil(1_000);
    Error::new(
        Kind::TooMany { retry_after_s },
        "too_many_attempts",
        format!(
            "too many attempts (the limit named {}); try again in {retry_after_s} s",
            action.name()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(name: &str) -> Caller {
        Caller::Email(name.to_owned())
    }

    #[test]
    fn a_burst_passes_then_one_per_refill_and_callers_are_apart() {
        let table = Table::new(Action::Login, 5);
        for left in (0..5).rev() {
            let standing = table.count(email("a"), 0).expect("within the burst");
            assert_eq!(standing.remaining, left);
        }
        let (standing, wait_ms) = table.count(email("a"), 0).expect_err("the sixth");
        assert_eq!((standing.remaining, standing.reset_s), (0, 60));
        assert_eq!(wait_ms, 12_000);
        table.count(email("b"), 0).expect("another caller");
        assert!(table.count(email("a"), 11_999).is_err());
        table.count(email("a"), 12_000).expect("refilled");
        assert!(table.count(email("a"), 12_000).is_err());
    }

    #[test]
    fn memory_is_bounded_and_recovers() {
        let table = Table::new(Action::Quote, 60);
        let caller = |n: usize| Caller::Address(IpAddr::V6((n as u128).into()));
        for n in 0..ENTRIES_MAX {
            table.count(caller(n), 0).expect("room");
        }
        assert!(table.count(caller(ENTRIES_MAX), 0).is_err());
        table.count(caller(0), 0).expect("a known caller goes on");
        table
            .count(caller(ENTRIES_MAX), 3_000)
            .expect("old callers are forgotten");
    }

    #[tokio::test]
    async fn one_flood_does_not_refuse_another_action_and_both_are_told() {
        let limits = Limits::new(&Config::default());
        let user = || Caller::Address(IpAddr::from([10, 0, 0, 1]));
        let (refused, standings) = noting(async {
            while limits.count(Action::Refresh, user(), 0).is_ok() {}
            limits.count(Action::Quote, user(), 0)
        })
        .await;
        refused.expect("another action");
        let (policy, rate) = headers(&standings[standings.len() - 2..]).expect("two");
        assert_eq!(policy, "\"refresh\";q=30;w=60, \"quote\";q=120;w=60");
        assert_eq!(rate, "\"refresh\";r=0;t=60, \"quote\";r=119;t=1");
        assert_eq!(headers(&[]), None);
    }
}
