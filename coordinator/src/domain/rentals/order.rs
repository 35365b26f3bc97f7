//! Ordering: what a rental costs, and whether there is room for it.
//!
//! # Invariants
//! - The price comes from the offer at the moment of the quote and stays with the rental.
//! - Reserving is one guarded statement on the node and one row: who finds no room gets 409 and pays nothing.

use shared::{
    id::{LeaseId, OfferId, RentalId, UserId},
    image::{
        ImageRef, RegistryAuth,
        rules::{Broken, PinnedImage},
    },
    money::{Amount, Asset, Money, Rate},
    resources::Resources,
    time::Timestamp,
    wire::observed::Phase,
};

use super::{
    Rules, announce,
    model::{Rental, State},
    spec::KeptSpec,
    store,
};
use crate::{
    context::OpCtx,
    domain::{
        images,
        nodes::{
            self, blocklists,
            model::{Node, Schedulability},
        },
        offers::{self, model::Offer},
        sshkeys::{self, model::PublicKey},
    },
    error::{Error, Result},
    store::Tx,
};

/// What somebody wants to rent.
#[derive(Debug, Clone, PartialEq)]
pub struct RentOrder {
    /// Of which offer.
    pub offer_id: OfferId,
    /// How much.
    pub resources: Resources,
    /// For how long.
    pub duration_ms: i64,
    /// The hold on the node that it would be.
    pub lease_id: LeaseId,
    /// What runs, sealed for that.
    pub spec: KeptSpec,
    /// What its image is looked up with now, if it is private; what the node gets is sealed with the specification.
    pub registry_auth: Option<RegistryAuth>,
    /// The image that was found, if its registry was asked.
    pub image: Option<PinnedImage>,
    /// The most that it may cost, extensions included.
    pub max_spend: Option<Money>,
    /// Whether it is extended from the balance.
    pub auto_extend: bool,
    /// Keys that open this rental alone.
    pub ssh_keys: Vec<PublicKey>,
}

/// An order with its offer and price.
#[derive(Debug, Clone)]
pub struct Priced {
    /// The offer.
    pub offer: Offer,
    /// What an hour costs.
    pub rate: Rate,
    /// What the whole costs.
    pub amount: Amount,
}

/// Prices a slice of an offer for a time and asks whether there is room now. Holds nothing.
///
/// # Errors
/// 404 no such offer; 422 out of the offer's bounds; 409 off the market, no room, or other plans for the node.
pub fn price(
    tx: &mut dyn Tx,
    now: Timestamp,
    rules: &Rules,
    offer_id: OfferId,
    resources: &Resources,
    duration_ms: i64,
) -> Result<Priced> {
    let offer = offers::get(tx, offer_id)?;
    offer.allows(resources, duration_ms)?;
    check_duration(rules, duration_ms)?;
    let node = nodes::get(tx, offer.node_id)?;
    takes(&node, &offer)?;
    if let Some(why) = &node.inventory.shortage {
        return Err(Error::conflict(
            "capacity_gone",
            format!("the node takes no rentals now: {why}; choose another offer"),
        ));
    }
    stays(&node, now, duration_ms)?;
    if !node.takes_rentals() || !nodes::has_room(tx, &node, resources)? {
        return Err(Error::conflict(
            "capacity_gone",
            "the node takes no rental of this size now: choose another offer or a smaller size",
        ));
    }
    let rate = Rate::of(resources, &offer.terms.prices)?;
    Ok(Priced {
        amount: rate.price_for_ms(duration_ms)?,
        offer,
        rate,
    })
}

/// Whether a node keeps rentals apart as the offer says.
///
/// # Errors
/// 409 `node_not_isolated`.
fn takes(node: &Node, offer: &Offer) -> Result<()> {
    let refused = |why: String| Err(Error::conflict("node_not_isolated", why));
    if let Some(breach) = node.breach() {
        return refused(format!(
            "the node takes no rentals: by its own probe {breach}; choose another offer"
        ));
    }
    if !node.gives_network(offer.terms.internet) {
        return refused("the node's firewall isn't in force, so it gives no rental a network now; choose another offer".to_owned());
    }
    Ok(())
}

