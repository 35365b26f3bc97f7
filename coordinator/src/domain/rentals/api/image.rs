//! Which image an order means: asked of its registry before anything is quoted or sold.

use serde_json::json;
use shared::image::rules::PinnedImage;

use crate::{
    app::App,
    context::OpCtx,
    domain::{
        images::Wanted,
        nodes, offers,
        rentals::order::{self, Customer, RentOrder},
    },
    error::Result,
};

/// Finds out which manifest an order's image is, for the node of its offer, and whether it may run there. Returns how long its node
/// would fetch it, milliseconds, where that can be told.
///
/// # Errors
/// 404 no such offer; 409 with why the image isn't run there; 503 as [`crate::domain::images::Images::pin`].
pub(super) async fn pin(app: &App, ctx: &OpCtx, order: &mut RentOrder) -> Result<Option<i64>> {
    let image = order.spec.image_ref().clone();
    let (offer_id, user) = (order.offer_id, ctx.user().ok().map(|user| user.id));
    let named = image.clone();
    let node = app
        .db
        .read("order.node", move |tx| {
            let offer = offers::get(tx, offer_id)?;
            let node = nodes::get(tx, offer.node_id)?;
            let customer = Customer { user, wallet: None };
            // before the registry is asked: whom and what the node doesn't serve costs nobody a call
            order::check_choice(tx, &node, &customer, Some((&named, None)))?;
            Ok(node)
        })
        .await?;
    let here = node.inventory.images.clone();
    let wanted = Wanted {
        image: image.clone(),
        auth: order.registry_auth.clone(),
        platform: here.as_ref().map(|here| here.platform.clone()),
    };
    order.image = app.images.pin(&wanted).await?;
    let Some(found) = order.image.clone() else {
        return Ok(None);
    };
    let estimate = here.and_then(|here| here.estimated_pull_ms(&found));
    app.db
        .read("order.image", move |tx| {
            let customer = Customer { user, wallet: None };
            order::check_choice(tx, &node, &customer, Some((&image, Some(&found))))
        })
        .await?;
    Ok(estimate)
}

/// What of an image is told with a price: what is run whatever its tag will mean, and how long it takes until it can start.
pub(super) fn image_view(image: &PinnedImage, start_ms: Option<i64>) -> serde_json::Value {
    json!({
        "digest": image.digest,
        "bytes": image.bytes,
        "layers": image.layers,
        "estimated_start_seconds": start_ms.map(|ms| ms.saturating_add(999) / 1_000),
    })
}
