//! Attempts of what costs us something (guessing a password, asking for a quote): so many per key and minute, counted in memory.
//!
//! # Invariants
//! - Memory is bounded: an entry lives for the minute that it limits, and at most [`ENTRIES_MAX`] are kept.
//! - Each coordinator counts for itself.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use crate::error::{Error, Kind, Result};

const WINDOW_MS: i64 = 60_000;
/// Keys that are counted at once; when so many are active, new ones wait.
const ENTRIES_MAX: usize = 100_000;

/// Counts attempts by key: a burst of `per_minute`, refilled evenly.
#[derive(Debug)]
pub struct Attempts<K> {
    /// One attempt weighs so many milliseconds.
    weight_ms: i64,
    entries: Mutex<Entries<K>>,
}

#[derive(Debug)]
struct Entries<K> {
    /// When the weight of all attempts of the key is gone, on the boot clock.
    free_at_ms: HashMap<K, i64>,
    swept_at_ms: i64,
}

impl<K: Eq + Hash> Attempts<K> {
    /// So many per minute and key.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self {
            weight_ms: WINDOW_MS / i64::from(per_minute.max(1)),
            entries: Mutex::new(Entries {
                free_at_ms: HashMap::new(),
                swept_at_ms: i64::MIN,
            }),
        }
    }

    /// Counts an attempt at `now_ms` of the boot clock.
    ///
    /// # Errors
    /// 429 when there were too many; a refused attempt doesn't count.
    pub fn count(&self, key: K, now_ms: i64) -> Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let free_at = entries.free_at_ms.get(&key).copied();
        if free_at.is_none() && entries.free_at_ms.len() >= ENTRIES_MAX {
            entries.sweep(now_ms);
            if entries.free_at_ms.len() >= ENTRIES_MAX {
                return Err(too_many(1_000));
            }
        }
        let next = free_at.unwrap_or(now_ms).max(now_ms) + self.weight_ms;
        let over_ms = next - now_ms - WINDOW_MS;
        if over_ms > 0 {
            return Err(too_many(over_ms));
        }
        entries.free_at_ms.insert(key, next);
        Ok(())
    }
}

impl<K: Eq + Hash> Entries<K> {
    /// Forgets keys whose attempts are gone; at most once a second, because it looks at all of them.
    fn sweep(&mut self, now_ms: i64) {
        if now_ms.saturating_sub(self.swept_at_ms) >= 1_000 {
            self.swept_at_ms = now_ms;
            self.free_at_ms.retain(|_, free_at| *free_at > now_ms);
        }
    }
}

fn too_many(wait_ms: i64) -> Error {
    let retry_after_s = u64::try_from(wait_ms).unwrap_or_default().div_ceil(1_000);
    Error::new(
        Kind::TooMany { retry_after_s },
        "too_many_attempts",
        format!("too many attempts; try again in {retry_after_s} s"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_per_refill_and_keys_are_apart() {
        let attempts = Attempts::new(5);
        for _ in 0..5 {
            attempts.count("a", 0).expect("within the burst");
        }
        let error = attempts.count("a", 0).expect_err("the sixth");
        assert_eq!(error.kind(), Kind::TooMany { retry_after_s: 12 });
        attempts.count("b", 0).expect("another key");
        assert!(attempts.count("a", 11_999).is_err());
        attempts.count("a", 12_000).expect("refilled");
        assert!(attempts.count("a", 12_000).is_err());
    }

    #[test]
    fn memory_is_bounded_and_recovers() {
        let attempts = Attempts::new(60);
        for key in 0..ENTRIES_MAX {
            attempts.count(key, 0).expect("room");
        }
        assert!(attempts.count(ENTRIES_MAX, 0).is_err());
        attempts.count(0, 0).expect("a known key goes on");
        attempts
            .count(ENTRIES_MAX, 3_000)
            .expect("old keys are forgotten");
    }
}
