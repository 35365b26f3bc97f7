//! `/payout-address`: where the caller is paid.

use std::sync::Arc;

use axum::{extract::State as AppState, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::{time::Timestamp, x402::address::Address};
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::payouts::address::{self, Destination},
    error::Result,
    http::{Json, Problems},
};

/// Where you are paid.
#[derive(Serialize, ToSchema)]
pub(super) struct PayoutAddressView {
    /// What holds now; without one nothing is paid out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")]
    address: Option<Address>,
    /// What will hold instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC")]
    wanted: Option<Address>,
    /// From when on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    wanted_from: Option<Timestamp>,
}

fn view(destination: &Destination, now: Timestamp) -> PayoutAddressView {
    let (wanted, wanted_from) = destination.later(now).unzip();
    PayoutAddressView {
        address: destination.at(now),
        wanted,
        wanted_from,
    }
}

#[utoipa::path(
    get, path = "/payout-address", operation_id = "get_payout_address", tag = "money out",
    responses((status = 200, body = PayoutAddressView), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn get(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
) -> Result<Json<PayoutAddressView>> {
    let now = ctx.now;
    let find = move |tx: &mut dyn crate::store::Tx| address::own(tx, &ctx);
    let destination = app.db.read("payout_address.get", find).await?;
    Ok(Json(view(&destination, now)))
}

/// Where you want to be paid.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PayoutAddressRequest {
    /// With its checksum, or in lower case.
    #[schema(
        example = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        pattern = "^0x[0-9A-Fa-f]{40}$"
    )]
    address: String,
}

#[utoipa::path(
    put, path = "/payout-address", operation_id = "put_payout_address", tag = "money out",
    description = "Changes where you are paid, after a time (48 h unless the operator set another); until then the address before holds. Needs a fresh proof of who you are; you are told by mail.",
    request_body = PayoutAddressRequest, responses((status = 200, body = PayoutAddressView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn put(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Json(request): Json<PayoutAddressRequest>,
) -> Result<Json<PayoutAddressView>> {
    let wanted = address::parse(&request.address, &app.payouts.ours())?;
    let (now, payouts) = (ctx.now, Arc::clone(&app.payouts));
    let destination = app
        .db
        .write("payout_address.put", move |tx| {
            let hold_ms = payouts.rules.address_hold_ms;
            address::change(tx, &ctx, &payouts.postbox, wanted, hold_ms)
        })
        .await?;
    Ok(Json(view(&destination, now)))
}

#[utoipa::path(
    delete, path = "/payout-address", operation_id = "keep_payout_address", tag = "money out",
    description = "Takes back a change that isn't in force yet: the address before goes on to hold. Without one nothing changes.",
    responses((status = 204, description = "Taken back"), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn delete(ctx: OpCtx, AppState(app): AppState<Arc<App>>) -> Result<StatusCode> {
    let keep = move |tx: &mut dyn crate::store::Tx| address::cancel(tx, &ctx);
    app.db.write("payout_address.keep", keep).await?;
    Ok(StatusCode::NO_CONTENT)
}
