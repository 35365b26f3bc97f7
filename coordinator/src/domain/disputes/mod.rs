//! Disputes: whoever rents says that it isn't what they paid for, the meter stops, both parties speak, an administrator decides, and the
//! ledger follows.
//!
//! # Invariants
//! - A rental is reported at most once, and the dispute is decided once; both by the rows' keys and guards.
//! - Nothing of a rental is billed beyond the moment of its report ([`billed_until`]).
//! - The evidence is gathered in the transaction of the report and never changes (a trigger).
//! - A decision moves money once (its causes are the dispute's id), never makes an account negative, and never gives back more than was
//!   charged.
//! - While a dispute is open, the provider's part of the rental isn't released ([`is_open`], asked by `settlement::release`).

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

pub mod api;
pub mod check;
mod evidence;
pub mod given_back;
mod letters;
pub mod model;
mod store;
#[cfg(test)]
mod tests;

use serde_json::json;
use shared::{
    id::{DisputeId, RentalId},
    money::Amount,
    time::Timestamp,
};

use self::{
    given_back::{GivenBack, Kind},
    model::{
        Author, Dispute, Happening, Outcome, Parts, Reason, STATEMENTS_MAX, State, Statement,
        Wanted,
    },
};
use super::{
    audit::{self, Entry},
    earnings,
    events::{self, Event},
    ledger::{
        self,
        model::{Account, Cause, DisputePart, Posting},
    },
    mail::Postbox,
    rentals::{
        self, changes,
        model::{EndReason, Rental, State as RentalState},
    },
};
use crate::{
    context::{Actor, OpCtx, Role},
    error::{Error, Result},
    store::{StoreError, Tx},
};

/// What is reported.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of which rental.
    pub rental: RentalId,
    /// What is wrong.
    pub reason: Reason,
    /// In words, as [`model::statement`] passed them.
    pub statement: String,
}

/// Reports a rental: its meter stops now, and it is told to stop. Reporting it again finds the dispute (`false`).
///
/// # Errors
/// 404; 403 for whoever doesn't rent it; 409 if it can't be reported (any more), or the dispute is decided.
pub fn report(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    report: &Report,
    window_ms: i64,
) -> Result<(Dispute, bool)> {
    let rental = rentals::get_as_consumer(tx, ctx, report.rental)?;
    if author(ctx, &rental)? != Author::Consumer {
        return Err(Error::forbidden("only whoever rents it reports it"));
    }
    if let Some(known) = store::of_rental(tx, rental.id)? {
        known.state().next(Happening::Report)?;
        return Ok((known, false));
    }
    model::reportable(&rental, ctx.now, window_ms)?;
    let dispute = Dispute {
        id: ctx.mint(),
        rental: rental.id,
        consumer: rental.consumer,
        provider: rental.provider,
        reason: report.reason,
        statement: report.statement.clone(),
        evidence: evidence::gather(tx, ctx, &rental)?,
        reported_at: ctx.now,
        outcome: None,
    };
    if !store::insert(tx, &dispute)? {
        return Err(StoreError::Busy(format!("{} was reported meanwhile", rental.id)).into());
    }
    // whoever bills it at this moment writes its row too: one of the two tries again and sees the other
    if rental.state == RentalState::Active {
        changes::stop(tx, ctx, &rental, EndReason::Reported)?;
    } else {
        rentals::save(tx, &rental)?;
    }
    announce(tx, ctx, &dispute, &rental, "dispute.opened")?;
    letters::reported(tx, ctx, postbox, &dispute)?;
    Ok((dispute, true))
}

/// Adds a statement of the caller's to an open dispute.
///
/// # Errors
/// 404; 409 when it is decided, or the party has said enough.
pub fn say(tx: &mut dyn Tx, ctx: &OpCtx, id: DisputeId, text: &str) -> Result<Statement> {
    let (dispute, said) = get(tx, ctx, id)?;
    dispute.state().next(Happening::Say)?;
    let rental = rentals::find(tx, dispute.rental)?;
    let author = author(ctx, &rental)?;
    let own = said.iter().filter(|one| one.author == author).count();
    if i64::try_from(own).is_ok_and(|own| own >= STATEMENTS_MAX) {
        return Err(Error::conflict(
            "too_many_statements",
            format!("each party adds at most {STATEMENTS_MAX} statements: wait for the decision"),
        ));
    }
    let statement = Statement {
        place: said.last().map_or(1, |last| last.place.saturating_add(1)),
        author,
        text: text.to_owned(),
        at: ctx.now,
    };
    if !store::insert_statement(tx, id, &statement)? {
        return Err(StoreError::Busy(format!("another statement about {id} came first")).into());
    }
    announce(tx, ctx, &dispute, &rental, "dispute.statement")?;
    Ok(statement)
}

