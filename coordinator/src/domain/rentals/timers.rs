//! What time does to rentals: leases move on, paid time ends, balances extend, reservations lapse.
//!
//! # Invariants
//! - Each step looks at the state of things and may run twice; one rental's failure doesn't stop the others' turn.

use shared::{id::RentalId, money::Money, time::Timestamp};

use super::{
    Desk, Rules, announce, buy,
    buy::Sale,
    changes,
    deadlines::{self, Overdue},
    find,
    model::{Rental, State},
    order, save, spending, store,
};
use crate::{context::OpCtx, error::Result, store::Tx};

/// Rentals that one pass looks at.
pub const BATCH: i64 = 200;

/// What a pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Leases moved on.
    pub leases: usize,
    /// Rentals extended from a balance.
    pub extended: usize,
    /// Rentals told to stop.
    pub stopped: usize,
    /// Rentals given up with their node.
    pub lost: usize,
    /// Reservations lapsed.
    pub lapsed: usize,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.leases += other.leases;
        self.extended += other.extended;
        self.stopped += other.stopped;
        self.lost += other.lost;
        self.lapsed += other.lapsed;
    }
}

/// The first place in the order of what is due: (moment, id).
#[must_use]
pub fn beginning() -> (Timestamp, String) {
    (Timestamp::from_micros(i64::MIN), String::new())
}

/// Active rentals whose leases may be due to be moved, after a place in the order of their ends; the caller pages, so that
/// rentals of silent nodes don't keep the others waiting.
///
/// # Errors
/// The database's.
pub fn leases_ending(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    after: &(Timestamp, String),
) -> Result<Vec<Rental>> {
    let reach_ms = rules
        .horizon_ms
        .saturating_sub(rules.lease_step_ms)
        .max(rules.horizon_ms / 2);
    let soon = ctx.now.plus_ms(reach_ms.saturating_add(1));
    store::leases_ending(tx, soon, (after.0, &after.1), BATCH)
}

/// Moves one rental's lease, after extending it from the balance if it asks for that. Safe to repeat.
///
/// # Errors
/// The database's; 503 if the rental was written meanwhile.
pub fn move_lease(tx: &mut dyn Tx, ctx: &OpCtx, desk: &Desk, id: RentalId) -> Result<Done> {
    let rules = &desk.rules;
    let mut done = Done::default();
    let mut rental = find(tx, id)?;
    if wants_extension(&rental, ctx, rules) && extend_from_balance(tx, ctx, desk, &rental)? {
        done.extended = 1;
        rental = find(tx, id)?;
    }
    let until = deadlines::extended_lease(&rental, ctx.now, rules.horizon_ms, rules.lease_step_ms);
    if let Some(lease_until) = until {
        save(
            tx,
            &Rental {
                lease_until,
                ..rental
            },
        )?;
        done.leases = 1;
    }
    Ok(done)
}

fn wants_extension(rental: &Rental, ctx: &OpCtx, rules: &Rules) -> bool {
    let ends = rental.paid_until();
    rental.auto_extend
        && rental.state == State::Active
        && ends.is_some_and(|until| until.ms_since(ctx.now) < rules.grace_ms)
}

/// From the balance that it was bought from, as far as that and the rental's own limit allow, one step at most; false if that is nothing: the rental then ends as out of
/// funds, unless the balance is filled before.
fn extend_from_balance(tx: &mut dyn Tx, ctx: &OpCtx, desk: &Desk, rental: &Rental) -> Result<bool> {
    let step_ms = spending::funds(tx, desk, rental, ctx.now)?.step_ms;
    let Some(consumer) = rental.consumer.filter(|_| step_ms > 0) else {
        return Ok(false);
    };
    let amount = order::extension_price(rental, step_ms)?;
    let sale = Sale {
        rental: rental.id,
        price: Money {
            amount,
            currency: rental.asset,
        },
        part: format!("auto:{}", rental.duration_ms),
    };
    buy::pay(
        tx,
        ctx,
        &desk.rates,
        (consumer, rental.balance_asset),
        &sale,
    )?;
    changes::extend(tx, ctx, &desk.rules, rental.id, step_ms, amount)?;
    Ok(true)
}

/// Rentals that time ends, after an id, and the id to go on after.
///
/// # Errors
/// The database's.
pub fn overdue(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    after: &str,
    nodes_can_report: bool,
) -> Result<(Vec<RentalId>, Option<String>)> {
    let live = store::live(tx, after, BATCH)?;
    let more = i64::try_from(live.len()).is_ok_and(|count| count == BATCH);
    let next = live
        .last()
        .filter(|_| more)
        .map(|rental| rental.id.to_string());
    let due = live
        .iter()
        .filter(|rental| deadlines::overdue(rental, ctx.now, nodes_can_report).is_some())
        .map(|rental| rental.id);
    Ok((due.collect(), next))
}

/// Stops one rental if it is over, gives it up if its node is lost. Safe to repeat.
///
/// # Errors
/// The database's; 503 if the rental was written meanwhile.
pub fn end_if_overdue(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: RentalId,
    nodes_can_report: bool,
) -> Result<Done> {
    let mut done = Done::default();
    let rental = find(tx, id)?;
    match deadlines::overdue(&rental, ctx.now, nodes_can_report) {
        None | Some(Overdue::Lapse) => {}
        Some(Overdue::Stop(reason)) => {
            changes::stop(tx, ctx, &rental, reason)?;
            done.stopped = 1;
        }
        Some(Overdue::Finish(reason)) => {
            let why = "its node didn't answer for longer than its lease";
            changes::finish(tx, ctx, &rental, reason, why)?;
            done.lost = 1;
        }
    }
    Ok(done)
}

/// Reservations that weren't paid in time, after a place in the order of their ends; the caller ends their payments with them.
///
/// # Errors
/// The database's.
pub fn lapsed(tx: &mut dyn Tx, ctx: &OpCtx, after: &(Timestamp, String)) -> Result<Vec<Rental>> {
    store::lapsed(tx, ctx.now, (after.0, &after.1), BATCH)
}

/// Says that a rental's money is split for good.
///
/// # Errors
/// As [`save`].
pub fn announce_settled(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental) -> Result<()> {
    announce(tx, ctx, rental, "rental.settled")
}
