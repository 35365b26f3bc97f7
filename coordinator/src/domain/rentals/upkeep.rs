//! What becomes of a node, for the rentals on it: it is taken back, maintained, or short of memory.
//!
//! # Invariants
//! - Each step looks at the state of things and may run twice; nobody is told the same news twice.
//! - Whoever rents is told of what concerns their rental; the node's owner is told once, by `nodes`.

use shared::{
    id::{NodeId, RentalId},
    resources::OomKills,
    time::Timestamp,
};

use super::{
    announce_with, changes,
    model::{EndReason, Rental, State},
    of_node, order, store,
};
use crate::{
    context::OpCtx,
    domain::{
        events::{self, Event},
        nodes::{self, model::Node},
    },
    error::Result,
    store::Tx,
};

/// Ends what still runs on a node whose deadline has come: its provider needs the capacity, and only the time that it ran is paid. What is
/// just being paid has its turn once it is, and what was promised notice once that is over. Returns how many were told to stop.
///
/// # Errors
/// The database's; 503 if a rental was written meanwhile.
pub fn vacate(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<usize> {
    let node = nodes::get(tx, id)?;
    if node
        .drain_deadline
        .is_none_or(|deadline| deadline > ctx.now)
    {
        return Ok(0);
    }
    let mut stopped = 0;
    for rental in of_node(tx, id)? {
        if rental.state == State::Active && notice_ends(&node, &rental) <= Some(ctx.now) {
            changes::stop(tx, ctx, &rental, EndReason::Preempted)?;
            stopped += 1;
        }
    }
    nodes::drained(tx, ctx, id)?;
    Ok(stopped)
}

/// When a drained node's rental has had the notice that its offer promised, counted from the drain; `None` if that wasn't kept.
fn notice_ends(node: &Node, rental: &Rental) -> Option<Timestamp> {
    node.drain_asked_at
        .map(|asked_at| asked_at.plus_ms(rental.notice_ms))
}

/// Tells those who rent a node for longer than until planned maintenance begins. False if that was done.
///
/// # Errors
/// The database's.
pub fn tell_maintenance(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<bool> {
    if !nodes::take_maintenance_to_tell(tx, id)? {
        return Ok(false);
    }
    let node = nodes::get(tx, id)?;
    for rental in of_node(tx, id)? {
        let until = order::paid_end(&rental, ctx.now);
        let Some(window) = node.maintenance_between(ctx.now, until) else {
            continue;
        };
        let facts = serde_json::json!({
            "starts_at": window.starts_at,
            "ends_at": window.ends_at,
            "note": window.note,
            "paid_until": until,
        });
        tell(tx, ctx, &rental, nodes::MAINTENANCE_PLANNED, facts)?;
    }
    Ok(true)
}

/// A node's memory runs short, or doesn't any more: its owner and whoever rents there are told once.
///
/// # Errors
/// The database's.
pub fn observe_pressure(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    node: &Node,
    why: Option<&str>,
) -> Result<()> {
    if !nodes::observe_pressure(tx, ctx, node, why)? {
        return Ok(());
    }
    for rental in of_node(tx, node.id)? {
        let facts = serde_json::json!({ "pressure": why.is_some() });
        tell(tx, ctx, &rental, "node.pressure", facts)?;
    }
    Ok(())
}

/// The kernel killed processes of rentals for taking more memory than they rent: news is told, once.
///
/// # Errors
/// The database's.
pub fn observe_oom(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rentals: &[Rental],
    seen: &[OomKills],
) -> Result<()> {
    for kills in seen {
        let of = rentals.iter().find(|rental| rental.id == kills.rental_id);
        if let Some(rental) = of {
            tell_oom(tx, ctx, rental, kills.count)?;
        }
    }
    Ok(())
}

/// [`observe_oom`] of one rental.
pub(super) fn tell_oom(tx: &mut dyn Tx, ctx: &OpCtx, rental: &Rental, count: i64) -> Result<()> {
    if !store::memory::note_oom_kills(tx, rental.id, count)? {
        return Ok(());
    }
    let facts = serde_json::json!({
        "processes_killed": count,
        "ram_bytes": rental.resources.ram_bytes,
        "reason": "it took more memory than it rents",
    });
    announce_with(tx, ctx, rental, "rental.oom_killed", facts)
}

/// How often the kernel killed something of a rental for want of memory, as far as its node said.
///
/// # Errors
/// The database's.
pub fn oom_kills(tx: &mut dyn Tx, id: RentalId) -> Result<i64> {
    store::memory::oom_kills(tx, id)
}

/// Nodes with planned maintenance of which whoever rents there wasn't told, after a cursor.
///
/// # Errors
/// The database's.
pub fn maintenance_to_tell(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<NodeId>> {
    nodes::maintenance_to_tell(tx, after, limit)
}

/// Nodes that are due to be empty, after a place in the order of their deadlines.
///
/// # Errors
/// The database's.
pub fn drains_due(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<(Timestamp, NodeId)>> {
    nodes::drains_due(tx, now, after, limit)
}

/// To whoever rents; the node's owner has an event of their own.
fn tell(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: &Rental,
    kind: &'static str,
    facts: serde_json::Value,
) -> Result<()> {
    let event = Event {
        consumer: rental.consumer,
        rental: Some(rental.id),
        node: Some(rental.node_id),
        ..Event::new(kind, facts)
    };
    events::append(tx, ctx, event)
}
