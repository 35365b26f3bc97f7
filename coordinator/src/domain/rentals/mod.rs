//! Rentals: from an order over its payment and its life on a node to its end.
//!
//! By verb: [`order`] (price, reserve), [`buy`] (from a balance), [`changes`] (activate, extend, stop, finish), [`observe`] (what nodes
//! report), [`desired`] (what nodes must run), [`timers`] (what time does), [`upkeep`] (what
//! becomes of its node), [`purchase`] (paying by x402), [`check`] (invariants).
//!
//! # Invariants
//! - A live rental holds its capacity; it is given back in the transaction that ends it.
//! - Whatever changes what a node must run bumps that node's generation in the same transaction.
//! - Each write is guarded by the version that was read.
//! - A rental is seen by whoever rents it, by its provider, by its token's holder and by admins; for others it doesn't exist.

pub mod alerts;
pub mod api;
pub mod buy;
pub mod changes;
pub mod check;
pub mod deadlines;
pub mod desired;
pub mod fold;
pub mod model;
pub mod observe;
pub mod order;
pub mod purchase;
pub mod spec;
pub mod spending;
pub mod state;
mod store;
#[cfg(test)]
mod tests;
pub mod timers;
pub mod upkeep;

use std::sync::Arc;

use model::Rental;
use shared::{
    id::{NodeId, RentalId, UserId},
    money::{Money, Rate},
    time::Timestamp,
};

use super::{
    events::{self, Event},
    ledger::model::{Account, Purse},
    payments,
    rates::Rates,
};
use crate::{
    context::{Actor, OpCtx},
    error::{Error, Result},
    store::{StoreError, Tx},
};

/// The market's rules for rentals.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The platform's share, basis points.
    pub fee_bps: u32,
    /// How far a lease reaches ahead.
    pub horizon_ms: i64,
    /// In which steps a lease is moved.
    pub lease_step_ms: i64,
    /// How long a quote holds.
    pub quote_ttl_ms: i64,
    /// The shortest rental.
    pub min_duration_ms: i64,
    /// The longest rental.
    pub max_duration_ms: i64,
    /// How long before its paid end a rental is extended from a balance, or said to be out of funds.
    pub grace_ms: i64,
}

/// What selling for money on a balance goes by: the market's rules, and what one currency costs in another.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The rules.
    pub rules: Rules,
    /// The rates.
    pub rates: Arc<Rates>,
}

/// A rental that the caller may see.
///
/// # Errors
/// 404.
pub fn get(tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId) -> Result<Rental> {
    let rental = find(tx, id)?;
    let visible = match &ctx.actor {
        Actor::User(_) | Actor::ApiKey(_) => {
            let person = ctx.user()?.id;
            rental.consumer == Some(person) || rental.provider == person || ctx.is_admin()
        }
        Actor::RentalToken(token) => *token == id,
        Actor::Wallet(wallet) => rental.is_of_wallet(wallet),
        Actor::System => true,
        Actor::Anonymous | Actor::SshKey(_) | Actor::Node(_) => false,
    };
    if visible {
        Ok(rental)
    } else {
        Err(Error::not_found("rental"))
    }
}

/// A rental that the caller pays for: its consumer, or its token's holder, or an admin.
///
/// # Errors
/// 404.
pub fn get_as_consumer(tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId) -> Result<Rental> {
    let rental = get(tx, ctx, id)?;
    let pays = match &ctx.actor {
        Actor::User(_) | Actor::ApiKey(_) => {
            rental.consumer == Some(ctx.user()?.id) || ctx.is_admin()
        }
        // it sees no others
        Actor::RentalToken(_) | Actor::Wallet(_) | Actor::System => true,
        Actor::Anonymous | Actor::SshKey(_) | Actor::Node(_) => false,
    };
    if pays {
        Ok(rental)
    } else {
        Err(Error::not_found("rental"))
    }
}

/// A rental that the caller rents themselves: by their account, or by the wallet that paid without one.
///
/// # Errors
/// 404, for administrators too.
pub fn get_as_renter(tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId) -> Result<Rental> {
    let rental = find(tx, id)?;
    let rents = match &ctx.actor {
        Actor::Wallet(wallet) => rental.is_of_wallet(wallet),
        actor => actor
            .person()
            .is_some_and(|person| rental.consumer == Some(person.id)),
    };
    if rents {
        Ok(rental)
    } else {
        Err(Error::not_found("rental"))
    }
}

/// A rental, for other slices.
///
/// # Errors
/// 404.
pub fn find(tx: &mut dyn Tx, id: RentalId) -> Result<Rental> {
    store::by_id(tx, id)?.ok_or_else(|| Error::not_found("rental"))
}

/// Whether nothing will be billed for a rental any more: it is settled, or there is none.
///
/// # Errors
/// The database's.
pub fn is_settled(tx: &mut dyn Tx, id: RentalId) -> Result<bool> {
    Ok(store::by_id(tx, id)?.is_none_or(|rental| rental.settled_at.is_some()))
}

/// From which side a caller looks at their rentals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What they rent.
    Consumer,
    /// What runs on their nodes.
    Provider,
    /// Everything; admins only.
    Everybody,
}

