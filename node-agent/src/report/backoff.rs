//! How long to wait after a failed beat. Pure.
//!
//! # Invariants
//! - Between half a second and half a minute, doubling, with jitter, so that agents that lost one coordinator don't return as one.
//! - Never longer than a third of the shortest lease left: there are at least two more tries before a rental would have to stop.

const SHORTEST_MS: i64 = 500;
const LONGEST_MS: i64 = 30_000;

/// Milliseconds to wait after `failures` failed beats in a row (1, 2, …). `random` is any number; `lease_left_ms` is what is left
/// of the shortest lease, and `asked_ms` what the coordinator asked for (`Retry-After`).
pub(super) fn delay_ms(
    failures: u32,
    random: u32,
    lease_left_ms: Option<i64>,
    asked_ms: Option<i64>,
) -> i64 {
    let doubled = SHORTEST_MS << failures.clamp(1, 6);
    let spread = doubled.min(LONGEST_MS) - SHORTEST_MS + 1;
    let wait = SHORTEST_MS + i64::from(random) % spread;
    let wait = wait.max(asked_ms.unwrap_or_default().min(LONGEST_MS));
    let longest = match lease_left_ms {
        // a lease that is over can't be lost any more
        Some(left) if left > 0 => (left / 3).max(SHORTEST_MS),
        _ => LONGEST_MS,
    };
    wait.min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_hold(
            failures in any::<u32>(),
            random in any::<u32>(),
            left in proptest::option::of(any::<i64>()),
            asked in proptest::option::of(any::<i64>()),
        ) {
            let wait = delay_ms(failures, random, left, asked);
            prop_assert!((SHORTEST_MS..=LONGEST_MS).contains(&wait));
            if let Some(left) = left && left > 3 * SHORTEST_MS {
                prop_assert!(wait <= left / 3);
            }
        }
    }

    #[test]
    fn it_grows_and_spreads() {
        assert_eq!(delay_ms(1, 0, None, None), 500);
        assert_eq!(delay_ms(1, 500, None, None), 1_000);
        assert_eq!(delay_ms(4, 7_500, None, None), 8_000);
        assert_eq!(delay_ms(1, 0, None, Some(7_000)), 7_000);
        assert_eq!(delay_ms(1, 0, Some(9_000), Some(7_000)), 3_000);
    }
}
