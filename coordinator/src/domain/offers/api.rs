//! `/offers` and `/market/summary`.

use std::{collections::BTreeSet, sync::Arc};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::{
    id::{NodeId, OfferId},
    money::{Amount, Asset, Money, UnitPrices},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Change,
    index::{After, sort_key},
    model::{Filter, Listing, Offer, OfferState, Sort, Terms},
};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{Json, Page, Paging, Path, Problems, Query},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, patch, delete))
        .routes(routes!(summary))
}

const GIB: f64 = 1_073_741_824.0;
const DAY_S: i64 = 86_400;

/// Unit prices per hour, decimal strings.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Prices {
    #[schema(value_type = String, example = "0.002")]
    ram_gib_hour: Amount,
    #[schema(value_type = String, example = "0.01")]
    cpu_hour: Amount,
    #[serde(default)]
    #[schema(value_type = String, example = "0")]
    gpu_hour: Amount,
    #[serde(default)]
    #[schema(value_type = String, example = "0")]
    disk_gib_hour: Amount,
}

impl From<Prices> for UnitPrices {
    fn from(prices: Prices) -> Self {
        Self {
            ram_gib_hour: prices.ram_gib_hour,
            cpu_hour: prices.cpu_hour,
            gpu_hour: prices.gpu_hour,
            disk_gib_hour: prices.disk_gib_hour,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateRequest {
    #[schema(value_type = String)]
    node_id: NodeId,
    prices: Prices,
    /// The largest slice that one rental may take; all that is rentable unless set.
    max_ram_bytes: Option<i64>,
    /// Thousandths of a processor.
    max_cpu_millis: Option<i64>,
    min_duration_seconds: Option<i64>,
    max_duration_seconds: Option<i64>,
    /// The node's region unless set.
    #[serde(default)]
    region: String,
}

/// An offer with its node's facts.
#[derive(Serialize, ToSchema)]
pub struct OfferView {
    /// Which.
    #[schema(value_type = String)]
    id: OfferId,
    /// Of which node.
    #[schema(value_type = String)]
    node_id: NodeId,
    /// `active` or `paused`.
    #[schema(value_type = String)]
    state: OfferState,
    /// Whether it can be rented now.
    available: bool,
    /// Whether its node answers.
    online: bool,
    prices: Prices,
    /// Of the prices.
    #[schema(value_type = String, example = "USDC")]
    currency: Asset,
    /// The largest slice that can be rented now.
    ram_free_bytes: i64,
    /// Thousandths of a processor that can be rented now.
    cpu_free_millis: i64,
    /// The largest slice that one rental may take.
    max_ram_bytes: i64,
    /// Thousandths of a processor.
    max_cpu_millis: i64,
    min_duration_seconds: i64,
    max_duration_seconds: i64,
    region: String,
    cpu_model: String,
    gpu_models: Vec<String>,
    /// Grows with each change.
    version: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

fn view(listing: &Listing) -> OfferView {
    let Offer {
        id,
        node_id,
        state,
        terms,
        version,
        created_at,
        updated_at,
        ..
    } = &listing.offer;
    let prices = &terms.prices;
    OfferView {
        id: *id,
        node_id: *node_id,
        state: *state,
        available: listing.available,
        online: listing.online,
        prices: Prices {
            ram_gib_hour: prices.ram_gib_hour,
            cpu_hour: prices.cpu_hour,
            gpu_hour: prices.gpu_hour,
            disk_gib_hour: prices.disk_gib_hour,
        },
        currency: terms.asset,
        ram_free_bytes: listing.ram_free_bytes,
        cpu_free_millis: listing.cpu_free_millis,
        max_ram_bytes: terms.max_ram_bytes,
        max_cpu_millis: terms.max_cpu_millis,
        min_duration_seconds: terms.min_duration_ms / 1_000,
        max_duration_seconds: terms.max_duration_ms / 1_000,
        region: listing.region.clone(),
        cpu_model: listing.cpu_model.clone(),
        gpu_models: listing.gpu_models.clone(),
        version: *version,
        created_at: *created_at,
        updated_at: *updated_at,
    }
}

/// What to look for; nothing set finds everything that can be rented now.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct SearchParams {
    /// GiB, decimals allowed.
    ram_gib_min: Option<f64>,
    ram_gib_max: Option<f64>,
    /// Processors, decimals allowed.
    cpu_min: Option<f64>,
    gpu_count_min: Option<i64>,
    gpu_model: Option<String>,
    region: Option<String>,
    /// A GiB of RAM for at most this an hour.
    #[param(value_type = Option<String>)]
    price_max: Option<Amount>,
    /// A rental of this length is allowed.
    duration_seconds: Option<i64>,
    currency: Option<String>,
    /// `price`, `ram` or `created`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    sort: Sort,
    /// `asc` or `desc`.
    order: Option<String>,
    /// Your own offers instead, paused ones included.
    #[serde(default)]
    mine: bool,
    limit: Option<u32>,
    cursor: Option<String>,
}

fn quantity(name: &str, value: Option<f64>, unit: f64) -> Result<Option<i64>> {
    let Some(value) = value else { return Ok(None) };
    let amount = (value * unit).round();
    if !(0.0..=1e18).contains(&amount) {
        return Err(Error::bad_request(
            "query",
            format!("{name} is out of bounds"),
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded above; a search filter, not money"
    )]
    Ok(Some(amount as i64))
}

fn filter(params: &SearchParams) -> Result<Filter> {
    if let Some(currency) = &params.currency {
        Asset::from_code(currency)
            .ok_or_else(|| Error::bad_request("query", "currency: USDC is the only one"))?;
    }
    Ok(Filter {
        ram_bytes_min: quantity("ram_gib_min", params.ram_gib_min, GIB)?,
        ram_bytes_max: quantity("ram_gib_max", params.ram_gib_max, GIB)?,
        cpu_millis_min: quantity("cpu_min", params.cpu_min, 1_000.0)?,
        gpu_count_min: params.gpu_count_min,
        gpu_model: params.gpu_model.clone(),
        region: params.region.clone(),
        price_max: params.price_max,
        duration_ms: params
            .duration_seconds
            .map(|seconds| seconds.saturating_mul(1_000)),
    })
}

fn descending(order: Option<&str>) -> Result<bool> {
    match order {
        None | Some("asc") => Ok(false),
        Some("desc") => Ok(true),
        Some(_) => Err(Error::bad_request("query", "order is asc or desc")),
    }
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
        &filter(&params)?,
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
    request_body = CreateRequest, responses((status = 201, body = OfferView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn create(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Json(request): Json<CreateRequest>,
) -> Result<(StatusCode, Json<OfferView>)> {
    let listing = app
        .db
        .write("offer.create", move |tx| {
            let node = crate::domain::nodes::get_own(tx, &ctx, request.node_id)?;
            let terms = Terms {
                prices: request.prices.clone().into(),
                asset: Asset::Usdc,
                max_ram_bytes: request.max_ram_bytes.unwrap_or(node.rentable.ram_bytes),
                max_cpu_millis: request.max_cpu_millis.unwrap_or(node.rentable.cpu_millis),
                min_duration_ms: ms(request.min_duration_seconds.unwrap_or(60)),
                max_duration_ms: ms(request.max_duration_seconds.unwrap_or(30 * DAY_S)),
                region: request.region.trim().to_owned(),
            };
            let offer = super::create(tx, &ctx, request.node_id, &terms)?;
            super::listing(tx, offer)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(view(&listing))))
}

const fn ms(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000)
}

#[utoipa::path(
    get, path = "/offers/{id}", operation_id = "get_offer", tag = "offers", params(("id" = String, Path)),
    responses((status = 200, body = OfferView), Problems), security(())
)]
async fn get(State(app): State<Arc<App>>, Path(id): Path<OfferId>) -> Result<Json<OfferView>> {
    let listing = app
        .db
        .read("offer.get", move |tx| {
            let offer = super::get(tx, id)?;
            super::listing(tx, offer)
        })
        .await?;
    Ok(Json(view(&listing)))
}

/// What to change; what is left out stays. Running rentals keep their price.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PatchRequest {
    prices: Option<Prices>,
    max_ram_bytes: Option<i64>,
    max_cpu_millis: Option<i64>,
    min_duration_seconds: Option<i64>,
    max_duration_seconds: Option<i64>,
    region: Option<String>,
    /// `active` or `paused`.
    #[schema(value_type = Option<String>)]
    state: Option<OfferState>,
}

#[utoipa::path(
    patch, path = "/offers/{id}", operation_id = "change_offer", tag = "offers", params(("id" = String, Path)),
    request_body = PatchRequest, responses((status = 200, body = OfferView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn patch(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<OfferId>,
    Json(request): Json<PatchRequest>,
) -> Result<Json<OfferView>> {
    if request.state == Some(OfferState::Deleted) {
        return Err(Error::invalid(
            "/state",
            "active or paused; to delete it, use DELETE",
        ));
    }
    let listing = app
        .db
        .write("offer.change", move |tx| {
            let old = super::get_own(tx, &ctx, id)?.terms;
            let terms = Terms {
                prices: request.prices.clone().map_or(old.prices, Into::into),
                asset: old.asset,
                max_ram_bytes: request.max_ram_bytes.unwrap_or(old.max_ram_bytes),
                max_cpu_millis: request.max_cpu_millis.unwrap_or(old.max_cpu_millis),
                min_duration_ms: request.min_duration_seconds.map_or(old.min_duration_ms, ms),
                max_duration_ms: request.max_duration_seconds.map_or(old.max_duration_ms, ms),
                region: request.region.clone().unwrap_or(old.region),
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
            super::listing(tx, offer)
        })
        .await?;
    Ok(Json(view(&listing)))
}

#[utoipa::path(
    delete, path = "/offers/{id}", operation_id = "delete_offer", tag = "offers", params(("id" = String, Path)),
    description = "Running rentals go on.", responses((status = 204), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn delete(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<OfferId>,
) -> Result<StatusCode> {
    let gone = Change {
        terms: None,
        state: Some(OfferState::Deleted),
    };
    app.db
        .write("offer.delete", move |tx| super::change(tx, &ctx, id, &gone))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The market in numbers.
#[derive(Serialize, ToSchema)]
struct SummaryView {
    offers: usize,
    nodes: usize,
    ram_rentable_bytes: i64,
    ram_free_bytes: i64,
    gpus: usize,
    /// Of a GiB of RAM for an hour.
    #[schema(value_type = Option<Object>)]
    lowest_ram_gib_hour: Option<Money>,
    regions: BTreeSet<String>,
}

#[utoipa::path(
    get, path = "/market/summary", operation_id = "market_summary", tag = "offers",
    responses((status = 200, body = SummaryView), Problems), security(())
)]
async fn summary(State(app): State<Arc<App>>) -> Result<Json<SummaryView>> {
    let numbers = app.market.numbers();
    let all = app
        .market
        .search(&Filter::default(), Sort::Price, false, None, usize::MAX);
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
        lowest_ram_gib_hour: lowest.map(|amount| Money {
            amount,
            currency: Asset::Usdc,
        }),
        regions: all
            .iter()
            .map(|hit| hit.region.clone())
            .filter(|region| !region.is_empty())
            .collect(),
    }))
}
