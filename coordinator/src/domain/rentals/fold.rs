//! A node's report folded into a rental: pure decisions about what is news and whether it is over.
//!
//! # Invariants
//! - A report about another lease, or about a rental that isn't live, changes nothing.
//! - `started_at` and `finished_at` are decided once, and never lie before the payment or after the report.

use shared::{
    time::Timestamp,
    wire::observed::{ExitCause, ObservedRental, Phase},
};

use super::{
    deadlines::time_is_over,
    model::{EndReason, Rental, State},
};

/// What a node's report changes about a rental.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Folded {
    /// The new phase, if it is another one.
    pub phase: Option<Phase>,
    /// Docker's id, if it is news.
    pub container_id: Option<String>,
    /// The image's digest, if it is news.
    pub image_digest: Option<String>,
    /// When it started, if it is news.
    pub started_at: Option<Timestamp>,
    /// When it finished, if it is news.
    pub finished_at: Option<Timestamp>,
    /// It is over.
    pub end: Option<(EndReason, String)>,
}

/// Folds a node's report into a rental. `clock_offset_us` is our clock minus the node's, `received_at` when the beat arrived.
/// A report about another lease changes nothing.
#[must_use]
pub fn fold(
    rental: &Rental,
    observed: &ObservedRental,
    clock_offset_us: i64,
    received_at: Timestamp,
) -> Folded {
    if observed.lease_id != rental.lease_id
        || !matches!(rental.state, State::Active | State::Stopping)
    {
        return Folded::default();
    }
    let earliest = rental.paid_at.unwrap_or(rental.created_at);
    let ours = |moment: Timestamp, from: Timestamp| {
        Timestamp::from_micros(moment.as_micros().saturating_add(clock_offset_us))
            .clamp(from, received_at.max(from))
    };
    let started_at = match rental.started_at {
        Some(_) => None,
        None => observed.started_at.map(|moment| ours(moment, earliest)),
    };
    let started = rental.started_at.or(started_at);
    let finished_at = match (rental.finished_at, started) {
        (None, Some(started)) => observed.finished_at.map(|moment| ours(moment, started)),
        _ => None,
    };
    let news = |old: &Option<String>, new: &Option<String>| {
        let new = new.as_ref().map(|text| clipped(text, ID_CHARS_MAX));
        new.filter(|new| old.as_ref() != Some(new))
    };
    let phase = bounded(&observed.phase);
    Folded {
        phase: (phase != rental.phase).then_some(phase),
        container_id: news(&rental.container_id, &observed.container_id),
        image_digest: news(&rental.image_digest, &observed.image_digest),
        end: end_of(
            rental,
            observed,
            started,
            rental.finished_at.or(finished_at),
        ),
        started_at,
        finished_at,
    }
}

/// The longest id or digest that is kept of a node's words.
const ID_CHARS_MAX: usize = 200;
/// The longest reason.
const REASON_CHARS_MAX: usize = 500;

fn clipped(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// A phase whose texts fit into a row and an event, whatever the node sent.
fn bounded(phase: &Phase) -> Phase {
    match phase {
        Phase::Failed { code, reason } => Phase::Failed {
            code: clipped(code, ID_CHARS_MAX),
            reason: clipped(reason, REASON_CHARS_MAX),
        },
        other => other.clone(),
    }
}

fn end_of(
    rental: &Rental,
    observed: &ObservedRental,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
) -> Option<(EndReason, String)> {
    match &observed.phase {
        Phase::Exited { exit, cause } => Some(match cause {
            ExitCause::Wanted => {
                let reason = rental.stop_reason.unwrap_or(EndReason::Stopped);
                (
                    reason,
                    format!("stopped as wanted; exit code {}", exit.code),
                )
            }
            ExitCause::LeaseEnded => lease_ended(rental, started, finished),
            ExitCause::OverDisk => (
                EndReason::DiskExceeded,
                "stopped by its node: outside its disk it wrote more, or made more files, than a rental may".to_owned(),
            ),
            ExitCause::Itself if exit.oom_killed => {
                let limit = rental.resources.ram_bytes;
                (
                    EndReason::OomKilled,
                    format!("killed by the kernel: it took more than the {limit} bytes it rents"),
                )
            }
            ExitCause::Itself => (
                EndReason::Exited,
                format!("its process ended by itself with exit code {}", exit.code),
            ),
        }),
        Phase::Failed { code, reason } => {
            let text = clipped(&format!("{code}: {reason}"), REASON_CHARS_MAX);
            let end = match (started, code.as_str()) {
                (Some(_), _) => EndReason::NodeLost,
                (None, "stopped_before_start") => rental.stop_reason.unwrap_or(EndReason::Stopped),
                (None, _) => EndReason::FailedToStart,
            };
            Some((end, text))
        }
        Phase::Pending
        | Phase::Pulling { .. }
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping => None,
    }
}

/// How close to the end of its paid time a lease's end counts as that, milliseconds.
const PAID_END_SLACK_MS: i64 = 2_000;

fn lease_ended(
    rental: &Rental,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
) -> (EndReason, String) {
    let paid_until = started.map(|started| started.plus_ms(rental.duration_ms));
    let whole = match (paid_until, finished) {
        (Some(paid_until), Some(finished)) => finished.plus_ms(PAID_END_SLACK_MS) >= paid_until,
        _ => false,
    };
    if whole {
        (time_is_over(rental), "its paid time was over".to_owned())
    } else {
        (
            EndReason::NodeLost,
            "its lease ended while node and market could not reach each other".to_owned(),
        )
    }
}
