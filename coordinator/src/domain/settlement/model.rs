//! What a billing window is, and the pure arithmetic of closing one.
//!
//! # Invariants
//! - A window's charge is the charge for the total minus what was charged before: nothing is lost to rounding, however short
//!   windows are. The fee likewise; the provider gets the rest.
//! - Windows of a rental meet: each begins where the one before ended. Their bounds are whole milliseconds.

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use shared::{money::Amount, time::Timestamp};

use crate::{
    domain::{
        metering::model::{Interval, billable_ms, floor_ms},
        rentals::model::{Rental, State},
    },
    error::Result,
};

/// A closed billing window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From when to when.
    pub span: Interval,
    /// Billable milliseconds in it.
    pub billable_ms: i64,
    /// What it costs, fee included.
    pub amount: Amount,
    /// The platform's part of that.
    pub fee: Amount,
}

/// The time that can be billed next: from the last window's end to the last moment of which evidence is complete. `evidence_until`
/// is when the node's last accepted beat arrived; a rental that was reported isn't billed beyond `reported_at`. `None` if there is nothing
/// yet.
#[must_use]
pub fn next_span(
    rental: &Rental,
    evidence_until: Timestamp,
    reported_at: Option<Timestamp>,
) -> Option<Interval> {
    let whole = |at: Timestamp| Timestamp::from_micros(floor_ms(at).saturating_mul(1_000));
    let start = rental.window_end.or_else(|| rental.started_at.map(whole))?;
    let end = match (rental.finished_at, rental.state) {
        (Some(finished), _) => finished.min(evidence_until),
        (None, State::Ended) => evidence_until.min(rental.lease_until),
        (None, _) => evidence_until,
    };
    let end = whole(reported_at.map_or(end, |reported| end.min(reported)));
    (start < end).then_some(Interval { start, end })
}

/// Closes a window over `span`: what is billable in it and what that costs.
///
/// # Errors
/// It leaves the ledger's range.
pub fn close(rental: &Rental, span: Interval, coverage: &[Interval]) -> Result<Window> {
    let far = Timestamp::from_micros(i64::MAX);
    let lease = Interval {
        start: rental.paid_at.unwrap_or(rental.created_at),
        end: rental.lease_until,
    };
    let running = Interval {
        start: rental.started_at.unwrap_or(far),
        end: rental.finished_at.unwrap_or(far),
    };
    let billable = billable_ms(span, lease, running, coverage);
    let total_ms = rental.billed_ms.saturating_add(billable);
    let charged = rental.rate.charge_for_ms(total_ms)?.min(rental.paid);
    let fee = charged.basis_points(rental.fee_bps)?;
    Ok(Window {
        span,
        billable_ms: billable,
        amount: charged.minus(rental.charged)?,
        fee: fee.minus(rental.fee)?,
    })
}