/// Whether a node takes a rental for this time, as far as its owner's plans go.
///
/// # Errors
/// 409 `node_cordoned`, `maintenance_planned`.
fn stays(node: &Node, from: Timestamp, duration_ms: i64) -> Result<()> {
    if node.schedulability != Schedulability::Active {
        return Err(Error::conflict(
            "node_cordoned",
            "its provider takes no new rentals on this node now: choose another offer",
        ));
    }
    plans_allow(node, from, from.plus_ms(duration_ms))
}

/// Whether nothing is planned for a node in this time.
///
/// # Errors
/// 409 `maintenance_planned`, `node_draining`.
pub fn plans_allow(node: &Node, from: Timestamp, until: Timestamp) -> Result<()> {
    if let Some(window) = node.maintenance_between(from, until) {
        return Err(Error::conflict(
            "maintenance_planned",
            format!(
                "the node is under maintenance from {} until {}: rent for less time, or choose another offer",
                window.starts_at, window.ends_at
            ),
        ));
    }
    if let Some(deadline) = node.drain_deadline.filter(|deadline| until > *deadline) {
        return Err(Error::conflict(
            "node_draining",
            format!("its provider takes the node back at {deadline}: extend it for less time"),
        ));
    }
    Ok(())
}

/// Whether a node's owner serves this customer, and lets this image run there.
///
/// # Errors
/// 409 `consumer_not_served`, `registry_not_allowed`, `image_not_allowed`, `image_too_large`.
pub fn check_choice(
    tx: &mut dyn Tx,
    node: &Node,
    consumer: &Customer<'_>,
    image: Option<(&ImageRef, Option<&PinnedImage>)>,
) -> Result<()> {
    let lists = blocklists::of(tx, node.id)?;
    if lists.refuses(consumer.user, consumer.wallet) {
        return Err(Error::conflict(
            "consumer_not_served",
            "this node's owner doesn't rent to you: choose another offer",
        ));
    }
    let Some((image, pinned)) = image else {
        return Ok(());
    };
    let digest = pinned.map(|pinned| &pinned.digest);
    lists
        .admit(image, digest)
        .map_err(|why| images::broken(&why))?;
    let Some(here) = &node.inventory.images else {
        return Ok(());
    };
    here.rules
        .admit(image, digest)
        .map_err(|why| images::broken(&why))?;
    let sized = pinned.map_or(Ok::<_, Broken>(()), |pinned| {
        here.rules.admit_size(pinned.layers, pinned.bytes)
    });
    sized.map_err(|why| images::broken(&why))
}

/// Who rents.
#[derive(Debug, Clone, Copy, Default)]
pub struct Customer<'a> {
    /// With an account.
    pub user: Option<UserId>,
    /// By the wallet that pays.
    pub wallet: Option<&'a str>,
}

/// Whether the market allows a rental of this length.
///
/// # Errors
/// 422.
pub fn check_duration(rules: &Rules, duration_ms: i64) -> Result<()> {
    let (least, most) = (rules.min_duration_ms / 1_000, rules.max_duration_ms / 1_000);
    if duration_ms < rules.min_duration_ms || duration_ms > rules.max_duration_ms {
        return Err(Error::invalid(
            "/duration_seconds",
            format!("{least} to {most}"),
        ));
    }
    Ok(())
}

/// Whether an order's own limits hold.
///
/// # Errors
/// 422.
pub fn check_spend(order: &RentOrder, amount: Amount, asset: Asset) -> Result<()> {
    match &order.max_spend {
        Some(most) if most.currency != asset => Err(Error::invalid(
            "/max_spend/currency",
            format!("the offer is priced in {asset}: say it in that"),
        )),
        Some(most) if amount > most.amount => Err(Error::invalid(
            "/max_spend",
            format!("the order costs {amount}, more than you allow"),
        )),
        _ => Ok(()),
    }
}

/// Who pays and for how long the room is held unpaid.
#[derive(Debug, Clone)]
pub struct Buyer {
    /// The id that the rental will have.
    pub rental_id: RentalId,
    /// The wallet that pays, if one does.
    pub payer: Option<String>,
    /// How long the room is held.
    pub hold_ms: i64,
    /// What an hour costs, from the quote.
    pub rate: Rate,
    /// The platform's share, from the quote.
    pub fee_bps: u32,
    /// Currency of the price.
    pub asset: Asset,
    /// Currency of the balance from which it is extended.
    pub balance_asset: Asset,
}

