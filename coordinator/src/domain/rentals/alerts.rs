//! Telling consumers in time that a rental runs out: of paid time, or of the balance that extends it.
//!
//! # Invariants
//! - A threshold is told of once for each paid end, when it is crossed: what lay behind a rental when it began, or when it was
//!   extended, isn't told. Of several crossed at once the nearest to the end is told.
//! - What is told is durable with the event that tells it; a coordinator that dies tells it later, not twice.
//! - Rentals are found by the time at which something can happen to them, never by reading all of them.

use shared::{id::RentalId, time::Timestamp};

use super::{
    Desk, announce_with, find,
    model::{Rental, State},
    spending::{self, Funds},
    store::alerts as store,
};
use crate::{
    context::OpCtx,
    domain::{
        auth,
        mail::{self, Mail, Postbox},
    },
    error::Result,
    store::{StoreError, Tx},
};

/// What is told of: so much time left, milliseconds, the longest last.
pub const THRESHOLDS_MS: [i64; 3] = [10 * 60_000, 60 * 60_000, 24 * 60 * 60_000];
/// How often a rental is looked at whose end hangs on a balance, which others draw on, too.
const FORECAST_MS: i64 = 60_000;
/// How often a rental is looked at that hasn't started yet.
const UNSTARTED_MS: i64 = 30_000;
/// Nothing is looked at later than this, milliseconds: longer than any rental lasts.
const FAR_MS: i64 = 400 * 86_400_000;
/// A forecast must pass a threshold by this part of it before the threshold lies ahead again: it wavers.
const WAVER: i64 = 10;

/// The event that tells how much time is left.
pub const TIME_LEFT: &str = "rental.time_left";
/// The event that tells that a rental ends for want of funds.
pub const OUT_OF_FUNDS: &str = "rental.out_of_funds";

/// What is kept of a rental's alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Which rental.
    pub rental: RentalId,
    /// When it is looked at.
    pub look_at: Timestamp,
    /// How many thresholds lie ahead.
    pub ahead: usize,
    /// The paid end of which was said that it can't be extended.
    pub broke_until: Option<Timestamp>,
}

/// How many thresholds lie ahead of `left_ms`: those that are shorter.
#[must_use]
pub fn ahead(left_ms: i64) -> usize {
    THRESHOLDS_MS
        .iter()
        .filter(|threshold| **threshold < left_ms)
        .count()
}

/// What a look at a rental comes to. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The threshold to tell of, milliseconds.
    pub tell_ms: Option<i64>,
    /// How many thresholds lie ahead now.
    pub ahead: usize,
    /// When to look again.
    pub look_in_ms: i64,
}

/// Judges how much time is left. `wavers` is true for a forecast.
#[must_use]
pub fn judge(before: usize, left_ms: i64, wavers: bool) -> Verdict {
    let now = ahead(left_ms);
    let tell_ms = (now < before)
        .then(|| THRESHOLDS_MS.get(now).copied())
        .flatten();
    let passed = if wavers {
        ahead(left_ms.saturating_sub(left_ms / WAVER))
    } else {
        now
    };
    let ahead = if now < before {
        now
    } else {
        before.max(passed)
    };
    let next_ms = ahead
        .checked_sub(1)
        .and_then(|at| THRESHOLDS_MS.get(at))
        .map_or(FAR_MS, |threshold| {
            left_ms.saturating_sub(*threshold).max(0)
        });
    let most_ms = if wavers { FORECAST_MS } else { FAR_MS };
    Verdict {
        tell_ms,
        ahead,
        look_in_ms: next_ms.min(most_ms).max(1),
    }
}

/// A rental was paid: it is watched from now on.
///
/// # Errors
/// The database's.
pub(super) fn begin(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental) -> Result<()> {
    let watch = Watch {
        rental: rental.id,
        look_at: ctx.now.plus_ms(UNSTARTED_MS),
        ahead: ahead(rental.duration_ms),
        broke_until: None,
    };
    store::insert(tx, &watch)
}

