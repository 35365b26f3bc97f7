//! What is billable: pure interval arithmetic over what lease, journal and coordinator each know.
//!
//! # Invariants
//! - Whole milliseconds of the coordinator's clock: bounds are floored once, so windows that meet add up exactly.
//! - Each side's evidence can only lower the result.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use shared::{journal::Hash, time::Timestamp};

/// A stretch of time, `start` included, `end` not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Its start.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
}

impl Interval {
    /// The part that both share, if there is one.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }
}

/// Where a node's journal and beats stood when a beat was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The last record.
    pub seq: i64,
    /// Its hash.
    pub hash: Hash,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The node's boot clock at the beat.
    pub boot_ms: i64,
    /// When the beat arrived.
    pub received_at: Timestamp,
    /// How many of the node's rentals have a fault that isn't over.
    pub faults: i64,
}

/// By how much a node's boot clock may differ from ours over a gap, milliseconds, plus a thousandth of the gap.
const CLOCK_SLACK_MS: i64 = 2_000;

/// When a beat counts as heard that says that its node's boot clock showed `boot_ms`. One that was under way for longer than clocks
/// may differ (a link that was cut delivers what it held back) counts from when it was sent: never later than it arrived.
#[must_use]
pub fn heard_at(before: &Head, boot_id: &str, boot_ms: i64, received_at: Timestamp) -> Timestamp {
    let ours_ms = received_at.ms_since(before.received_at);
    let theirs_ms = boot_ms.saturating_sub(before.boot_ms);
    let late = before.boot_id == boot_id
        && theirs_ms >= 0
        && ours_ms.saturating_sub(theirs_ms) > slack_ms(ours_ms);
    if late {
        before.received_at.plus_ms(theirs_ms)
    } else {
        received_at
    }
}

fn slack_ms(ours_ms: i64) -> i64 {
    CLOCK_SLACK_MS.saturating_add(ours_ms.max(0).checked_div(1_000).unwrap_or(0))
}

/// The parts of the time between two accepted beats that are covered: all of it if the gap is short; of a longer gap the time in
/// which we ourselves were down and the first `gap_ms` of the rest, so that our outage never eats up a node's allowance. Nothing if
/// the node restarted or its clock doesn't agree.
#[must_use]
pub fn covered(before: &Head, now: &Head, downtime: &[Interval], gap_ms: i64) -> Vec<Interval> {
    let ours_ms = now.received_at.ms_since(before.received_at);
    let theirs_ms = now.boot_ms.saturating_sub(before.boot_ms);
    let slack_ms = slack_ms(ours_ms);
    let same_boot = before.boot_id == now.boot_id;
    if !same_boot || ours_ms < 0 || theirs_ms.saturating_sub(ours_ms).abs() > slack_ms {
        return Vec::new();
    }
    let whole = Interval {
        start: before.received_at,
        end: now.received_at,
    };
    if ours_ms <= gap_ms {
        return vec![whole];
    }
    let down: Vec<Interval> = downtime
        .iter()
        .filter_map(|down| down.intersect(&whole))
        .collect();
    let mut left_ms = gap_ms;
    let mut parts = down.clone();
    for up in uncovered(down, &whole) {
        let length_ms = up.end.ms_since(up.start);
        let end = up.end.min(up.start.plus_ms(left_ms));
        parts.push(Interval { end, ..up });
        left_ms = left_ms.saturating_sub(length_ms).max(0);
    }
    parts.retain(|part| part.start < part.end);
    union(parts)
}

/// Sorted, disjoint intervals that cover the same time.
#[must_use]
pub fn union(mut parts: Vec<Interval>) -> Vec<Interval> {
    parts.sort_by_key(|part| part.start);
    let mut out: Vec<Interval> = Vec::with_capacity(parts.len());
    for part in parts {
        match out.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => out.push(part),
        }
    }
    out
}

/// The time within `whole` at which no coordinator was alive.
#[must_use]
pub fn downtime(alive: Vec<Interval>, whole: &Interval) -> Vec<Interval> {
    uncovered(alive, whole)
}

/// Covered time without that in which what is rented didn't work.
#[must_use]
pub fn without(coverage: &[Interval], faults: &[Interval]) -> Vec<Interval> {
    let parts = coverage.iter();
    parts
        .flat_map(|part| uncovered(faults.to_vec(), part))
        .collect()
}

/// What of `whole` isn't in any of `parts`.
fn uncovered(parts: Vec<Interval>, whole: &Interval) -> Vec<Interval> {
    let mut from = whole.start;
    let mut gaps = Vec::new();
    for part in union(parts) {
        if part.start > from {
            gaps.push(Interval {
                start: from,
                end: part.start.min(whole.end),
            });
        }
        from = from.max(part.end);
    }
    if from < whole.end {
        gaps.push(Interval {
            start: from,
            end: whole.end,
        });
    }
    gaps.retain(|gap| gap.start < gap.end);
    gaps
}

/// Billable milliseconds of `window`: lease ∩ running ∩ covered.
#[must_use]
pub fn billable_ms(
    window: Interval,
    lease: Interval,
    running: Interval,
    coverage: &[Interval],
) -> i64 {
    let Some(core) = window
        .intersect(&lease)
        .and_then(|part| part.intersect(&running))
    else {
        return 0;
    };
    union(coverage.to_vec())
        .iter()
        .filter_map(|part| part.intersect(&core))
        .map(|part| floor_ms(part.end).saturating_sub(floor_ms(part.start)))
        .fold(0, i64::saturating_add)
}