/// Which party the caller is.
fn author(ctx: &OpCtx, rental: &Rental) -> Result<Author> {
    // whoever has no account sees what they rent and nothing else
    let rents = match &ctx.actor {
        Actor::RentalToken(id) => Some(*id == rental.id),
        Actor::Wallet(wallet) => Some(rental.is_of_wallet(wallet)),
        _ => None,
    };
    match rents {
        Some(true) => return Ok(Author::Consumer),
        Some(false) => return Err(Error::not_found("dispute")),
        None => {}
    }
    let person = ctx.user()?.id;
    if rental.consumer == Some(person) {
        Ok(Author::Consumer)
    } else if rental.provider == person {
        Ok(Author::Provider)
    } else if ctx.is_admin() {
        Ok(Author::Admin)
    } else {
        Err(Error::not_found("dispute"))
    }
}

/// A dispute and what was said, for its parties and administrators.
///
/// # Errors
/// 404.
pub fn get(tx: &mut dyn Tx, ctx: &OpCtx, id: DisputeId) -> Result<(Dispute, Vec<Statement>)> {
    let dispute = store::by_id(tx, id)?.ok_or_else(|| Error::not_found("dispute"))?;
    let rental = rentals::find(tx, dispute.rental)?;
    author(ctx, &rental)?;
    let said = store::statements(tx, id)?;
    Ok((dispute, said))
}

/// Whose disputes are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// About what the caller rents.
    Consumer,
    /// About what runs on their machines.
    Provider,
    /// All of a state; for administrators.
    In(State),
}

/// Disputes, newest first, older than `before`.
///
/// # Errors
/// 401 for nobody, 403 for all of a state without the role.
pub fn list(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    side: Side,
    before: Option<DisputeId>,
    limit: i64,
) -> Result<Vec<Dispute>> {
    if let Actor::RentalToken(rental) = ctx.actor {
        let own = store::of_rental(tx, rental)?;
        return Ok(own.into_iter().filter(|_| before.is_none()).collect());
    }
    let whose = match side {
        Side::Consumer => store::Whose::Consumer(ctx.user()?.id),
        Side::Provider => store::Whose::Provider(ctx.user()?.id),
        Side::In(state) => {
            ctx.user_with(Role::Admin)?;
            store::Whose::In(state)
        }
    };
    // `~` sorts behind every id
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    store::page(tx, whose, &before, limit)
}

/// Until when a rental may be billed, if it was reported.
///
/// # Errors
/// The database's.
pub fn billed_until(tx: &mut dyn Tx, rental: RentalId) -> Result<Option<Timestamp>> {
    Ok(store::reported(tx, rental)?.map(|(at, _)| at))
}

/// Whether a rental's dispute isn't decided yet: its provider's part must not be released.
///
/// # Errors
/// The database's.
pub fn is_open(tx: &mut dyn Tx, rental: RentalId) -> Result<bool> {
    Ok(store::reported(tx, rental)?.is_some_and(|(_, open)| open))
}

