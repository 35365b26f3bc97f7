//! `/payments/settle`, and the usage and receipts of a rental.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::{
    id::RentalId,
    journal::SignedRecord,
    money::{Asset, Money},
    sign::PublicKey,
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::model::Window;
use crate::{
    app::App,
    context::OpCtx,
    domain::{disputes::given_back, metering, nodes, rentals},
    error::Result,
    http::{Json, Page, Paging, Path, Problems, Query},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(settle))
        .routes(routes!(usage))
        .routes(routes!(receipts))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SettleBody {
    #[schema(value_type = String)]
    rental_id: RentalId,
}

/// How a rental's money is split: provider, fee, refund and escrow add up to what was paid and the platform's goodwill.
#[derive(Debug, Serialize, ToSchema)]
struct SplitView {
    #[schema(value_type = String)]
    rental_id: RentalId,
    /// Whether it is over and nothing will change any more.
    settled: bool,
    billed_ms: i64,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    paid: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    provider: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    platform_fee: Money,
    /// What the platform gave back beyond its fee.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    platform_goodwill: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    refund: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    escrow: Money,
}

#[utoipa::path(
    post, path = "/payments/settle", operation_id = "settle_rental", tag = "payments",
    description = "Bills what can be billed now; after the rental's end, splits what was paid for good. It also happens by itself.",
    request_body = SettleBody, responses((status = 200, body = SplitView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []))
)]
async fn settle(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Json(request): Json<SettleBody>,
) -> Result<Json<SplitView>> {
    let id = request.rental_id;
    let (rental, back) = app
        .db
        .write("settlement.settle", move |tx| {
            rentals::get(tx, &ctx, id)?;
            let rental = super::settle(tx, &ctx, id)?;
            Ok((rental, given_back::total(tx, id)?))
        })
        .await?;
    let split = super::split(&rental, &back)?;
    let money = |amount| Money {
        amount,
        currency: rental.asset,
    };
    Ok(Json(SplitView {
        rental_id: id,
        settled: rental.settled_at.is_some(),
        billed_ms: rental.billed_ms,
        paid: money(split.paid),
        provider: money(split.provider),
        platform_fee: money(split.fee),
        platform_goodwill: money(split.goodwill),
        refund: money(split.refund),
        escrow: money(split.escrow),
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct PageParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A billing window.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WindowView {
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
    billable_ms: i64,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    amount: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    platform_fee: Money,
}

#[utoipa::path(
    get, path = "/rentals/{id}/usage", operation_id = "rental_usage", tag = "rentals", params(("id" = String, Path), PageParams),
    description = "Closed billing windows, oldest first.", responses((status = 200, body = Page<WindowView>), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn usage(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
    Query(params): Query<PageParams>,
) -> Result<Json<Page<WindowView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after = Timestamp::from_micros(paging.after()?.unwrap_or(i64::MIN));
    let fetch = paging.fetch();
    let (currency, rows) = app
        .db
        .read("settlement.windows", move |tx| {
            let currency = rentals::get(tx, &ctx, id)?.asset;
            Ok((currency, super::windows(tx, &ctx, id, after, fetch)?))
        })
        .await?;
    let page = Page::of(rows, &paging, |window| window.span.start.as_micros())?;
    Ok(Json(page.map(|shown| window(&shown, currency))))
}

/// A window as it is answered here.
pub(crate) fn window(window: &Window, currency: Asset) -> WindowView {
    let money = |amount| Money { amount, currency };
    WindowView {
        start: window.span.start,
        end: window.span.end,
        billable_ms: window.billable_ms,
        amount: money(window.amount),
        platform_fee: money(window.fee),
    }
}

/// A signed usage record as its node sent it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptView {
    #[schema(value_type = Object)]
    record: SignedRecord,
    /// The node's Ed25519 key, base64, under which the signature holds.
    #[schema(value_type = String)]
    node_key: PublicKey,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
}

#[utoipa::path(
    get, path = "/rentals/{id}/receipts", operation_id = "rental_receipts", tag = "rentals",
    params(("id" = String, Path), PageParams),
    description = "The node's signed usage records behind the bill, oldest first.",
    responses((status = 200, body = Page<ReceiptView>), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn receipts(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
    Query(params): Query<PageParams>,
) -> Result<Json<Page<ReceiptView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: i64 = paging.after()?.unwrap_or(0);
    let fetch = paging.fetch();
    let (node_key, rows) = app
        .db
        .read("settlement.receipts", move |tx| {
            let rental = rentals::get(tx, &ctx, id)?;
            let node = nodes::get(tx, rental.node_id)?;
            let rows = metering::records_of(tx, rental.node_id, id, after, fetch)?;
            Ok((node.public_key, rows))
        })
        .await?;
    let page = Page::of(rows, &paging, |(signed, _)| signed.record.seq)?;
    Ok(Json(page.map(|(record, received_at)| {
        receipt(record, node_key, received_at)
    })))
}

/// A record as it is answered here.
pub(crate) const fn receipt(
    record: SignedRecord,
    node_key: PublicKey,
    received_at: Timestamp,
) -> ReceiptView {
    ReceiptView {
        record,
        node_key,
        received_at,
    }
}
