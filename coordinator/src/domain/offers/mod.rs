//! Offers: created, changed, paused and deleted by providers; found by everybody.
//!
//! # Invariants
//! - Only a node's owner makes offers of it, at most [`OFFERS_PER_NODE_MAX`].
//! - Search never reads the database: it reads the [`index`], which changes feed.

pub mod api;
pub mod index;
pub mod model;
mod query;
mod store;
#[cfg(test)]
mod tests;
mod view;

use model::{Listing, Offer, OfferState, Terms};
use shared::{
    id::{NodeId, OfferId},
    money::UnitPrices,
    time::Timestamp,
};

use super::{
    audit::{self, Entry},
    events::{self, Event},
    nodes,
};
use crate::{
    context::{OpCtx, Role},
    error::{Error, Result},
    store::Tx,
};

/// How many offers one node may have.
pub const OFFERS_PER_NODE_MAX: i64 = 16;

/// Makes an offer of a node.
///
/// # Errors
/// 404 if the node isn't the caller's, 409 with too many offers, 422 out of bounds.
pub fn create(tx: &mut dyn Tx, ctx: &OpCtx, node_id: NodeId, terms: &Terms) -> Result<Offer> {
    let owner = ctx.user_with(Role::Provider)?.id;
    terms.check()?;
    let node = nodes::get_own(tx, ctx, node_id)?;
    if node.owner != owner {
        return Err(Error::not_found("node"));
    }
    if store::count_of_node(tx, node_id)? >= OFFERS_PER_NODE_MAX {
        return Err(Error::conflict(
            "too_many_offers",
            "a node has at most 16 offers: delete one first",
        ));
    }
    let offer = Offer {
        id: ctx.mint(),
        node_id,
        owner,
        state: OfferState::Active,
        terms: terms.clone(),
        version: 1,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    store::insert(tx, &offer)?;
    store::note_prices(tx, &offer)?;
    announce(tx, ctx, &offer, "offer.created")?;
    let entry = Entry::of("offer.created", offer.id);
    audit::record(tx, ctx, entry.after(told(&offer)))?;
    Ok(offer)
}

/// An offer that isn't deleted.
///
/// # Errors
/// 404.
pub fn get(tx: &mut dyn Tx, id: OfferId) -> Result<Offer> {
    store::by_id(tx, id)?
        .filter(|offer| offer.state != OfferState::Deleted)
        .ok_or_else(|| Error::not_found("offer"))
}

/// An offer, deleted or not: what was rented under it goes on.
///
/// # Errors
/// 404.
pub fn get_any(tx: &mut dyn Tx, id: OfferId) -> Result<Offer> {
    store::by_id(tx, id)?.ok_or_else(|| Error::not_found("offer"))
}

/// What an offer that isn't deleted cost, the newest first, before a moment.
///
/// # Errors
/// 404.
pub fn price_history(
    tx: &mut dyn Tx,
    id: OfferId,
    before: Timestamp,
    limit: i64,
) -> Result<Vec<(Timestamp, UnitPrices)>> {
    get(tx, id)?;
    store::prices(tx, id, before, limit)
}

/// What an owner may change; `None` keeps.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// New terms, made of the old ones.
    pub terms: Option<Terms>,
    /// Active, paused or deleted.
    pub state: Option<OfferState>,
}

/// Changes an offer. Running rentals keep their price.
///
/// # Errors
/// 404 if it isn't the caller's, 422 out of bounds, 409 if it was changed in between.
pub fn change(tx: &mut dyn Tx, ctx: &OpCtx, id: OfferId, change: &Change) -> Result<Offer> {
    let old = get_own(tx, ctx, id)?;
    let terms = change.terms.clone().unwrap_or_else(|| old.terms.clone());
    terms.check()?;
    let offer = Offer {
        terms,
        state: change.state.unwrap_or(old.state),
        version: old.version.saturating_add(1),
        updated_at: ctx.now,
        ..old.clone()
    };
    if !store::update(tx, &offer, old.version)? {
        return Err(changed_meanwhile());
    }
    if offer.terms.prices != old.terms.prices {
        store::note_prices(tx, &offer)?;
    }
    announce(tx, ctx, &offer, "offer.changed")?;
    let entry = Entry::of("offer.changed", id);
    audit::record(tx, ctx, entry.before(told(&old)).after(told(&offer)))?;
    Ok(offer)
}

fn changed_meanwhile() -> Error {
    Error::conflict(
        "changed_meanwhile",
        "somebody changed this offer in between: read it again",
    )
}

/// An offer of the caller's, or any for an admin.
///
/// # Errors
/// 404.
pub fn get_own(tx: &mut dyn Tx, ctx: &OpCtx, id: OfferId) -> Result<Offer> {
    let caller = ctx.user()?.id;
    let offer = get(tx, id)?;
    if offer.owner == caller || ctx.is_admin() {
        Ok(offer)
    } else {
        Err(Error::not_found("offer"))
    }
}

