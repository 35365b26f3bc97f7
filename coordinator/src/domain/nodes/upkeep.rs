//! What people want of a node in time: whether it takes rentals, until when it is emptied, when it can't be relied on; and when its
//! memory runs short.
//!
//! # Invariants
//! - A deadline exists only while a node is being drained.
//! - At most [`WINDOWS_MAX`] windows, none that is over when it is planned; whoever rents there for longer than until one begins is told.

use shared::{
    id::NodeId,
    time::Timestamp,
    wire::operator::{Maintenance, NOTE_CHARS_MAX, WINDOWS_MAX},
};

use super::{
    announce, announce_with, bounded, get, get_own,
    model::{Node, Schedulability},
    store::{self, upkeep},
};
use crate::{
    context::OpCtx,
    domain::audit::{self, Entry},
    error::{Error, Result},
    store::Tx,
};

const DAY_MS: i64 = 24 * 3_600_000;
/// The longest drain and the longest maintenance.
const LONGEST_MS: i64 = 30 * DAY_MS;
/// How far ahead maintenance may be planned.
const AHEAD_MS: i64 = 366 * DAY_MS;
/// The event of planned maintenance.
pub const MAINTENANCE_PLANNED: &str = "node.maintenance_planned";

/// Sets what people want of a node, and until when what runs there may go on.
///
/// # Errors
/// 404 for what isn't theirs, 422 for a deadline that is past or far away.
pub fn schedule(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: NodeId,
    to: Schedulability,
    deadline: Option<Timestamp>,
) -> Result<Node> {
    let node = get_own(tx, ctx, id)?;
    set_schedule(tx, ctx, &node, to, deadline)
}

/// [`schedule`] for who was let in already.
pub(super) fn set_schedule(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    node: &Node,
    to: Schedulability,
    deadline: Option<Timestamp>,
) -> Result<Node> {
    if let Some(deadline) = deadline
        && !(0..=LONGEST_MS).contains(&deadline.ms_since(ctx.now))
    {
        return Err(Error::invalid(
            "/deadline",
            "a moment from now on, at most 30 days ahead",
        ));
    }
    upkeep::set_schedule(tx, node.id, to, deadline, ctx.now)?;
    let facts = serde_json::json!({ "deadline": deadline });
    announce_with(tx, ctx, node, event_of(to), facts)?;
    let state = |of: Schedulability| serde_json::json!({ "schedulability": of.name() });
    let mut after = state(to);
    if let Some(deadline) = deadline {
        after["deadline"] = deadline.to_string().into();
    }
    let entry = Entry::of("node.scheduled", node.id);
    let entry = entry.before(state(node.schedulability)).after(after);
    audit::record(tx, ctx, entry)?;
    if to == Schedulability::Draining {
        drained(tx, ctx, node.id)?;
    }
    get(tx, node.id)
}

const fn event_of(to: Schedulability) -> &'static str {
    match to {
        Schedulability::Active => "node.uncordoned",
        Schedulability::Cordoned => "node.cordoned",
        Schedulability::Draining => "node.draining",
        Schedulability::Drained => "node.drained",
    }
}