/// A rental was extended: what lies behind its new end isn't told of.
///
/// # Errors
/// The database's.
pub(super) fn extended(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental) -> Result<()> {
    let left_ms = rental
        .paid_until()
        .map_or(rental.duration_ms, |until| until.ms_since(ctx.now));
    // a balance that pays ten minutes more has as much less: its forecast stays
    let ahead = (!rental.auto_extend).then(|| ahead(left_ms));
    store::look_soon(tx, rental.id, ctx.now, ahead)
}

/// A rental is over: it is watched no longer.
///
/// # Errors
/// The database's.
pub(super) fn end(tx: &mut dyn Tx, rental: RentalId) -> Result<()> {
    store::delete(tx, rental)
}

/// Rentals that are to be looked at, after a place in the order of (time, id).
///
/// # Errors
/// The database's.
pub fn due(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: &(Timestamp, String),
    limit: i64,
) -> Result<Vec<Watch>> {
    store::due(tx, now, (after.0, &after.1), limit)
}

/// What a look did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Thresholds told of.
    pub time_left: usize,
    /// Ends for want of funds told of.
    pub out_of_funds: usize,
}

/// Looks at one rental and tells what is to be told. Safe to repeat.
///
/// # Errors
/// The database's; 503 if somebody else looked meanwhile.
pub fn look(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    desk: &Desk,
    postbox: &Postbox,
    id: RentalId,
) -> Result<Told> {
    let mut told = Told::default();
    let Some(watch) = store::find(tx, id)? else {
        return Ok(told);
    };
    let rental = find(tx, id)?;
    if rental.state != State::Active {
        store::delete(tx, id)?;
        return Ok(told);
    }
    let Some(ends) = rental.paid_until() else {
        let later = Watch {
            look_at: ctx.now.plus_ms(UNSTARTED_MS),
            ..watch.clone()
        };
        return save(tx, &watch, &later).map(|()| told);
    };
    let paid_ms = ends.ms_since(ctx.now).max(0);
    let funds = spending::funds(tx, desk, &rental, ctx.now)?;
    let left_ms = paid_ms.saturating_add(funds.lasts_ms);
    let mut verdict = judge(watch.ahead, left_ms, rental.auto_extend);
    let mut broke_until = watch.broke_until;
    if rental.auto_extend {
        // its own end is looked at as soon as it can come to that
        let grace_ms = paid_ms.saturating_sub(desk.rules.grace_ms);
        if grace_ms > 0 {
            verdict.look_in_ms = verdict.look_in_ms.min(grace_ms);
        } else if funds.step_ms == 0 && broke_until != Some(ends) {
            broke_until = Some(ends);
            tell_broke(tx, ctx, postbox, &rental, ends, &funds)?;
            told.out_of_funds = 1;
        }
    }
    if let Some(threshold_ms) = verdict.tell_ms {
        let out_at = ctx.now.plus_ms(left_ms);
        tell_left(tx, ctx, postbox, &rental, threshold_ms, out_at)?;
        told.time_left = 1;
    }
    let later = Watch {
        look_at: ctx.now.plus_ms(verdict.look_in_ms),
        ahead: verdict.ahead,
        broke_until,
        ..watch.clone()
    };
    save(tx, &watch, &later)?;
    Ok(told)
}

fn save(tx: &mut dyn Tx, before: &Watch, now: &Watch) -> Result<()> {
    if store::update(tx, before, now)? {
        Ok(())
    } else {
        Err(StoreError::Busy(format!(
            "the alerts of {} were written meanwhile",
            before.rental
        ))
        .into())
    }
}

fn tell_left(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    rental: &Rental,
    threshold_ms: i64,
    out_at: Timestamp,
) -> Result<()> {
    let facts = serde_json::json!({
        "threshold_seconds": threshold_ms / 1_000,
        "ends_at": out_at.to_string(),
        // whether the balance was counted in, which may be spent otherwise
        "is_forecast": rental.auto_extend,
    });
    announce_with(tx, ctx, rental, TIME_LEFT, facts)?;
    let span = match threshold_ms / 60_000 {
        minutes if minutes >= 1_440 => "a day".to_owned(),
        60 => "an hour".to_owned(),
        minutes => format!("{minutes} minutes"),
    };
    let what = if rental.auto_extend {
        "as far as your balance lasts at what your rentals cost now"
    } else {
        "which is what was paid for"
    };
    let text = format!(
        "Your rental {} stops at {out_at}, {what}.\nThat is in less than {span}. To keep it, fill your balance or extend it.\n",
        rental.id
    );
    write(
        tx,
        ctx,
        postbox,
        rental,
        "Your rental ends soon",
        text,
        out_at,
    )
}

