//! What time means for a rental: where its lease ends, and when it is stopped, given up or let go. Pure decisions.
//!
//! # Invariants
//! - lease end ≤ paid end: nothing runs beyond what is held.

use shared::time::Timestamp;

use super::model::{EndReason, Rental, State};

/// Why a rental ends whose paid time is over.
#[must_use]
pub const fn time_is_over(rental: &Rental) -> EndReason {
    match rental.stop_reason {
        Some(reason) => reason,
        None if rental.auto_extend => EndReason::OutOfFunds,
        None => EndReason::Completed,
    }
}

/// Where a rental's lease should end now, if that is at least a step later than it does.
#[must_use]
pub fn extended_lease(
    rental: &Rental,
    now: Timestamp,
    horizon_ms: i64,
    step_ms: i64,
) -> Option<Timestamp> {
    if rental.state != State::Active {
        return None;
    }
    let horizon = now.plus_ms(horizon_ms);
    let paid_until = rental
        .paid_until()
        .unwrap_or_else(|| now.plus_ms(rental.duration_ms));
    let target = horizon.min(paid_until);
    // a short rental that is still loading must not see its lease end before it is moved
    let step_ms = step_ms.min(rental.duration_ms / 2);
    let last_part =
        target == paid_until && rental.started_at.is_some() && target > rental.lease_until;
    (last_part || target.ms_since(rental.lease_until) >= step_ms).then_some(target)
}

/// How long a rental may take to start: as long as an image may take to be pulled.
pub const START_MS_MAX: i64 = 30 * 60 * 1_000;
/// How long after a lease's end its node may still report, milliseconds.
pub const LEASE_GRACE_MS: i64 = 30_000;

/// What time does to a rental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// It wasn't paid.
    Lapse,
    /// Stop it.
    Stop(EndReason),
    /// Its node is gone.
    Finish(EndReason),
}

/// Whether time ends a rental. `nodes_can_report` is false in the first minute of a coordinator's run, when silence proves nothing.
#[must_use]
pub fn overdue(rental: &Rental, now: Timestamp, nodes_can_report: bool) -> Option<Overdue> {
    let lease_over = now > rental.lease_until.plus_ms(LEASE_GRACE_MS);
    match rental.state {
        State::Reserved => (now > rental.reserve_until).then_some(Overdue::Lapse),
        State::Active | State::Stopping if lease_over && nodes_can_report => {
            let paid_over = rental.paid_until().is_some_and(|until| now > until);
            let reason = rental.stop_reason.unwrap_or(EndReason::NodeLost);
            let reason = if paid_over && rental.stop_reason.is_none() {
                time_is_over(rental)
            } else {
                reason
            };
            Some(Overdue::Finish(reason))
        }
        State::Active => match (rental.paid_until(), rental.paid_at) {
            (Some(until), _) => (now >= until).then(|| Overdue::Stop(time_is_over(rental))),
            (None, Some(paid_at)) => (now.ms_since(paid_at) > START_MS_MAX)
                .then_some(Overdue::Stop(EndReason::FailedToStart)),
            (None, None) => None,
        },
        State::Stopping | State::Ended => None,
    }
}