/// Notes that a node which is being drained is empty, if it is.
///
/// # Errors
/// The database's.
pub fn drained(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<bool> {
    let empty = upkeep::drained(tx, id)?;
    if empty {
        let node = get(tx, id)?;
        announce(tx, ctx, &node, event_of(Schedulability::Drained))?;
    }
    Ok(empty)
}

/// Nodes on which nothing may run any more, in the order of (deadline, id), after a place in it.
///
/// # Errors
/// The database's.
pub fn drains_due(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<(Timestamp, NodeId)>> {
    upkeep::drains_due(tx, now, after, limit)
}

/// Nodes with planned maintenance of which whoever rents there wasn't told, after a cursor.
///
/// # Errors
/// The database's.
pub fn maintenance_to_tell(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<NodeId>> {
    upkeep::maintenance_to_tell(tx, after, limit)
}

/// Notes that whoever rents on a node is told of its maintenance in this transaction; false if that was done.
///
/// # Errors
/// The database's.
pub fn take_maintenance_to_tell(tx: &mut dyn Tx, id: NodeId) -> Result<bool> {
    upkeep::take_maintenance_to_tell(tx, id)
}

/// Plans when a node can't be relied on, in place of what was planned before.
///
/// # Errors
/// 404 for what isn't theirs, 422 for windows that can't be.
pub fn plan_maintenance(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: NodeId,
    windows: &[Maintenance],
) -> Result<Node> {
    let node = super::get_own_locked(tx, ctx, id)?;
    set_maintenance(tx, ctx, &node, windows)
}

/// [`plan_maintenance`] for who was let in already, of a node whose row is locked.
pub(super) fn set_maintenance(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    node: &Node,
    windows: &[Maintenance],
) -> Result<Node> {
    let planned = checked(windows, ctx.now)?;
    if planned == node.maintenance {
        return get(tx, node.id);
    }
    upkeep::set_maintenance(tx, node.id, &planned)?;
    let told = |windows: &[Maintenance]| serde_json::json!({ "maintenance": windows });
    announce_with(tx, ctx, node, MAINTENANCE_PLANNED, told(&planned))?;
    let entry = Entry::of(MAINTENANCE_PLANNED, node.id);
    let entry = entry.before(told(&node.maintenance)).after(told(&planned));
    audit::record(tx, ctx, entry)?;
    get(tx, node.id)
}

/// Windows as they are kept: by their beginning, without those that are over.
fn checked(windows: &[Maintenance], now: Timestamp) -> Result<Vec<Maintenance>> {
    if windows.len() > WINDOWS_MAX {
        return Err(Error::invalid(
            "/windows",
            format!("at most {WINDOWS_MAX} windows"),
        ));
    }
    let mut planned = Vec::new();
    for (at, window) in windows.iter().enumerate() {
        let wrong =
            |field: &str, why: &str| Err(Error::invalid(&format!("/windows/{at}/{field}"), why));
        let length_ms = window.ends_at.ms_since(window.starts_at);
        if !(1..=LONGEST_MS).contains(&length_ms) {
            return wrong("ends_at", "after its beginning, by at most 30 days");
        }
        if window.starts_at.ms_since(now) > AHEAD_MS {
            return wrong("starts_at", "at most 366 days ahead");
        }
        let note = bounded(&format!("/windows/{at}/note"), &window.note, NOTE_CHARS_MAX)?;
        if window.ends_at > now {
            planned.push(Maintenance {
                note,
                ..window.clone()
            });
        }
    }
    planned.sort_by_key(|window| (window.starts_at, window.ends_at));
    planned.dedup_by_key(|window| window.starts_at);
    Ok(planned)
}

/// Records that a node's memory runs short, or doesn't any more; an event only if that is news. True if it is.
///
/// # Errors
/// The database's.
pub fn observe_pressure(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    node: &Node,
    why: Option<&str>,
) -> Result<bool> {
    /// Characters of a node's words that are kept.
    const WHY_CHARS_MAX: usize = 300;
    if node.memory_pressure.is_empty() == why.is_none() {
        return Ok(false);
    }
    let why: String = why
        .unwrap_or_default()
        .chars()
        .take(WHY_CHARS_MAX)
        .collect();
    upkeep::set_pressure(tx, node.id, &why)?;
    let facts = serde_json::json!({ "pressure": !why.is_empty(), "cause": why });
    announce_with(tx, ctx, node, "node.pressure", facts)?;
    Ok(true)
}

/// [`set_maintenance`]'s lock, for who has the node already.
pub(super) fn locked(tx: &mut dyn Tx, id: NodeId) -> Result<Node> {
    store::lock(tx, id)?;
    get(tx, id)
}
