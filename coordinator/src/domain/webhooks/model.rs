//! What an endpoint and a delivery are, which events an endpoint wants, and when to try again.

use shared::{
    id::{DeliveryId, EventId, UserId, WebhookId},
    time::Timestamp,
};

use crate::error::{Error, Result};

/// Patterns that an endpoint may list.
pub const PATTERNS_MAX: usize = 50;
const PATTERN_CHARS_MAX: usize = 64;
/// Longest description.
pub const DESCRIPTION_CHARS_MAX: usize = 200;
/// Most of an answer that is kept, bytes.
pub const ANSWER_BYTES_MAX: usize = 1_024;
/// Pauses before the second attempt and those after it, seconds: about three days in all.
const PAUSES_S: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// A pause is made longer by up to so many hundredths, so that what failed together isn't tried together.
const JITTER_PERCENT: i64 = 20;
/// The longest wish of a receiver (`Retry-After`) that is followed, seconds.
const RETRY_AFTER_S_MAX: i64 = 86_400;

/// How an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Is sent to.
    Active,
    /// Its owner wants nothing for now.
    Paused,
    /// It was switched off by us.
    Disabled(DisabledReason),
    /// Gone; its deliveries are kept for a while.
    Deleted,
}

/// Why an endpoint was switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisabledReason {
    /// It answered 410.
    Gone,
    /// Nothing arrived for days.
    Failing,
}

impl State {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled(_) => "disabled",
            Self::Deleted => "deleted",
        }
    }

    /// Why it was disabled, if it was.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Disabled(DisabledReason::Gone) => Some("gone"),
            Self::Disabled(DisabledReason::Failing) => Some("failing"),
            _ => None,
        }
    }

    /// The state of a name and a reason.
    #[must_use]
    pub fn from_names(name: &str, reason: Option<&str>) -> Option<Self> {
        match (name, reason) {
            ("active", None) => Some(Self::Active),
            ("paused", None) => Some(Self::Paused),
            ("deleted", None) => Some(Self::Deleted),
            ("disabled", Some("gone")) => Some(Self::Disabled(DisabledReason::Gone)),
            ("disabled", Some("failing")) => Some(Self::Disabled(DisabledReason::Failing)),
            _ => None,
        }
    }
}

/// Where somebody wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Which.
    pub id: WebhookId,
    /// Whose events go there.
    pub owner: UserId,
    /// Where to.
    pub url: String,
    /// The owner's words.
    pub description: String,
    /// Which of them.
    pub events: Patterns,
    /// How it is.
    pub state: State,
    /// Since when nothing arrived.
    pub failing_since: Option<Timestamp>,
    /// Attempts that failed since something arrived.
    pub failures: i64,
    /// Of this row.
    pub version: i64,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// When its owner or we changed it.
    pub updated_at: Timestamp,
}

/// Which kinds of events: none listed means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// Checks what a person wrote: kinds such as `rental.started`, and `rental.*` for all that begin so.
    ///
    /// # Errors
    /// 422 names the one that isn't a kind.
    pub fn parse(patterns: Vec<String>) -> Result<Self> {
        if patterns.len() > PATTERNS_MAX {
            return Err(Error::invalid(
                "/events",
                format!("list at most {PATTERNS_MAX} kinds"),
            ));
        }
        match patterns.iter().position(|pattern| !is_pattern(pattern)) {
            Some(at) => Err(Error::invalid(
                &format!("/events/{at}"),
                "write a kind such as rental.started, or rental.* for all that begin so",
            )),
            None => Ok(Self(patterns)),
        }
    }

    /// As they are stored.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.0
    }

    /// Whether an event of `kind` is wanted.
    #[must_use]
    pub fn want(&self, kind: &str) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|pattern| match pattern.strip_suffix('*') {
                    Some(prefix) => kind.starts_with(prefix),
                    None => pattern == kind,
                })
    }
}

fn is_pattern(text: &str) -> bool {
    let bare = text.strip_suffix(".*").unwrap_or(text);
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.len() <= PATTERN_CHARS_MAX && bare.split('.').all(word)
}

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Is to be sent, or sent again.
    Pending,
    /// Was taken (2xx).
    Delivered,
    /// Was given up.
    Failed,
}

impl DeliveryState {
    const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// One event for one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Which.
    pub id: DeliveryId,
    /// For which endpoint.
    pub webhook: WebhookId,
    /// Which event; sent as `webhook-id`, the same at every attempt.
    pub event: EventId,
    /// Its kind.
    pub kind: String,
    /// What is sent.
    pub body: String,
    /// Where it is.
    pub state: DeliveryState,
    /// Attempts made since it was created or replayed.
    pub attempts: i64,
    /// When to try next, while it is pending.
    pub next_try_at: Timestamp,
    /// The last attempt.
    pub last: Option<Attempt>,
    /// Since when it is there.
    pub created_at: Timestamp,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// How long it took, milliseconds.
    pub took_ms: i64,
    /// The answer's status; none if nothing answered.
    pub status: Option<u16>,
    /// The beginning of the answer, or why there is none.
    pub answer: String,
    /// How long the receiver asked us to wait, seconds.
    pub retry_after_s: Option<i64>,
}

impl Attempt {
    /// Whether it was taken.
    #[must_use]
    pub fn arrived(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the receiver wants nothing more, ever.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status == Some(410)
    }

