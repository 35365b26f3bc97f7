//! What a node reports about its rentals, folded into their rows.
//!
//! # Invariants
//! - A report about another node's rental, or under another lease, changes nothing.
//! - A row is written only when the report is news.

use shared::{
    time::Timestamp,
    wire::observed::{ObservedRental, Phase},
};

use super::{
    Rules, announce, changes, deadlines,
    fold::{self, Folded},
    model::{EndReason, Rental},
    save, upkeep,
};
use crate::{context::OpCtx, error::Result, store::Tx};

/// When and how a report came.
#[derive(Debug, Clone, Copy)]
pub struct Reception {
    /// When the beat arrived.
    pub received_at: Timestamp,
    /// Our clock minus the node's, microseconds.
    pub clock_offset_us: i64,
    /// When the node's beat before this one arrived.
    pub heard_before: Option<Timestamp>,
}

/// How long a beat may have been under way: what happened meanwhile shows only in the next one.
const UNDER_WAY_MS: i64 = 2_000;

impl Reception {
    /// What is news happened after the beat before, whatever the node's wall clock did since.
    fn not_before_last_beat(&self, moment: Option<Timestamp>) -> Option<Timestamp> {
        let earliest = self.heard_before.map(|at| at.plus_ms(-UNDER_WAY_MS));
        moment.map(|moment| earliest.map_or(moment, |earliest| moment.max(earliest)))
    }
}

/// Folds one report into its rental, which must be the reporting node's. True if that ended it.
///
/// # Errors
/// The database's.
pub fn observe(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    rental: &Rental,
    observed: &ObservedRental,
    reception: Reception,
) -> Result<bool> {
    let folded = fold::fold(
        rental,
        observed,
        reception.clock_offset_us,
        reception.received_at,
    );
    let folded = Folded {
        started_at: reception.not_before_last_beat(folded.started_at),
        finished_at: reception.not_before_last_beat(folded.finished_at),
        ..folded
    };
    if folded == Folded::default() {
        return Ok(false);
    }
    let kind = event_of(rental, &folded);
    let mut seen = merge(rental, &folded);
    if folded.started_at.is_some() {
        // from now on the paid time counts: the lease may reach to its end
        let lease =
            deadlines::extended_lease(&seen, ctx.now, rules.horizon_ms, rules.lease_step_ms);
        seen.lease_until = lease.unwrap_or(seen.lease_until);
    }
    if let Some((reason, detail)) = &folded.end {
        if *reason == EndReason::OomKilled {
            upkeep::tell_oom(tx, ctx, rental, 1)?;
        }
        changes::finish(tx, ctx, &seen, *reason, detail)?;
        return Ok(true);
    }
    let seen = save(tx, &seen)?;
    announce(tx, ctx, &seen, kind)?;
    Ok(false)
}

fn merge(rental: &Rental, folded: &Folded) -> Rental {
    Rental {
        phase: folded.phase.clone().unwrap_or_else(|| rental.phase.clone()),
        container_id: folded
            .container_id
            .clone()
            .or_else(|| rental.container_id.clone()),
        image_digest: folded
            .image_digest
            .clone()
            .or_else(|| rental.image_digest.clone()),
        started_at: rental.started_at.or(folded.started_at),
        finished_at: rental.finished_at.or(folded.finished_at),
        ..rental.clone()
    }
}

fn event_of(rental: &Rental, folded: &Folded) -> &'static str {
    match &folded.phase {
        Some(Phase::Running) if rental.started_at.is_none() => "rental.started",
        Some(Phase::Pulling { .. }) => "rental.pulling",
        _ => "rental.changed",
    }
}