/// Whole milliseconds since the Unix epoch, rounded down.
#[must_use]
pub const fn floor_ms(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_secs(s)
    }

    fn span(start: i64, end: i64) -> Interval {
        Interval {
            start: at(start),
            end: at(end),
        }
    }

    fn head(received: i64, boot_s: i64) -> Head {
        Head {
            seq: 1,
            hash: Hash::GENESIS,
            boot_id: "b".into(),
            boot_ms: boot_s * 1_000,
            received_at: at(received),
            faults: 0,
        }
    }

    #[test]
    fn faulty_time_is_taken_out_of_covered_time() {
        let covered = [span(0, 100), span(200, 300)];
        assert_eq!(without(&covered, &[]), covered);
        assert_eq!(
            without(&covered, &[span(50, 60), span(90, 250)]),
            [span(0, 50), span(60, 90), span(250, 300)]
        );
        assert_eq!(without(&covered, &[span(-10, 1_000)]), []);
    }

    #[test]
    fn a_short_gap_is_covered_and_of_a_long_one_the_first_90_s_and_our_own_downtime() {
        let cover = |to: i64, down: &[Interval]| {
            covered(&head(1_000, 500), &head(to, to - 500), down, 90_000)
        };
        assert_eq!(cover(1_005, &[]), [span(1_000, 1_005)]);
        assert_eq!(cover(1_090, &[]), [span(1_000, 1_090)]);
        assert_eq!(cover(1_600, &[]), [span(1_000, 1_090)]);
        assert_eq!(cover(1_600, &[span(900, 1_590)]), [span(1_000, 1_600)]);
        assert_eq!(cover(1_600, &[span(1_010, 1_300)]), [span(1_000, 1_380)]);
        assert_eq!(cover(1_900, &[span(1_030, 1_600)]), [span(1_000, 1_660)]);
        assert_eq!(
            cover(1_600, &[span(1_200, 1_300)]),
            [span(1_000, 1_090), span(1_200, 1_300)]
        );
    }

    #[test]
    fn another_boot_or_a_clock_that_disagrees_covers_nothing() {
        let mut other = head(1_005, 505);
        other.boot_id = "c".into();
        assert_eq!(covered(&head(1_000, 500), &other, &[], 90_000), []);
        assert_eq!(
            covered(&head(1_000, 500), &head(1_005, 508), &[], 90_000),
            []
        );
        assert_eq!(
            covered(&head(1_000, 500), &head(1_005, 502), &[], 90_000),
            []
        );
        assert_eq!(
            covered(&head(1_000, 500), &head(1_005, 507), &[], 90_000),
            [span(1_000, 1_005)]
        );
    }

    #[test]
    fn a_beat_that_was_held_back_counts_from_when_it_was_sent() {
        let before = head(1_000, 500);
        let heard = |boot_s: i64, arrived: i64| heard_at(&before, "b", boot_s * 1_000, at(arrived));
        assert_eq!(heard(505, 1_005), at(1_005));
        assert_eq!(
            heard(505, 1_007),
            at(1_007),
            "within what clocks may differ"
        );
        assert_eq!(heard(501, 1_020), at(1_001));
        assert_eq!(
            heard(509, 1_005),
            at(1_005),
            "no beat is heard before it arrives"
        );
        assert_eq!(heard(499, 1_020), at(1_020));
        assert_eq!(heard_at(&before, "c", 501_000, at(1_020)), at(1_020));
    }

    #[test]
    fn downtime_is_what_no_coordinator_was_alive_in() {
        let whole = span(100, 200);
        assert_eq!(
            downtime(vec![span(0, 120), span(150, 300)], &whole),
            [span(120, 150)]
        );
        assert_eq!(downtime(vec![span(0, 160), span(150, 300)], &whole), []);
        assert_eq!(
            downtime(vec![span(120, 130)], &whole),
            [span(100, 120), span(130, 200)]
        );
        assert_eq!(downtime(Vec::new(), &whole), [whole]);
    }

    #[test]
    fn billable_is_the_intersection() {
        let ms = |lease, running, coverage: &[Interval]| {
            billable_ms(span(0, 100), lease, running, coverage)
        };
        let all = span(-1_000, 1_000);
        assert_eq!(ms(all, all, &[all]), 100_000);
        assert_eq!(ms(span(0, 50), all, &[all]), 50_000);
        assert_eq!(ms(all, span(20, 60), &[span(0, 30), span(50, 100)]), 20_000);
        assert_eq!(ms(all, all, &[span(0, 30), span(20, 40)]), 40_000);
        assert_eq!(ms(all, all, &[]), 0);
        assert_eq!(ms(span(200, 300), all, &[all]), 0);
    }

    #[test]
    fn windows_that_meet_add_up() {
        let all = span(-1_000, 1_000);
        let cut = Timestamp::from_micros(33_333_333);
        let first = Interval {
            start: at(0),
            end: cut,
        };
        let second = Interval {
            start: cut,
            end: at(100),
        };
        let sum = billable_ms(first, all, all, &[all]) + billable_ms(second, all, all, &[all]);
        assert_eq!(sum, 100_000);
    }
}
