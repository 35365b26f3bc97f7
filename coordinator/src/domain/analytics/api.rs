//! `/analytics/…`: figures over time.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::{
    id::NodeId,
    money::{Amount, Asset, Money},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::model::{MarketPoint, ProviderPoint, Range, Step};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{Json, Problems, Query, openapi::MoneySchema},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(provider))
        .routes(routes!(consumer))
        .routes(routes!(market))
}

fn moment(name: &'static str, text: Option<&str>) -> Result<Option<Timestamp>> {
    let parse = |text| {
        Timestamp::parse_rfc3339(text).map_err(|_| {
            Error::bad_request(
                "range",
                format!("{name}: write a time such as 2026-01-31T00:00:00Z"),
            )
        })
    };
    text.map(parse).transpose()
}

#[derive(Deserialize, ToSchema, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
enum StepParam {
    Hour,
    #[default]
    Day,
}

impl From<StepParam> for Step {
    fn from(step: StepParam) -> Self {
        match step {
            StepParam::Hour => Self::Hour,
            StepParam::Day => Self::Day,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ProviderParams {
    /// RFC 3339; steps are whole.
    from: Option<String>,
    to: Option<String>,
    /// `hour` (kept for 90 days) or `day`.
    #[serde(default)]
    #[param(inline)]
    step: StepParam,
    /// Of this node; without it of all together.
    #[param(value_type = Option<String>)]
    node_id: Option<NodeId>,
}

/// A step of a provider's figures.
#[derive(Serialize, ToSchema)]
struct ProviderPointView {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The provider's share of what was billed, by currency.
    #[schema(value_type = Vec<MoneySchema>)]
    earned: Vec<Money>,
    /// The platform's, in the same order.
    #[schema(value_type = Vec<MoneySchema>)]
    platform_fee: Vec<Money>,
    billed_ms: i64,
    /// Of the step's time, how much the nodes were provably there. Known some minutes after an hour is over.
    uptime_permille: i64,
    /// Of the memory that could be rented, how much was.
    utilisation_permille: i64,
}

/// A provider's figures.
#[derive(Serialize, ToSchema)]
struct ProviderView {
    items: Vec<ProviderPointView>,
}

fn provider_point(point: &ProviderPoint, step: Step) -> ProviderPointView {
    ProviderPointView {
        at: point.at,
        earned: point.earned.iter().map(|one| one.share.clone()).collect(),
        platform_fee: point.earned.iter().map(|one| one.fee.clone()).collect(),
        billed_ms: point.billed_ms,
        uptime_permille: point.uptime_permille(step),
        utilisation_permille: point.utilisation_permille(step),
    }
}

#[utoipa::path(get, path = "/analytics/provider", operation_id = "provider_analytics", tag = "analytics", params(ProviderParams),
    description = "A billing window counts in the step in which it ends. Steps in which nothing happened are left out.",
    responses((status = 200, body = ProviderView), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn provider(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<ProviderParams>,
) -> Result<Json<ProviderView>> {
    let (from, to) = (
        moment("from", params.from.as_deref())?,
        moment("to", params.to.as_deref())?,
    );
    let range = Range::new(from, to, params.step.into(), ctx.now)?;
    let node = params.node_id;
    let points = app
        .db
        .read("analytics.provider", move |tx| {
            super::provider(tx, &ctx, node, &range)
        })
        .await?;
    let points = points.iter();
    let items = points.map(|point| provider_point(point, range.step));
    Ok(Json(ProviderView {
        items: items.collect(),
    }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ConsumerParams {
    /// RFC 3339; steps are whole.
    from: Option<String>,
    to: Option<String>,
    /// `hour` (kept for 90 days) or `day`.
    #[serde(default)]
    #[param(inline)]
    step: StepParam,
}

/// A step of a consumer's figures.
#[derive(Serialize, ToSchema)]
struct ConsumerPointView {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// By currency.
    #[schema(value_type = Vec<MoneySchema>)]
    spent: Vec<Money>,
    billed_ms: i64,
}

/// A consumer's figures.
#[derive(Serialize, ToSchema)]
struct ConsumerView {
    items: Vec<ConsumerPointView>,
    /// What the rentals that run now cost in an hour, by the currency of their prices.
    #[schema(value_type = Vec<MoneySchema>)]
    burn_rate_per_hour: Vec<Money>,
    running_rentals: i64,
}

#[utoipa::path(get, path = "/analytics/consumer", operation_id = "consumer_analytics", tag = "analytics", params(ConsumerParams),
    description = "A billing window counts in the step in which it ends. Steps in which nothing happened are left out.",
    responses((status = 200, body = ConsumerView), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn consumer(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<ConsumerParams>,
) -> Result<Json<ConsumerView>> {
    let (from, to) = (
        moment("from", params.from.as_deref())?,
        moment("to", params.to.as_deref())?,
    );
    let range = Range::new(from, to, params.step.into(), ctx.now)?;
    let spending = app
        .db
        .read("analytics.consumer", move |tx| {
            super::consumer(tx, &ctx, &range)
        })
        .await?;
    let item = |point: super::ConsumerPoint| ConsumerPointView {
        at: point.at,
        spent: point.spent,
        billed_ms: point.billed_ms,
    };
    Ok(Json(ConsumerView {
        items: spending.points.into_iter().map(item).collect(),
        burn_rate_per_hour: spending.burn_per_hour,
        running_rentals: spending.running,
    }))
}

#[derive(Deserialize, ToSchema, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
enum MarketStep {
    Sample,
    #[default]
    Hour,
    Day,
}

#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Resource {
    Ram,
    Cpu,
    Gpu,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MarketParams {
    /// `ram` (prices per GiB and hour), `cpu` or `gpu` (per piece and hour).
    #[param(inline)]
    resource: Resource,
    /// RFC 3339; steps are whole.
    from: Option<String>,
    to: Option<String>,
    /// `sample` (every five minutes, kept for a week), `hour` (90 days) or `day`: what was at the beginning of the step.
    #[serde(default)]
    #[param(inline)]
    step: MarketStep,
}

/// What was asked in one currency.
#[derive(Serialize, ToSchema)]
struct MarketPricesView {
    #[schema(value_type = String, example = "USDC")]
    currency: Asset,
    /// A tenth of the offers asked so much or less.
    #[schema(value_type = String, example = "0.001000")]
    p10: Amount,
    #[schema(value_type = String, example = "0.002000")]
    median: Amount,
    #[schema(value_type = String, example = "0.004000")]
    p90: Amount,
}

/// What the market looked like.
#[derive(Serialize, ToSchema)]
struct MarketPointView {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What was asked, by currency; none where nothing was on offer in it.
    prices: Vec<MarketPricesView>,
    /// What could be rented: bytes of memory, thousandths of processors, GPUs.
    available: i64,
}

/// The market over time.
#[derive(Serialize, ToSchema)]
struct MarketView {
    items: Vec<MarketPointView>,
}

fn market_point(point: &MarketPoint) -> Result<MarketPointView> {
    let prices = |(currency, [p10, median, p90]): &(Asset, [i64; 3])| {
        Ok(MarketPricesView {
            currency: *currency,
            p10: Amount::from_atomic(*p10)?,
            median: Amount::from_atomic(*median)?,
            p90: Amount::from_atomic(*p90)?,
        })
    };
    Ok(MarketPointView {
        at: point.at,
        prices: point.prices.iter().map(prices).collect::<Result<_>>()?,
        available: point.available,
    })
}

#[utoipa::path(get, path = "/analytics/market", operation_id = "market_analytics", tag = "analytics", params(MarketParams),
    responses((status = 200, body = MarketView), Problems), security(()))]
async fn market(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<MarketParams>,
) -> Result<Json<MarketView>> {
    let (from, to) = (
        moment("from", params.from.as_deref())?,
        moment("to", params.to.as_deref())?,
    );
    let step = match params.step {
        MarketStep::Sample => Step::Sample,
        MarketStep::Hour => Step::Hour,
        MarketStep::Day => Step::Day,
    };
    let resource = match params.resource {
        Resource::Ram => "ram",
        Resource::Cpu => "cpu",
        Resource::Gpu => "gpu",
    };
    let range = Range::new(from, to, step, ctx.now)?;
    let points = app
        .db
        .read("analytics.market", move |tx| {
            super::market(tx, resource, &range)
        })
        .await?;
    let items: Result<_> = points.iter().map(market_point).collect();
    Ok(Json(MarketView { items: items? }))
}