/// Holds room for a rental.
///
/// # Errors
/// 409 `capacity_gone`.
pub fn reserve(tx: &mut dyn Tx, ctx: &OpCtx, order: &RentOrder, buyer: &Buyer) -> Result<Rental> {
    let offer = offers::get(tx, order.offer_id)?;
    let node = nodes::get(tx, offer.node_id)?;
    takes(&node, &offer)?;
    stays(&node, ctx.now, order.duration_ms)?;
    let consumer = ctx.actor.person().map(|person| person.id);
    let customer = Customer {
        user: consumer,
        wallet: buyer.payer.as_deref(),
    };
    let image = (order.spec.image_ref(), order.image.as_ref());
    check_choice(tx, &node, &customer, Some(image))?;
    let gpus = nodes::take(tx, offer.node_id, buyer.rental_id, order.resources)?;
    let rental = Rental {
        id: buyer.rental_id,
        lease_id: order.lease_id,
        offer_id: offer.id,
        node_id: offer.node_id,
        provider: offer.owner,
        consumer,
        payer: buyer.payer.clone(),
        state: State::Reserved,
        stop_reason: None,
        end_reason: None,
        detail: String::new(),
        phase: Phase::Pending,
        spec: order.spec.clone(),
        resources: order.resources,
        gpus,
        internet: offer.terms.internet,
        isolation: node.inventory.isolation.map(|isolation| isolation.class),
        asset: buyer.asset,
        balance_asset: buyer.balance_asset,
        rate: buyer.rate,
        fee_bps: buyer.fee_bps,
        duration_ms: order.duration_ms,
        paid: Amount::ZERO,
        auto_extend: order.auto_extend,
        max_spend: order.max_spend.as_ref().map(|most| most.amount),
        container_id: None,
        image: order.image.clone(),
        notice_ms: offer.terms.notice_ms,
        image_digest: order.image.as_ref().map(|image| image.digest.to_string()),
        created_at: ctx.now,
        reserve_until: ctx.now.plus_ms(buyer.hold_ms),
        paid_at: None,
        started_at: None,
        finished_at: None,
        lease_until: ctx.now,
        ended_at: None,
        settled_at: None,
        window_end: None,
        billed_ms: 0,
        charged: Amount::ZERO,
        fee: Amount::ZERO,
        refunded: Amount::ZERO,
        version: 1,
    };
    store::insert(tx, &rental)?;
    sshkeys::give_to_rental(tx, rental.id, &order.ssh_keys)?;
    announce(tx, ctx, &rental, "rental.reserved")?;
    Ok(rental)
}

/// A rental of the caller's that may be extended by so much.
///
/// # Errors
/// 404 if it isn't theirs; 409 if it is over, or its node has other plans; 422 if it would get too long or too expensive.
pub fn extendable(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    id: RentalId,
    duration_ms: i64,
) -> Result<Rental> {
    let rental = super::get_as_consumer(tx, ctx, id)?;
    if rental.state != State::Active {
        return Err(Error::conflict(
            "rental_not_active",
            "only a rental that runs or is about to can be extended",
        ));
    }
    let longest = rules.max_duration_ms;
    if duration_ms < 1_000 || rental.duration_ms.saturating_add(duration_ms) > longest {
        return Err(Error::invalid(
            "/duration_seconds",
            format!("a rental lasts at most {} seconds in all", longest / 1_000),
        ));
    }
    let node = nodes::get(tx, rental.node_id)?;
    let (from, until) = (ctx.now, paid_end(&rental, ctx.now).plus_ms(duration_ms));
    plans_allow(&node, from, until)?;
    let total = rental.paid.plus(extension_price(&rental, duration_ms)?)?;
    if rental.max_spend.is_some_and(|most| total > most) {
        return Err(Error::invalid(
            "/duration_seconds",
            "that would cost more than the rental's max_spend",
        ));
    }
    Ok(rental)
}

/// When a rental's paid time is over, taken as beginning now if it doesn't run yet.
pub fn paid_end(rental: &Rental, now: Timestamp) -> Timestamp {
    rental
        .paid_until()
        .unwrap_or_else(|| now.plus_ms(rental.duration_ms))
}

/// What more time costs: the price of the whole, less what was paid.
///
/// # Errors
/// It doesn't fit.
pub fn extension_price(rental: &Rental, duration_ms: i64) -> Result<Amount> {
    let whole = rental
        .rate
        .price_for_ms(rental.duration_ms.saturating_add(duration_ms))?;
    Ok(whole.minus(rental.paid).unwrap_or(Amount::ZERO))
}
