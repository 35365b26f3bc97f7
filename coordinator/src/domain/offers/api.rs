//! `/offers` and `/market/summary`.

use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::{
    id::{NodeId, OfferId},
    money::{Amount, Asset, Money},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Change,
    index::{After, sort_key},
    model::{Listing, Offer, OfferState, Terms},
    query::{SearchParams, descending, filter},
    view::{OfferView, Prices, view},
};
use crate::{
    app::App,
    config::KycGate,
    context::OpCtx,
    domain::kyc,
    error::{Error, Result},
    http::{IfMatch, Json, Page, Paging, Path, Problems, Query, Tag, Tagged, etag::IfMatchParam},
    store::Tx,
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, patch, delete))
        .routes(routes!(price_history))
        .routes(routes!(summary))
}

const DAY_S: i64 = 86_400;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateOfferRequest {
    #[schema(value_type = String)]
    node_id: NodeId,
    prices: Prices,
    /// Of the prices; the market's first one unless set.
    #[schema(value_type = Option<String>, example = "USDC")]
    currency: Option<Asset>,
    /// The largest slice that one rental may take; all that is rentable unless set.
    max_ram_bytes: Option<i64>,
    /// Thousandths of a processor.
    max_cpu_millis: Option<i64>,
    /// The most GPUs that one rental may take.
    max_gpus: Option<i64>,
    max_disk_bytes: Option<i64>,
    min_duration_seconds: Option<i64>,
    max_duration_seconds: Option<i64>,
    /// How long before you end a rental ahead of its time its consumer is told; 0 unless set.
    notice_seconds: Option<i64>,
    /// The node's region unless set.
    #[serde(default)]
    region: String,
    /// Whether rentals reach the public internet; they do unless this says no. It stays as it is: make another offer.
    internet: Option<bool>,
}

#[utoipa::path(
    get, path = "/offers", operation_id = "list_offers", tag = "offers", params(SearchParams),
    responses((status = 200, body = Page<OfferView>), Problems), security(())
)]
async fn list(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<SearchParams>,
) -> Result<Json<Page<OfferView>>> {
    let paging = Paging::new(params.limit, params.cursor.clone())?;
    if params.mine {
        return list_own(ctx, &app, &paging).await;
    }
    let after: Option<(i64, OfferId)> = paging.after()?;
    let after = after.map(|(key, id)| After { key, id });
    let fetch = usize::try_from(paging.fetch()).map_err(Error::internal)?;
    let backwards = descending(params.order.as_deref())?;
    let hits = app.market.search(
        &filter(&params, app.purchases.payees.default_asset())?,
        params.sort,
        backwards,
        after.as_ref(),
        fetch,
    );
    let page = Page::of(hits, &paging, |hit| {
        (sort_key(hit, params.sort), hit.offer.id)
    })?;
    Ok(Json(page.map(|hit| view(&hit))))
}

async fn list_own(ctx: OpCtx, app: &App, paging: &Paging) -> Result<Json<Page<OfferView>>> {
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("offer.own", move |tx| {
            super::list_own(tx, &ctx, &after, fetch)
        })
        .await?;
    let page = Page::of(rows, paging, |listing| listing.offer.id.to_string())?;
    Ok(Json(page.map(|listing| view(&listing))))
}

