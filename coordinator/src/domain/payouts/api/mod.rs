//! `/payouts` and `/balance/withdrawals`; addresses and what administrators do are in the files beside.

mod address;
mod admin;

use std::sync::Arc;

use axum::{
    extract::State as AppState,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use shared::{id::PayoutId, money::Money, time::Timestamp, x402::address::Address};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::model::{Kind, Payout, State};
use crate::{
    app::App,
    context::OpCtx,
    domain::payments::idempotency::{self, IdempotencyKey},
    error::{Error, Result},
    http::{Json, Page, Paging, Path, Problems, Query, RawBody, extract::parse_json},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get))
        .routes(routes!(withdraw))
        .routes(routes!(address::get, address::put, address::delete))
        .routes(routes!(admin::list))
        .routes(routes!(admin::approve))
        .routes(routes!(admin::reject))
        .routes(routes!(admin::resolve))
}

/// How much to pay out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PayoutRequest {
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    amount: Money,
    /// Over which network, CAIP-2; the one that the money came by unless set, as far as that is known.
    #[schema(example = "eip155:84532")]
    network: Option<String>,
}

/// Money on its way out.
#[derive(Serialize, ToSchema)]
pub(super) struct PayoutView {
    #[schema(value_type = String, example = "out_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: PayoutId,
    /// `earnings`, `withdrawal` or `refund`.
    #[schema(example = "earnings")]
    kind: &'static str,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    amount: Money,
    /// To whom.
    #[schema(value_type = String, example = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")]
    to: Address,
    /// CAIP-2.
    #[schema(example = "eip155:84532")]
    network: String,
    /// `awaiting_approval`, `requested`, `sending`, `sent`, `paid` or `failed`; what failed is back in the balance.
    #[schema(example = "requested")]
    state: &'static str,
    /// Why it isn't further.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// The transaction that moved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

pub(super) fn view(app: &App, payout: Payout) -> PayoutView {
    let waits = match payout.state {
        State::AwaitingApproval => Some("so large a payout needs two administrators"),
        State::Requested if app.payouts.wallet.is_none() => {
            Some("this market's operator sends payouts by hand")
        }
        _ => None,
    };
    PayoutView {
        id: payout.id,
        kind: Kind::of(&payout.owner).name(),
        amount: Money {
            amount: payout.amount,
            currency: payout.asset,
        },
        to: payout.pay_to,
        network: payout.network,
        state: payout.state.name(),
        note: payout.note.or_else(|| waits.map(str::to_owned)),
        transaction: payout.tx_hash,
        created_at: payout.created_at,
        updated_at: payout.updated_at,
    }
}

#[utoipa::path(
    post, path = "/payouts", operation_id = "create_payout", tag = "money out",
    description = "Pays out what you earned, to the address that holds for you. Needs a fresh proof of who you are and an Idempotency-Key: the same key asks once.",
    params(("Idempotency-Key" = String, Header, description = "New for each payout.")),
    request_body = PayoutRequest, responses((status = 201, body = PayoutView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn create(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<(StatusCode, Json<PayoutView>)> {
    ask(&app, ctx, &headers, &raw, Kind::Earnings).await
}

#[utoipa::path(
    post, path = "/balance/withdrawals", operation_id = "withdraw", tag = "money out",
    description = "Pays out of your balance, to the address that holds for you. Needs a fresh proof of who you are and an Idempotency-Key: the same key asks once.",
    params(("Idempotency-Key" = String, Header, description = "New for each withdrawal.")),
    request_body = PayoutRequest, responses((status = 201, body = PayoutView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn withdraw(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<(StatusCode, Json<PayoutView>)> {
    ask(&app, ctx, &headers, &raw, Kind::Withdrawal).await
}

async fn ask(
    app: &Arc<App>,
    ctx: OpCtx,
    headers: &HeaderMap,
    raw: &[u8],
    kind: Kind,
) -> Result<(StatusCode, Json<PayoutView>)> {
    let request: PayoutRequest = parse_json(raw)?;
    let key = IdempotencyKey::read(headers, &ctx, kind.name(), raw)?;
    let asset = request.amount.currency;
    let named = request.network.as_deref();
    let named = match named {
        Some(network) => Some(app.payouts.way_by(asset, network)?),
        // refused before anything is asked of the database
        None => app.payouts.rail(asset, None).map(|_| None)?,
    };
    let payouts = Arc::clone(&app.payouts);
    let payout = app
        .db
        .write("payout.ask", move |tx| {
            if let Some(before) = idempotency::find(tx, &key)? {
                let id = before
                    .parse()
                    .map_err(|_| Error::corrupt("idempotency_keys", &before, "resource_id"))?;
                return super::own(tx, &ctx, id);
            }
            let way = match &named {
                Some(way) => way.clone(),
                None => {
                    let came_by = super::came_by(tx, &super::owner(&ctx, kind)?, asset)?;
                    payouts.rail(asset, came_by.as_deref())?.way()
                }
            };
            let bounds = (&payouts.rules, &way);
            let checks = (&payouts.kyc, &*payouts.postbox);
            let payout = super::ask(tx, &ctx, bounds, checks, kind, &request.amount)?;
            idempotency::remember(tx, &ctx, &key, &payout.id.to_string())?;
            Ok(payout)
        })
        .await?;
    app.tasks.poke(crate::tasks::payouts::NAME);
    Ok((StatusCode::CREATED, Json(view(app, payout))))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/payouts", operation_id = "list_payouts", tag = "money out", params(ListParams),
    description = "Your payouts and withdrawals, newest first.",
    responses((status = 200, body = Page<PayoutView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn list(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<PayoutView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    // after every id there can be
    let before: String = paging.after()?.unwrap_or_else(|| "p".to_owned());
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("payout.list", move |tx| {
            super::list(tx, &ctx, &before, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |payout| payout.id.to_string())?;
    Ok(Json(page.map(|payout| view(&app, payout))))
}

#[utoipa::path(
    get, path = "/payouts/{id}", operation_id = "get_payout", tag = "money out", params(("id" = String, Path)),
    responses((status = 200, body = PayoutView), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn get(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Path(id): Path<PayoutId>,
) -> Result<Json<PayoutView>> {
    let find = move |tx: &mut dyn crate::store::Tx| super::own(tx, &ctx, id);
    let payout = app.db.read("payout.get", find).await?;
    Ok(Json(view(&app, payout)))
}