    /// Where `delivery` is after this attempt: its state and when to try again.
    #[must_use]
    pub fn outcome(&self, delivery: &Delivery) -> (DeliveryState, Timestamp) {
        if self.arrived() {
            return (DeliveryState::Delivered, self.at);
        }
        match pause_ms(delivery.id, delivery.attempts.saturating_add(1)) {
            Some(pause_ms) if !self.is_gone() => {
                let wished_ms = self
                    .retry_after_s
                    .unwrap_or(0)
                    .clamp(0, RETRY_AFTER_S_MAX)
                    .saturating_mul(1_000);
                (
                    DeliveryState::Pending,
                    self.at.plus_ms(pause_ms.max(wished_ms)),
                )
            }
            _ => (DeliveryState::Failed, self.at),
        }
    }
}

/// The pause after `attempts` failed ones, milliseconds; none when that were enough.
#[must_use]
pub fn pause_ms(delivery: DeliveryId, attempts: i64) -> Option<i64> {
    let at = usize::try_from(attempts.checked_sub(1)?).ok()?;
    let pause_ms = PAUSES_S.get(at)?.saturating_mul(1_000);
    // an id ends in random bits: as good as a die, and the same whoever throws it
    let text = delivery.to_string();
    let die = i64::from_str_radix(&text[text.len() - 6..], 16).unwrap_or(0);
    let hundredths = die
        .wrapping_add(attempts.wrapping_mul(7_919))
        .rem_euclid(1_000);
    Some(pause_ms.saturating_add(pause_ms.saturating_mul(JITTER_PERCENT * hundredths) / 100_000))
}

/// How long an endpoint is left alone after `failures` in a row, milliseconds, whatever else waits for it.
#[must_use]
pub fn rest_ms(failures: i64) -> i64 {
    let doublings = u32::try_from(failures.clamp(0, 6)).unwrap_or(6);
    5_000_i64.saturating_mul(1 << doublings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::Ids;

    #[test]
    fn patterns_are_kinds_and_beginnings_of_kinds() {
        let parse =
            |list: &[&str]| Patterns::parse(list.iter().map(|&text| text.to_owned()).collect());
        let some = parse(&["rental.started", "node.*"]).expect("fine");
        for (kind, wanted) in [
            ("rental.started", true),
            ("rental.started_twice", false),
            ("rental.ended", false),
            ("node.offline", true),
            ("nodes.offline", false),
        ] {
            assert_eq!(some.want(kind), wanted, "{kind}");
        }
        assert!(parse(&[]).expect("fine").want("anything.at_all"));
        for odd in [
            "",
            "*",
            "Rental.started",
            "rental..x",
            "rental.",
            ".rental",
            "rental.*.x",
            "a b",
            "rental.s*",
        ] {
            assert!(parse(&[odd]).is_err(), "{odd:?}");
        }
        assert!(parse(&["a"; PATTERNS_MAX + 1]).is_err());
        assert!(parse(&["a".repeat(PATTERN_CHARS_MAX + 1).as_str()]).is_err());
    }

    #[test]
    fn pauses_grow_for_days_and_are_spread() {
        let ids = Ids::System;
        for attempt in 1..=9 {
            let base_ms = PAUSES_S[usize::try_from(attempt).expect("small") - 1] * 1_000;
            let pauses: Vec<i64> = (0..50)
                .map(|_| pause_ms(ids.mint(), attempt).expect("another attempt"))
                .collect();
            assert!(
                pauses
                    .iter()
                    .all(|pause| (base_ms..=base_ms * 12 / 10).contains(pause)),
                "{pauses:?}"
            );
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
        assert_eq!(pause_ms(ids.mint(), 10), None);
        assert_eq!(pause_ms(ids.mint(), 0), None);
        assert!(PAUSES_S.iter().sum::<i64>() > 3 * 86_400);
    }

    #[test]
    fn an_attempt_decides_what_becomes_of_a_delivery() {
        let at = Timestamp::from_secs(1_000);
        let ids = Ids::counting();
        let delivery = |attempts| Delivery {
            id: ids.mint(),
            webhook: ids.mint(),
            event: ids.mint(),
            kind: "a.b".into(),
            body: String::new(),
            state: DeliveryState::Pending,
            attempts,
            next_try_at: at,
            last: None,
            created_at: at,
        };
        let attempt = |status, retry_after_s| Attempt {
            at,
            took_ms: 1,
            status,
            answer: String::new(),
            retry_after_s,
        };
        for (attempts, status, state) in [
            (0, Some(200), DeliveryState::Delivered),
            (9, Some(299), DeliveryState::Delivered),
            (0, Some(301), DeliveryState::Pending),
            (0, Some(404), DeliveryState::Pending),
            (0, Some(500), DeliveryState::Pending),
            (0, None, DeliveryState::Pending),
            (8, None, DeliveryState::Pending),
            (9, None, DeliveryState::Failed),
            (0, Some(410), DeliveryState::Failed),
        ] {
            let (found, next) = attempt(status, None).outcome(&delivery(attempts));
            assert_eq!(found, state, "{attempts} {status:?}");
            assert_eq!(next > at, state == DeliveryState::Pending);
        }
        let (_, next) = attempt(Some(429), Some(3_600)).outcome(&delivery(0));
        assert_eq!(next, at.plus_ms(3_600_000));
        let (_, next) = attempt(Some(503), Some(i64::MAX)).outcome(&delivery(0));
        assert_eq!(next, at.plus_ms(86_400_000));
    }
}
