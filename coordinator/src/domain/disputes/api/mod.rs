//! `/rentals/{id}/report` and `/disputes`: reporting a rental, what was said about it, and what became of it. Deciding is among what
//! administrators do (`domain/admin`).

pub mod view;

use std::sync::Arc;

use axum::{extract::State as AxumState, http::StatusCode};
use serde::Deserialize;
use shared::id::{DisputeId, RentalId};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{DisputeDetail, DisputeStatementView, DisputeView};
use super::{
    Report, Side,
    model::{Reason, statement},
};
use crate::{
    app::App,
    context::OpCtx,
    error::Result,
    http::{ClientIp, Json, Page, Paging, Path, Problems, Query, SeenAs, SidedParams},
    limits::{Action, Caller},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(report))
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(say))
}

/// Counts what the caller says: of an account, or else of the client's address.
fn count(app: &App, ctx: &OpCtx, client: ClientIp) -> Result<()> {
    let caller = match ctx.user() {
        Ok(user) => Caller::User(user.id),
        Err(_) => Caller::Address(client.group()),
    };
    app.limits
        .count(Action::Dispute, caller, app.clock.boot_ms())
}

/// What is wrong with a rental.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReportBody {
    /// `unreachable`, `slow`, `not_as_described`, `interrupted` or `other`.
    #[schema(value_type = String, example = "unreachable")]
    reason: Reason,
    /// What happened, at most 4096 bytes. The provider reads it.
    #[schema(example = "the port never answered")]
    text: String,
}

#[utoipa::path(
    post, path = "/rentals/{id}/report", operation_id = "report_rental", tag = "disputes", params(("id" = String, Path)),
    description = "Says that this rental isn't what was paid for, while it runs or for a while after its settlement. Its meter stops at \
        this moment and it is told to stop; what it earned isn't released before an administrator has decided. A rental is reported once: \
        reporting it again answers 200 with the dispute.",
    request_body = ReportBody,
    responses((status = 201, body = DisputeView), (status = 200, body = DisputeView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn report(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    client: ClientIp,
    Path(id): Path<RentalId>,
    Json(body): Json<ReportBody>,
) -> Result<(StatusCode, Json<DisputeView>)> {
    let report = Report {
        rental: id,
        reason: body.reason,
        statement: statement("/text", &body.text)?,
    };
    count(&app, &ctx, client)?;
    let (postbox, window_ms) = (
        Arc::clone(&app.postbox),
        i64::from(app.config.market.dispute_window_s).saturating_mul(1_000),
    );
    let (dispute, node, is_new) = app
        .db
        .write("dispute.report", move |tx| {
            let (dispute, is_new) = super::report(tx, &ctx, &postbox, &report, window_ms)?;
            let rental = crate::domain::rentals::find(tx, dispute.rental)?;
            Ok((dispute, rental.node_id, is_new))
        })
        .await?;
    let status = if is_new {
        app.agents.nudger.nudge(node);
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(DisputeView::from(dispute))))
}

#[utoipa::path(
    get, path = "/disputes", operation_id = "list_disputes", tag = "disputes", params(SidedParams),
    description = "Newest first.", responses((status = 200, body = Page<DisputeView>), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []))
)]
async fn list(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Query(params): Query<SidedParams>,
) -> Result<Json<Page<DisputeView>>> {
    let side = match params.seen_as {
        SeenAs::Consumer => Side::Consumer,
        SeenAs::Provider => Side::Provider,
    };
    let paging = params.paging()?;
    page(&app, ctx, side, &paging).await.map(Json)
}

/// A page of disputes.
///
/// # Errors
/// As [`super::list`]; 400 for a cursor that isn't of this list.
pub async fn page(app: &App, ctx: OpCtx, side: Side, paging: &Paging) -> Result<Page<DisputeView>> {
    let before: Option<DisputeId> = paging.after()?;
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("dispute.list", move |tx| {
            super::list(tx, &ctx, side, before, fetch)
        })
        .await?;
    Ok(Page::of(rows, paging, |dispute| dispute.id)?.map(DisputeView::from))
}

#[utoipa::path(
    get, path = "/disputes/{id}", operation_id = "get_dispute", tag = "disputes", params(("id" = String, Path)),
    description = "With the evidence as it was at the report, and what both parties said.",
    responses((status = 200, body = DisputeDetail), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn get(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<DisputeId>,
) -> Result<Json<DisputeDetail>> {
    let (dispute, said) = app
        .db
        .read("dispute.get", move |tx| super::get(tx, &ctx, id))
        .await?;
    Ok(Json(DisputeDetail::new(dispute, said)))
}

/// A statement about a dispute.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StatementBody {
    /// At most 4096 bytes. Both parties read it.
    #[schema(example = "the port answers from here")]
    text: String,
}

#[utoipa::path(
    post, path = "/disputes/{id}/evidence", operation_id = "add_dispute_evidence", tag = "disputes", params(("id" = String, Path)),
    description = "Adds a statement, which can't be changed afterwards; each party adds at most 20.",
    request_body = StatementBody, responses((status = 201, body = DisputeStatementView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
async fn say(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    client: ClientIp,
    Path(id): Path<DisputeId>,
    Json(body): Json<StatementBody>,
) -> Result<(StatusCode, Json<DisputeStatementView>)> {
    let text = statement("/text", &body.text)?;
    count(&app, &ctx, client)?;
    let said = app
        .db
        .write("dispute.say", move |tx| super::say(tx, &ctx, id, &text))
        .await?;
    Ok((StatusCode::CREATED, Json(DisputeStatementView::from(said))))
}
