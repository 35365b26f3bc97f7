//! `/admin/*`: books, figures, refunds; accounts, nodes and settings are in the files beside.

mod disputes;
mod nodes;
mod settings;
mod users;

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use shared::{id::RentalId, money::Money, time::Timestamp};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    books,
    context::OpCtx,
    domain::{
        admin::{self, Refund},
        invoices, ledger,
        payments::idempotency::IdempotencyKey,
    },
    error::{Error, Result},
    http::{Json, Problems, RawBody, extract::parse_json},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::ban))
        .routes(routes!(nodes::unban))
        .routes(routes!(users::list))
        .routes(routes!(users::roles))
        .routes(routes!(users::disable))
        .routes(routes!(users::enable))
        .routes(routes!(users::end_sessions))
        .routes(routes!(check_books))
        .routes(routes!(resume_books))
        .routes(routes!(figures))
        .routes(routes!(refund))
        .routes(routes!(disputes::list))
        .routes(routes!(disputes::decide))
        .routes(routes!(settings::get, settings::put))
        .routes(routes!(settings::announcement))
}

#[utoipa::path(
    get, path = "/admin/ledger/check", operation_id = "check_ledger", tag = "admin",
    description = "Proves over the whole database that the books add up; takes as long as that takes.",
    responses((status = 200, body = Object), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn check_books(State(app): State<Arc<App>>) -> Result<Json<books::Report>> {
    books::check(&app.db, app.clock.now()).await.map(Json)
}

/// Why the books may be trusted again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResumeBody {
    /// Goes into the audit log.
    #[schema(example = "a row was restored from a wrong copy: put right")]
    reason: String,
}

#[utoipa::path(
    post, path = "/admin/ledger/resume", operation_id = "resume_ledger", tag = "admin",
    description = "Lets money go again after a halt. Refused unless a full check, made now, finds that the books add up. \
        While nothing is halted it changes nothing.",
    request_body = ResumeBody, responses((status = 200, body = Object), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn resume_books(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Json(body): Json<ResumeBody>,
) -> Result<Json<books::Report>> {
    let reason = admin::reason(&body.reason)?;
    let report = books::check(&app.db, ctx.now).await?;
    let Some(seen) = report.halted.clone() else {
        return Ok(Json(report));
    };
    if let Some(broken) = books::first_broken(&report.findings) {
        return Err(Error::conflict(
            "books_broken",
            format!(
                "{} still doesn't hold ({}): mend it first, GET /admin/ledger/check shows all of it",
                broken.invariant, broken.statement
            ),
        ));
    }
    app.db
        .write("ledger.resume", move |tx| {
            ledger::halt::lift(tx, &ctx, &seen, &reason)
        })
        .await?;
    Ok(Json(books::Report {
        halted: None,
        ..report
    }))
}

/// The market in figures, from counters that are kept anyway.
#[derive(Serialize, ToSchema)]
struct FiguresView {
    /// Offers that can be rented now.
    offers: usize,
    /// Nodes behind them.
    nodes: usize,
    ram_rentable_bytes: i64,
    ram_free_bytes: i64,
    /// Rentals that run or are about to.
    running_rentals: i64,
    /// What the platform earned and still has, by currency.
    #[schema(value_type = Vec<crate::http::openapi::MoneySchema>)]
    platform_fees: Vec<Money>,
    /// Payments whose settlement isn't known yet, and other work that outlives its request.
    background_work: usize,
    /// The version of the settings.
    settings_version: i64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

#[utoipa::path(
    get, path = "/admin/metrics", operation_id = "platform_figures", tag = "admin",
    description = "The market in figures. For time series, scrape /metrics.",
    responses((status = 200, body = FiguresView), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn figures(ctx: OpCtx, State(app): State<Arc<App>>) -> Result<Json<FiguresView>> {
    let (platform_fees, settings) = app
        .db
        .read("admin.figures", move |tx| {
            let fees = admin::platform_fees(tx)?;
            Ok((fees, crate::domain::settings::current(tx)?))
        })
        .await?;
    let market = app.market.numbers(app.purchases.payees.default_asset());
    Ok(Json(FiguresView {
        offers: market.offers,
        nodes: market.nodes,
        ram_rentable_bytes: market.ram_rentable_bytes,
        ram_free_bytes: market.ram_free_bytes,
        running_rentals: market.running_rentals,
        platform_fees,
        background_work: app.background.len(),
        settings_version: settings.version,
        at: ctx.now,
    }))
}

/// A refund.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefundBody {
    #[schema(value_type = String, example = "rnt_0192f0c1a2b37c4d8e5f60718293a4b5")]
    rental_id: RentalId,
    #[schema(value_type = Object, example = json!({"amount": "0.5", "currency": "USDC"}))]
    amount: Money,
    /// Goes into the audit log.
    #[schema(example = "the node was slower than promised")]
    reason: String,
}

/// What was refunded.
#[derive(Serialize, ToSchema)]
struct RefundView {
    #[schema(value_type = String)]
    rental_id: RentalId,
    #[schema(value_type = Object)]
    amount: Money,
}

#[utoipa::path(
    post, path = "/admin/refunds", operation_id = "refund", tag = "admin",
    description = "Gives back what a rental cost, out of the platform's fees. Needs an Idempotency-Key: the same key refunds once.",
    params(("Idempotency-Key" = String, Header, description = "New for each refund.")),
    request_body = RefundBody, responses((status = 201, body = RefundView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn refund(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<(StatusCode, Json<RefundView>)> {
    let body: RefundBody = parse_json(&raw)?;
    let key = IdempotencyKey::read(&headers, &ctx, "refund", &raw)?;
    let refund = Refund {
        rental: body.rental_id,
        amount: body.amount,
        reason: admin::reason(&body.reason)?,
    };
    let view = RefundView {
        rental_id: refund.rental,
        amount: refund.amount.clone(),
    };
    let rules = invoices::api::rules(&app);
    app.db
        .write("admin.refund", move |tx| {
            admin::refund(tx, &ctx, &rules, &refund, &key)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(view)))
}