/// The caller's own offers, paused ones included, after a cursor.
///
/// # Errors
/// Not signed in.
pub fn list_own(tx: &mut dyn Tx, ctx: &OpCtx, after: &str, limit: i64) -> Result<Vec<Listing>> {
    let owner = ctx.user()?.id;
    let offers = store::of_owner(tx, owner, after, limit)?;
    offers.into_iter().map(|offer| listing(tx, offer)).collect()
}

/// A page of listings for the index.
///
/// # Errors
/// The database's.
pub fn listings(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<Listing>> {
    let offers = store::alive(tx, after, limit)?;
    offers.into_iter().map(|offer| listing(tx, offer)).collect()
}

/// The listings of one node, for the index.
///
/// # Errors
/// The database's.
pub fn listings_of_node(tx: &mut dyn Tx, node: NodeId) -> Result<Vec<Listing>> {
    let offers = store::of_node(tx, node)?;
    offers.into_iter().map(|offer| listing(tx, offer)).collect()
}

/// An offer with its node's facts.
///
/// # Errors
/// The database's.
pub fn listing(tx: &mut dyn Tx, offer: Offer) -> Result<Listing> {
    let node = nodes::get(tx, offer.node_id)?;
    let ram_free_bytes = node.free.ram_bytes.min(offer.terms.max_ram_bytes);
    let cpu_free_millis = node.free.cpu_millis.min(offer.terms.max_cpu_millis);
    let gpus_whole = nodes::model::rentable_max(&node.inventory).gpu_count;
    let region = if offer.terms.region.is_empty() {
        node.region.clone()
    } else {
        offer.terms.region.clone()
    };
    Ok(Listing {
        available: offer.state == OfferState::Active
            && node.takes_rentals()
            && node.gives_network(offer.terms.internet),
        online: node.availability == nodes::model::Availability::Online,
        ram_free_bytes,
        cpu_free_millis,
        gpus_free: node
            .free
            .gpu_count
            .min(offer.terms.max_gpus)
            .min(gpus_whole),
        disk_free_bytes: node.free_disk_bytes().min(offer.terms.max_disk_bytes),
        ram_rentable_bytes: node.rentable.ram_bytes,
        cpu_model: node.inventory.cpu_model,
        gpu_models: node
            .inventory
            .gpus
            .into_iter()
            .map(|gpu| gpu.model)
            .collect(),
        region,
        disk_means: node.inventory.rental_disk.map(|disk| disk.means),
        isolation: node.inventory.isolation,
        image_bytes_per_second: node
            .inventory
            .images
            .and_then(|images| images.pull_bytes_per_s),
        offer,
    })
}

/// What the audit log tells of an offer.
fn told(offer: &Offer) -> serde_json::Value {
    let terms = &offer.terms;
    serde_json::json!({
        "internet": terms.internet,
        "node_id": offer.node_id,
        "state": offer.state.name(),
        "asset": terms.asset.code(),
        "ram_gib_hour": terms.prices.ram_gib_hour,
        "cpu_hour": terms.prices.cpu_hour,
        "gpu_hour": terms.prices.gpu_hour,
        "disk_gib_hour": terms.prices.disk_gib_hour,
        "max_ram_bytes": terms.max_ram_bytes,
        "max_cpu_millis": terms.max_cpu_millis,
        "max_gpus": terms.max_gpus,
        "max_disk_bytes": terms.max_disk_bytes,
        "min_duration_ms": terms.min_duration_ms,
        "max_duration_ms": terms.max_duration_ms,
        "notice_ms": terms.notice_ms,
        "region": terms.region,
    })
}

fn announce(tx: &mut dyn Tx, ctx: &OpCtx, offer: &Offer, kind: &'static str) -> Result<()> {
    let event = Event {
        provider: Some(offer.owner),
        node: Some(offer.node_id),
        ..Event::new(kind, serde_json::json!({ "offer_id": offer.id }))
    };
    events::append(tx, ctx, event)
}

/// A place among prices by age: since when, and of which offer.
pub type PricePlace = (Timestamp, String);

/// Before all prices.
#[must_use]
pub const fn first_price() -> PricePlace {
    (Timestamp::from_micros(i64::MIN), String::new())
}

/// Forgets what offers cost before a moment, but for the last price of each before it: what one cost since then stays known. Looks
/// at up to `limit` prices after a place; returns how many went, and where to go on.
///
/// # Errors
/// The database's.
pub fn forget_prices(
    tx: &mut dyn Tx,
    before: Timestamp,
    after: &PricePlace,
    limit: i64,
) -> Result<(u64, Option<PricePlace>)> {
    let mut old = store::prices_before(tx, before, after, limit)?;
    let mut gone = 0_u64;
    for place in &old {
        gone = gone.saturating_add(store::forget_price(tx, place, before)?);
    }
    Ok((gone, old.pop()))
}
