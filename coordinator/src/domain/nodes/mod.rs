//! Nodes: enrolment, capacity, what people want of them, what is observed.
//!
//! # Invariants
//! - A token enrols one node, once; the same key with the same token gets the same answer again.
//! - Capacity is taken and given by guarded statements only: free never leaves 0 ≤ free ≤ rentable.
//! - A change of what a node must run bumps its generation in the same transaction.

pub mod api;
pub mod blocklists;
mod capacity;
mod enrolment;
pub mod model;
mod store;

pub use capacity::{Resize, give, has_room, take};
pub use enrolment::{TOKEN_TTL_MS, add_token, check_inventory, enroll};

use model::{Availability, Flag, Lifecycle, Node, Schedulability};
use shared::{
    id::{NodeId, UserId},
    resources::Inventory,
    sign::PublicKey,
};

use super::{
    audit::{self, Entry},
    events::{self, Event},
};
use crate::{
    context::OpCtx,
    error::{Error, Result},
    store::Tx,
};

const NAME_CHARS_MAX: usize = 100;
const REGION_CHARS_MAX: usize = 40;

fn bounded(pointer: &str, text: &str, chars_max: usize) -> Result<String> {
    let text = text.trim();
    if text.chars().count() > chars_max || text.chars().any(char::is_control) {
        return Err(Error::invalid(
            pointer,
            format!("at most {chars_max} characters, none of them a control character"),
        ));
    }
    Ok(text.to_owned())
}