#[utoipa::path(
    post, path = "/offers", operation_id = "create_offer", tag = "offers",
    request_body = CreateOfferRequest, responses((status = 201, body = OfferView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn create(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Json(request): Json<CreateOfferRequest>,
) -> Result<(StatusCode, Tagged<Json<OfferView>>)> {
    let settings = app.config.kyc.clone();
    let payees = &app.purchases.payees;
    let asset = request.currency.unwrap_or_else(|| payees.default_asset());
    payees.accept(asset, "/currency")?;
    let listing = app
        .db
        .write("offer.create", move |tx| {
            kyc::require(tx, &ctx, &settings, KycGate::Offers)?;
            let node = crate::domain::nodes::get_own(tx, &ctx, request.node_id)?;
            let terms = Terms {
                prices: request.prices.clone().into(),
                asset,
                max_ram_bytes: request.max_ram_bytes.unwrap_or(node.rentable.ram_bytes),
                max_cpu_millis: request.max_cpu_millis.unwrap_or(node.rentable.cpu_millis),
                max_gpus: request.max_gpus.unwrap_or(node.rentable.gpu_count),
                max_disk_bytes: request.max_disk_bytes.unwrap_or(node.rentable.disk_bytes),
                min_duration_ms: ms(request.min_duration_seconds.unwrap_or(60)),
                max_duration_ms: ms(request.max_duration_seconds.unwrap_or(30 * DAY_S)),
                region: request.region.trim().to_owned(),
                internet: request.internet.unwrap_or(true),
                notice_ms: ms(request.notice_seconds.unwrap_or(0)),
            };
            let offer = super::create(tx, &ctx, request.node_id, &terms)?;
            super::listing(tx, offer)
        })
        .await?;
    Ok((StatusCode::CREATED, tagged(&listing)))
}

fn tagged(listing: &Listing) -> Tagged<Json<OfferView>> {
    Tagged(Tag::of_version(listing.offer.version), Json(view(listing)))
}

const fn ms(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000)
}

#[utoipa::path(
    get, path = "/offers/{id}", operation_id = "get_offer", tag = "offers", params(("id" = String, Path)),
    responses((status = 200, body = OfferView), Problems), security(())
)]
async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<OfferId>,
) -> Result<Tagged<Json<OfferView>>> {
    let listing = app
        .db
        .read("offer.get", move |tx| {
            let offer = super::get(tx, id)?;
            super::listing(tx, offer)
        })
        .await?;
    Ok(tagged(&listing))
}

/// What to change; what is left out stays. Running rentals keep their price.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PatchOfferRequest {
    prices: Option<Prices>,
    max_ram_bytes: Option<i64>,
    max_cpu_millis: Option<i64>,
    max_gpus: Option<i64>,
    max_disk_bytes: Option<i64>,
    min_duration_seconds: Option<i64>,
    max_duration_seconds: Option<i64>,
    /// For new rentals; running ones keep theirs.
    notice_seconds: Option<i64>,
    region: Option<String>,
    /// `active` or `paused`.
    #[schema(value_type = Option<String>)]
    state: Option<OfferState>,
}