/// The caller's rentals, newest first, older than `before`.
///
/// # Errors
/// Not signed in; not an admin for [`Side::Everybody`].
pub fn list(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    side: Side,
    before: Option<RentalId>,
    limit: i64,
) -> Result<Vec<Rental>> {
    if let Actor::RentalToken(id) = ctx.actor {
        return Ok(if before.is_none() {
            vec![find(tx, id)?]
        } else {
            Vec::new()
        });
    }
    // `~` sorts behind every id
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    if let Actor::Wallet(wallet) = ctx.actor {
        return store::page(tx, store::Whose::Wallet(wallet), &before, limit);
    }
    let caller = ctx.user()?.id;
    let whose = match side {
        Side::Consumer => store::Whose::Consumer(caller),
        Side::Provider => store::Whose::Provider(caller),
        Side::Everybody if ctx.is_admin() => store::Whose::Everybody,
        Side::Everybody => return Err(Error::forbidden("this needs the role admin")),
    };
    store::page(tx, whose, &before, limit)
}

/// How many rentals run or are about to.
///
/// # Errors
/// The database's.
pub fn count_active(tx: &mut dyn Tx) -> Result<i64> {
    store::count_active(tx)
}

/// Paid rentals that aren't over, after a cursor: those that are billed window by window.
///
/// # Errors
/// The database's.
pub fn running(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<Rental>> {
    store::live(tx, after, limit)
}

/// Rentals that are over and whose money isn't split yet, in the order of (end, id), after a place in it.
///
/// # Errors
/// The database's.
pub fn to_settle(tx: &mut dyn Tx, after: (Timestamp, &str), limit: i64) -> Result<Vec<Rental>> {
    store::to_settle(tx, after, limit)
}

/// Rentals that were paid and are settled, and whose invoice isn't issued yet, the longest settled first.
///
/// # Errors
/// The database's.
pub fn to_invoice(tx: &mut dyn Tx, limit: i64) -> Result<Vec<RentalId>> {
    store::invoicing::to_invoice(tx, limit)
}

/// Notes that a settled rental's invoice is issued in this transaction; false if that was before, or nothing was paid. More money for it
/// takes the note back.
///
/// # Errors
/// 503 if somebody else wrote it since.
pub fn mark_invoiced(tx: &mut dyn Tx, rental: &Rental, now: Timestamp) -> Result<bool> {
    if !store::invoicing::waits_for_invoice(tx, rental.id)? {
        return Ok(false);
    }
    if store::invoicing::mark_invoiced(tx, rental.id, rental.version, now)? {
        Ok(true)
    } else {
        Err(StoreError::Busy(format!("rental {} was written meanwhile", rental.id)).into())
    }
}

/// Rentals of a node that it must know of.
///
/// # Errors
/// The database's.
pub fn of_node(tx: &mut dyn Tx, node: NodeId) -> Result<Vec<Rental>> {
    store::desired_of(tx, node)
}

/// Writes a rental that was read in this transaction.
///
/// # Errors
/// 503 if somebody else wrote it since: nothing is lost by trying again.
pub fn save(tx: &mut dyn Tx, rental: &Rental) -> Result<Rental> {
    if store::update(tx, rental)? {
        Ok(Rental {
            version: rental.version.saturating_add(1),
            ..rental.clone()
        })
    } else {
        Err(StoreError::Busy(format!("rental {} was written meanwhile", rental.id)).into())
    }
}

/// Where money goes that is given back for a rental: to the consumer's balance, or to what is owed to the wallet that paid, by the network
/// that it paid over.
///
/// # Errors
/// Internal: it has neither.
pub fn money_goes_back_to(tx: &mut dyn Tx, rental: &Rental) -> Result<Account> {
    match (rental.consumer, &rental.payer) {
        (Some(consumer), _) => Ok(Account::UserAvailable(consumer)),
        (None, Some(payer)) => Ok(Account::PayerRefunds(Purse {
            wallet: payer.clone(),
            network: payments::networks::of_rental(tx, rental.id)?,
        })),
        (None, None) => Err(Error::corrupt("rentals", &rental.id.to_string(), "payer")),
    }
}

/// What a consumer's running rentals cost in an hour by the currency of their prices, rounded up, and how many they are.
///
/// # Errors
/// The database's.
pub fn burning(tx: &mut dyn Tx, consumer: UserId) -> Result<(Vec<Money>, i64)> {
    let (mut burns, mut running) = (Vec::new(), 0_i64);
    for (currency, rate_micro, count) in store::burning(tx, consumer)? {
        let amount = Rate::from_micro_per_hour(rate_micro)?.price_for_ms(3_600_000)?;
        burns.push(Money { amount, currency });
        running = running.saturating_add(count);
    }
    Ok((burns, running))
}

/// Tells everybody whom it concerns how a rental is.
///
/// # Errors
/// The database's.
pub fn announce(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental, kind: &'static str) -> Result<()> {
    let moment = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let facts = serde_json::json!({
        "state": rental.client_state(),
        "reason": rental.end_reason.map(model::EndReason::name),
        "detail": rental.detail,
        "phase": rental.phase,
        "started_at": moment(rental.started_at),
        "finished_at": moment(rental.finished_at),
        "paid_until": moment(rental.paid_until()),
    });
    announce_with(tx, ctx, rental, kind, facts)
}

/// Tells everybody whom it concerns.
///
/// # Errors
/// The database's.
fn announce_with(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: &Rental,
    kind: &'static str,
    facts: serde_json::Value,
) -> Result<()> {
    let event = Event {
        consumer: rental.consumer,
        provider: Some(rental.provider),
        rental: Some(rental.id),
        node: Some(rental.node_id),
        ..Event::new(kind, facts)
    };
    events::append(tx, ctx, event)
}