/// [`get_own`], and nobody else changes the node until the end of this transaction.
///
/// # Errors
/// 404 for what isn't theirs.
pub fn get_own_locked(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<Node> {
    get_own(tx, ctx, id)?;
    store::lock(tx, id)?;
    get_own(tx, ctx, id)
}

/// A node of the caller's, or any for an admin.
///
/// # Errors
/// 404 for what isn't theirs.
pub fn get_own(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<Node> {
    let caller = ctx.user()?.id;
    store::by_id(tx, id)?
        .filter(|node| node.owner == caller || ctx.is_admin())
        .ok_or_else(|| Error::not_found("node"))
}

/// A node, for other slices.
///
/// # Errors
/// 404 if there is none.
pub fn get(tx: &mut dyn Tx, id: NodeId) -> Result<Node> {
    store::by_id(tx, id)?.ok_or_else(|| Error::not_found("node"))
}

/// The caller's nodes after a cursor; all nodes for an admin.
///
/// # Errors
/// Not signed in.
pub fn list(tx: &mut dyn Tx, ctx: &OpCtx, after: &str, limit: i64) -> Result<Vec<Node>> {
    let owner = if ctx.is_admin() {
        None
    } else {
        Some(ctx.user()?.id)
    };
    store::page(tx, owner, after, limit)
}

/// What an owner may change of a node.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// For people.
    pub name: Option<String>,
    /// Where it stands.
    pub region: Option<String>,
    /// How much of it is rented out.
    pub rentable: Resize,
}

/// Changes a node.
///
/// # Errors
/// 404 for what isn't theirs, 422 above what was measured, 409 below what is rented.
pub fn change(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId, change: &Change) -> Result<Node> {
    let node = get_own(tx, ctx, id)?;
    let parse = |pointer, text: Option<&String>, chars_max| {
        text.map(|text| bounded(pointer, text, chars_max))
            .transpose()
    };
    let name = parse("/name", change.name.as_ref(), NAME_CHARS_MAX)?;
    let region = parse("/region", change.region.as_ref(), REGION_CHARS_MAX)?;
    store::set_names(tx, id, name.as_deref(), region.as_deref())?;
    capacity::resize(tx, &node, &change.rentable)?;
    announce(tx, ctx, &node, "node.changed")?;
    let changed = get(tx, id)?;
    let entry = Entry::of("node.changed", id);
    audit::record(tx, ctx, entry.before(told(&node)).after(told(&changed)))?;
    Ok(changed)
}

/// What the audit log tells of a node.
fn told(node: &Node) -> serde_json::Value {
    serde_json::json!({
        "name": node.name,
        "region": node.region,
        "rentable_ram_bytes": node.rentable.ram_bytes,
        "rentable_cpu_millis": node.rentable.cpu_millis,
        "rentable_gpus": node.rentable.gpu_count,
        "rentable_disk_bytes": node.rentable.disk_bytes,
        "schedulability": node.schedulability.name(),
    })
}

/// Sets what people want of a node.
///
/// # Errors
/// 404 for what isn't theirs.
pub fn schedule(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId, to: Schedulability) -> Result<Node> {
    let node = get_own(tx, ctx, id)?;
    store::set_schedulability(tx, id, to)?;
    announce(tx, ctx, &node, "node.changed")?;
    let state = |of: Schedulability| serde_json::json!({ "schedulability": of.name() });
    let entry = Entry::of("node.scheduled", id);
    let entry = entry.before(state(node.schedulability)).after(state(to));
    audit::record(tx, ctx, entry)?;
    get(tx, id)
}

/// Takes an idle node out of the market for good; its key is void from then on.
///
/// # Errors
/// 404 for what isn't theirs, 409 while rentals are on it.
pub fn retire(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<()> {
    let node = get_own(tx, ctx, id)?;
    if node.lifecycle != Lifecycle::Member {
        return Ok(());
    }
    if !store::retire(tx, id)? {
        return Err(Error::conflict(
            "capacity_in_use",
            "rentals are on this node: drain it first",
        ));
    }
    announce(tx, ctx, &node, "node.changed")?;
    audit::record(tx, ctx, Entry::of("node.retired", id).before(told(&node)))
}

/// Throws a node out of the market: its key is void. False if it is out already.
///
/// # Errors
/// 404; 409 if its owner retired it.
pub fn ban(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<bool> {
    let node = get(tx, id)?;
    if node.lifecycle == Lifecycle::Retired {
        return Err(Error::conflict(
            "node_retired",
            "its owner retired this node: its key is void already",
        ));
    }
    let banned = store::set_lifecycle(tx, id, Lifecycle::Member, Lifecycle::Banned)?;
    if banned {
        bump_generation(tx, id)?;
        announce(tx, ctx, &node, "node.banned")?;
    }
    Ok(banned)
}

/// Takes a banned node back. False if it isn't banned.
///
/// # Errors
/// 404.
pub fn unban(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId) -> Result<bool> {
    let node = get(tx, id)?;
    let back = store::set_lifecycle(tx, id, Lifecycle::Banned, Lifecycle::Member)?;
    if back {
        bump_generation(tx, id)?;
        announce(tx, ctx, &node, "node.unbanned")?;
    }
    Ok(back)
}

/// Everybody's nodes after a cursor, or one owner's; for administrators.
///
/// # Errors
/// The database's.
pub fn all(tx: &mut dyn Tx, owner: Option<UserId>, after: &str, limit: i64) -> Result<Vec<Node>> {
    store::page(tx, owner, after, limit)
}

/// The desired state of a node changed.
///
/// # Errors
/// The database's.
pub fn bump_generation(tx: &mut dyn Tx, id: NodeId) -> Result<()> {
    store::bump_generation(tx, id)
}

/// Records what beats and time say; an event only if it is news.
///
/// # Errors
/// The database's.
pub fn observe_availability(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: NodeId,
    to: Availability,
) -> Result<bool> {
    let changed = store::set_availability(tx, id, to, ctx.now)?;
    if changed {
        let node = get(tx, id)?;
        announce(tx, ctx, &node, event_of(to))?;
    }
    Ok(changed)
}

const fn event_of(availability: Availability) -> &'static str {
    match availability {
        Availability::Warming => "node.warming",
        Availability::Online => "node.online",
        Availability::Suspect => "node.suspect",
        Availability::Offline => "node.offline",
    }
}

/// Records a changed inventory.
///
/// # Errors
/// 422 for a value that no machine has.
pub fn observe_inventory(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    node: &Node,
    inventory: &Inventory,
    version: &str,
) -> Result<()> {
    check_inventory(inventory)?;
    let text = serde_json::to_string(inventory).map_err(Error::internal)?;
    let version: String = version.chars().take(NAME_CHARS_MAX).collect();
    store::set_inventory(tx, node.id, &text, &version)?;
    announce(tx, ctx, node, "node.changed")
}

/// How often the same flag of a node is noted and announced at most: a node that goes on and on can't fill the disk.
pub const FLAG_EVERY_MS: i64 = 60_000;

/// Notes that a node did what an honest one doesn't, at most once a minute for each code.
///
/// # Errors
/// The database's.
pub fn flag(tx: &mut dyn Tx, ctx: &OpCtx, node: &Node, code: &str, detail: &str) -> Result<()> {
    let unless_since = ctx.now.plus_ms(-FLAG_EVERY_MS);
    if store::flag(tx, node.id, code, detail, ctx.now, unless_since)? {
        announce(tx, ctx, node, "node.flagged")?;
    }
    Ok(())
}

/// What was noted about a node.
///
/// # Errors
/// The database's.
pub fn flags(tx: &mut dyn Tx, id: NodeId) -> Result<Vec<Flag>> {
    store::flags(tx, id)
}

/// All member nodes in pages: (id, availability).
///
/// # Errors
/// The database's.
pub fn members(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<(NodeId, Availability)>> {
    store::members(tx, after, limit)
}

/// The node that holds a key, for its requests.
///
/// # Errors
/// The database's.
pub fn by_key(tx: &mut dyn Tx, key: &PublicKey) -> Result<Option<Node>> {
    store::by_key(tx, key)
}

fn announce(tx: &mut dyn Tx, ctx: &OpCtx, node: &Node, kind: &'static str) -> Result<()> {
    let event = Event {
        provider: Some(node.owner),
        node: Some(node.id),
        ..Event::new(kind, serde_json::json!({ "name": node.name }))
    };
    events::append(tx, ctx, event)
}