#[utoipa::path(
    patch, path = "/offers/{id}", operation_id = "change_offer", tag = "offers",
    params(("id" = String, Path), IfMatchParam),
    request_body = PatchOfferRequest, responses((status = 200, body = OfferView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn patch(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<OfferId>,
    seen: IfMatch,
    Json(request): Json<PatchOfferRequest>,
) -> Result<Tagged<Json<OfferView>>> {
    if request.state == Some(OfferState::Deleted) {
        return Err(Error::invalid(
            "/state",
            "active or paused; to delete it, use DELETE",
        ));
    }
    let listing = app
        .db
        .write("offer.change", move |tx| {
            let seen_version = checked(tx, &ctx, id, &seen)?;
            let old = super::get_own(tx, &ctx, id)?.terms;
            let terms = Terms {
                prices: request.prices.clone().map_or(old.prices, Into::into),
                asset: old.asset,
                max_ram_bytes: request.max_ram_bytes.unwrap_or(old.max_ram_bytes),
                max_cpu_millis: request.max_cpu_millis.unwrap_or(old.max_cpu_millis),
                max_gpus: request.max_gpus.unwrap_or(old.max_gpus),
                max_disk_bytes: request.max_disk_bytes.unwrap_or(old.max_disk_bytes),
                min_duration_ms: request.min_duration_seconds.map_or(old.min_duration_ms, ms),
                max_duration_ms: request.max_duration_seconds.map_or(old.max_duration_ms, ms),
                notice_ms: request.notice_seconds.map_or(old.notice_ms, ms),
                region: request.region.clone().unwrap_or(old.region),
                // another offer, to those who choose by it
                internet: old.internet,
            };
            let offer = super::change(
                tx,
                &ctx,
                id,
                &Change {
                    terms: Some(terms),
                    state: request.state,
                },
            )?;
            follows(&offer, seen_version)?;
            super::listing(tx, offer)
        })
        .await?;
    Ok(tagged(&listing))
}

/// The version that is edited, if it is what the caller saw.
fn checked(tx: &mut dyn Tx, ctx: &OpCtx, id: OfferId, seen: &IfMatch) -> Result<i64> {
    let version = super::get_own(tx, ctx, id)?.version;
    seen.check(&Tag::of_version(version)).map(|()| version)
}

/// Refuses an edit of another version than the one that was checked: somebody was between the two.
fn follows(edited: &Offer, seen_version: i64) -> Result<()> {
    if edited.version == seen_version.saturating_add(1) {
        Ok(())
    } else {
        Err(super::changed_meanwhile())
    }
}

#[utoipa::path(
    delete, path = "/offers/{id}", operation_id = "delete_offer", tag = "offers",
    params(("id" = String, Path), IfMatchParam),
    description = "Running rentals go on.", responses((status = 204), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn delete(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<OfferId>,
    seen: IfMatch,
) -> Result<StatusCode> {
    let gone = Change {
        terms: None,
        state: Some(OfferState::Deleted),
    };
    app.db
        .write("offer.delete", move |tx| {
            let seen_version = checked(tx, &ctx, id, &seen)?;
            follows(&super::change(tx, &ctx, id, &gone)?, seen_version)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What an offer cost from a moment on.
#[derive(Serialize, ToSchema)]
struct OfferPriceView {
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    prices: Prices,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/offers/{id}/price-history", operation_id = "offer_price_history", tag = "offers",
    params(("id" = String, Path), HistoryParams), description = "The newest first.",
    responses((status = 200, body = Page<OfferPriceView>), Problems), security(())
)]
async fn price_history(
    State(app): State<Arc<App>>,
    Path(id): Path<OfferId>,
    Query(params): Query<HistoryParams>,
) -> Result<Json<Page<OfferPriceView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let before = Timestamp::from_micros(paging.after()?.unwrap_or(i64::MAX));
    let fetch = paging.fetch();
    let read = move |tx: &mut dyn crate::store::Tx| super::price_history(tx, id, before, fetch);
    let rows = app.db.read("offer.prices", read).await?;
    let page = Page::of(rows, &paging, |(from, _)| from.as_micros())?;
    Ok(Json(page.map(|(from, prices)| OfferPriceView {
        from,
        prices: prices.into(),
    })))
}

/// The market in numbers.
#[derive(Serialize, ToSchema)]
struct SummaryView {
    offers: usize,
    nodes: usize,
    ram_rentable_bytes: i64,
    ram_free_bytes: i64,
    gpus: usize,
    /// Of a GiB of RAM for an hour, among the offers in the market's first currency.
    #[schema(value_type = Option<crate::http::openapi::MoneySchema>)]
    lowest_ram_gib_hour: Option<Money>,
    regions: BTreeSet<String>,
}

#[utoipa::path(
    get, path = "/market/summary", operation_id = "market_summary", tag = "offers",
    responses((status = 200, body = SummaryView), Problems), security(())
)]
async fn summary(State(app): State<Arc<App>>) -> Result<Json<SummaryView>> {
    let currency = app.purchases.payees.default_asset();
    let numbers = app.market.numbers(currency);
    let lowest = numbers
        .lowest_ram_gib_hour
        .map(Amount::from_atomic)
        .transpose()?;
    Ok(Json(SummaryView {
        offers: numbers.offers,
        nodes: numbers.nodes,
        ram_rentable_bytes: numbers.ram_rentable_bytes,
        ram_free_bytes: numbers.ram_free_bytes,
        gpus: numbers.gpus,
        lowest_ram_gib_hour: lowest.map(|amount| Money { amount, currency }),
        regions: app.market.regions(),
    }))
}