fn tell_broke(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    rental: &Rental,
    ends: Timestamp,
    funds: &Funds,
) -> Result<()> {
    let facts = serde_json::json!({
        "stops_at": ends.to_string(),
        "reason": funds.limit.name(),
    });
    announce_with(tx, ctx, rental, OUT_OF_FUNDS, facts)?;
    let text = format!(
        "Your rental {} can't be extended any more: {}.\nIt stops at {ends}. {}\n",
        rental.id,
        funds.limit.words(),
        funds.limit.remedy(),
    );
    write(
        tx,
        ctx,
        postbox,
        rental,
        "Your rental stops for want of funds",
        text,
        ends,
    )
}

/// A letter to whoever rents, if they have an account; of use until the rental's end.
fn write(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    rental: &Rental,
    subject: &'static str,
    text: String,
    until: Timestamp,
) -> Result<()> {
    let Some(consumer) = rental.consumer else {
        return Ok(());
    };
    let to = auth::account(tx, consumer)?.address()?;
    let letter = Mail::new(to, subject, text).until(until);
    mail::queue(tx, ctx, postbox, &letter).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_threshold_is_told_when_it_is_crossed_and_no_other() {
        let day = 24 * 60 * MINUTE;
        for (before, left_ms, tell_ms, now) in [
            (3, day + 1, None, 3),
            (3, day, Some(day), 2),
            (2, day - 1, None, 2),
            (2, 60 * MINUTE, Some(60 * MINUTE), 1),
            (1, 10 * MINUTE, Some(10 * MINUTE), 0),
            (0, 0, None, 0),
            // several at once: the nearest
            (3, 5 * MINUTE, Some(10 * MINUTE), 0),
            (3, 30 * MINUTE, Some(60 * MINUTE), 1),
            // more was paid: they lie ahead again
            (0, 61 * MINUTE, None, 2),
            (1, 2 * day, None, 3),
        ] {
            let verdict = judge(before, left_ms, false);
            assert_eq!(
                (verdict.tell_ms, verdict.ahead),
                (tell_ms, now),
                "{before} {left_ms}"
            );
        }
    }

    #[test]
    fn short_rentals_begin_behind_what_they_never_had() {
        assert_eq!(ahead(9 * MINUTE), 0);
        assert_eq!(ahead(10 * MINUTE), 0);
        assert_eq!(ahead(10 * MINUTE + 1), 1);
        assert_eq!(ahead(3 * 60 * MINUTE), 2);
        assert_eq!(ahead(30 * 24 * 60 * MINUTE), 3);
    }

    #[test]
    fn a_forecast_that_wavers_is_told_once() {
        let mut ahead = 1;
        let mut told = 0;
        for left_ms in [
            11 * MINUTE,
            10 * MINUTE,
            10 * MINUTE + 500,
            9 * MINUTE,
            10 * MINUTE + 900,
        ] {
            let verdict = judge(ahead, left_ms, true);
            told += usize::from(verdict.tell_ms.is_some());
            ahead = verdict.ahead;
            assert!(verdict.look_in_ms <= FORECAST_MS);
        }
        assert_eq!((told, ahead), (1, 0));
        // much more is another matter
        assert_eq!(judge(0, 20 * MINUTE, true).ahead, 1);
    }

    #[test]
    fn it_is_looked_at_when_the_next_threshold_comes() {
        assert_eq!(judge(2, 70 * MINUTE, false).look_in_ms, 10 * MINUTE);
        assert_eq!(judge(1, 10 * MINUTE + 7, false).look_in_ms, 7);
        assert_eq!(judge(0, 5 * MINUTE, false).look_in_ms, FAR_MS);
    }
}