/// An administrator decides: what is given back comes from the provider's part and the fee as they were charged, and, as goodwill, from
/// the platform's fees where the provider has it no more.
///
/// # Errors
/// 401 or 403 for anybody else, and for whoever is a party; 404; 409 when it is decided, the rental isn't settled yet, or the fees don't
/// cover it; 422 for more than was charged.
pub fn decide(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    id: DisputeId,
    wanted: &Wanted,
    reason: &str,
) -> Result<Dispute> {
    let admin = ctx.user_with(Role::Admin)?.id;
    let dispute = store::by_id(tx, id)?.ok_or_else(|| Error::not_found("dispute"))?;
    dispute.state().next(Happening::Decide)?;
    if [dispute.consumer, Some(dispute.provider)].contains(&Some(admin)) {
        return Err(Error::forbidden("nobody decides on their own dispute"));
    }
    let rental = rentals::find(tx, dispute.rental)?;
    if rental.settled_at.is_none() {
        return Err(Error::conflict(
            "dispute_not_settled",
            "the rental is still being stopped and billed: decide once it is settled",
        )
        .retry_after_s(30));
    }
    let left = given_back::left(tx, &rental)?;
    let refund = wanted.amount(&rental, rental.charged.minus(left)?)?;
    let parts = give_back(tx, ctx, id, &rental, refund)?;
    let given = GivenBack {
        reference: id.to_string(),
        rental: rental.id,
        kind: Kind::Dispute,
        parts,
        reason: reason.to_owned(),
        at: ctx.now,
    };
    given_back::note(tx, &given)?;
    let outcome = Outcome {
        refund,
        reason: reason.to_owned(),
        decided_by: admin,
        decided_at: ctx.now,
    };
    if !store::decide(tx, id, &outcome)? {
        return Err(StoreError::Busy(format!("{id} was decided meanwhile")).into());
    }
    let decided = Dispute {
        outcome: Some(outcome.clone()),
        ..dispute
    };
    announce(tx, ctx, &decided, &rental, "dispute.decided")?;
    letters::decided(tx, ctx, postbox, &decided, &outcome, rental.asset.code())?;
    let entry = Entry::of("dispute.decided", id)
        .before(json!({ "state": State::Open.name() }))
        .after(json!({
            "state": State::Decided.name(), "rental": rental.id, "refund": refund, "currency": rental.asset,
            "of_provider": parts.of_provider, "of_fee": parts.of_fee, "goodwill": parts.goodwill,
        }))
        .reason(reason);
    audit::record(tx, ctx, entry)?;
    Ok(decided)
}

/// Posts what is given back; returns who bore it.
fn give_back(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: DisputeId,
    rental: &Rental,
    refund: Amount,
) -> Result<Parts> {
    let provider = Account::ProviderAvailable(rental.provider);
    let earned = earnings::of_rental(tx, rental.id)?;
    let pending = earned.map_or(Ok(Amount::ZERO), |earned| earned.pending())?;
    let has = ledger::balance(tx, rental.asset, &provider)?.plus(pending)?;
    let parts = model::parts(refund, rental.charged, rental.fee, has)?;
    let fees = ledger::balance(tx, rental.asset, &Account::PlatformFees)?;
    if parts.of_fee.plus(parts.goodwill)? > fees {
        return Err(Error::conflict(
            "dispute_uncovered",
            format!(
                "the provider has {has} of it left and the platform's fees hold {fees}: give back less, or wait for more fees"
            ),
        ));
    }
    let to = rentals::money_goes_back_to(tx, rental)?;
    let of_pending = parts.of_provider.min(pending);
    if !of_pending.is_zero() {
        let cause = Cause::Dispute(id, DisputePart::Pending);
        earnings::take_back(tx, ctx, rental.id, of_pending, to.clone(), cause)?;
    }
    let of_available = parts.of_provider.minus(of_pending)?;
    for (debit, amount, part) in [
        (provider, of_available, DisputePart::Available),
        (Account::PlatformFees, parts.of_fee, DisputePart::Fee),
        (Account::PlatformFees, parts.goodwill, DisputePart::Goodwill),
    ] {
        let posting = Posting {
            asset: rental.asset,
            debit,
            credit: to.clone(),
            amount,
            cause: Cause::Dispute(id, part),
        };
        ledger::post(tx, ctx, &posting)?;
    }
    Ok(parts)
}

fn announce(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    dispute: &Dispute,
    rental: &Rental,
    kind: &'static str,
) -> Result<()> {
    let event = Event {
        consumer: dispute.consumer,
        provider: Some(dispute.provider),
        rental: Some(dispute.rental),
        node: Some(rental.node_id),
        ..Event::new(
            kind,
            json!({
                "dispute_id": dispute.id,
                "state": dispute.state().name(),
                "reason": dispute.reason.name(),
                "reported_at": dispute.reported_at,
                "refund": dispute.outcome.as_ref().map(|outcome| outcome.refund),
                "currency": rental.asset,
            }),
        )
    };
    events::append(tx, ctx, event)
}
