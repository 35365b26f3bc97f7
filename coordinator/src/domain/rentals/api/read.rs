//! Looking at rentals, and stopping them.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::id::RentalId;
use utoipa::{IntoParams, ToSchema};

use super::view::{RentalView, view};
use crate::{
    app::App,
    context::OpCtx,
    domain::{
        events,
        rentals::{
            self, Side, changes,
            model::{EndReason, State as RentalState},
        },
    },
    error::Result,
    http::{Json, Page, Paging, Path, Problems, Query},
};

/// From which side to look.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum As {
    /// What you rent.
    #[default]
    Consumer,
    /// What runs on your nodes.
    Provider,
    /// Everything; admins only.
    Admin,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// `consumer`, `provider` or `admin`.
    #[serde(default, rename = "as")]
    #[param(value_type = Option<String>, rename = "as")]
    side: As,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/rentals", operation_id = "list_rentals", tag = "rentals", params(ListParams),
    description = "Newest first.", responses((status = 200, body = Page<RentalView>), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn list(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<RentalView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let before: Option<RentalId> = paging.after()?;
    let (fetch, now) = (paging.fetch(), ctx.now);
    let side = match params.side {
        As::Consumer => Side::Consumer,
        As::Provider => Side::Provider,
        As::Admin => Side::Everybody,
    };
    let rows = app
        .db
        .read("rental.list", move |tx| {
            rentals::list(tx, &ctx, side, before, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |rental| rental.id)?;
    page.try_map(|rental| view(&app, &rental, now)).map(Json)
}

#[utoipa::path(
    get, path = "/rentals/{id}", operation_id = "get_rental", tag = "rentals", params(("id" = String, Path)),
    responses((status = 200, body = RentalView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn get(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
) -> Result<Json<RentalView>> {
    let now = ctx.now;
    let rental = app
        .db
        .read("rental.get", move |tx| rentals::get(tx, &ctx, id))
        .await?;
    view(&app, &rental, now).map(Json)
}

async fn end(ctx: OpCtx, app: &App, id: RentalId) -> Result<Json<RentalView>> {
    let now = ctx.now;
    let rental = app
        .db
        .write("rental.stop", move |tx| {
            let rental = rentals::get_as_consumer(tx, &ctx, id)?;
            let own = ctx.user().is_err()
                || ctx
                    .user()
                    .is_ok_and(|user| rental.consumer == Some(user.id));
            let reason = if own {
                EndReason::Stopped
            } else {
                EndReason::Banned
            };
            changes::stop(tx, &ctx, &rental, reason)
        })
        .await?;
    if rental.state == RentalState::Stopping {
        app.agents.nudger.nudge(rental.node_id);
    }
    view(app, &rental, now).map(Json)
}

#[utoipa::path(
    post, path = "/rentals/{id}/stop", operation_id = "stop_rental", tag = "rentals", params(("id" = String, Path)),
    description = "Stops it; time not used is given back. Stopping again changes nothing.",
    responses((status = 200, body = RentalView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn stop(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
) -> Result<Json<RentalView>> {
    end(ctx, &app, id).await
}

#[utoipa::path(
    delete, path = "/rentals/{id}", operation_id = "delete_rental", tag = "rentals", params(("id" = String, Path)),
    description = "The same as stop.", responses((status = 200, body = RentalView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn delete(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
) -> Result<Json<RentalView>> {
    end(ctx, &app, id).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/rentals/{id}/events", operation_id = "rental_events", tag = "rentals",
    params(("id" = String, Path), PageParams),
    description = "What happened to it, oldest first.", responses((status = 200, body = Page<Object>), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn events(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
    Query(params): Query<PageParams>,
) -> Result<Json<Page<events::StoredEvent>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: i64 = paging.after()?.unwrap_or(0);
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("rental.events", move |tx| {
            rentals::get(tx, &ctx, id)?;
            events::of_rental(tx, id, after, fetch)
        })
        .await?;
    Page::of(rows, &paging, |event| event.seq).map(Json)
}

/// A rental's token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RentalTokenView {
    /// Opens this rental, as long as there is one.
    #[schema(example = "rmt_0192f0c1a2b37c4d8e5f60718293a4b5_…")]
    rental_token: String,
}

#[utoipa::path(
    post, path = "/rentals/{id}/token", operation_id = "renew_rental_token", tag = "rentals", params(("id" = String, Path)),
    description = "The rental's token again, for whoever rents it: an account, or by SIGN-IN-WITH-X the wallet that paid.",
    responses((status = 201, body = RentalTokenView), Problems),
    security(("access_token" = []), ("cookie" = []), ("wallet" = []))
)]
pub(super) async fn token(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
) -> Result<(StatusCode, Json<RentalTokenView>)> {
    let find = move |tx: &mut dyn crate::store::Tx| rentals::get_as_renter(tx, &ctx, id);
    let rental = app.db.read("rental.token", find).await?;
    let view = RentalTokenView {
        rental_token: app.rental_tokens.mint(rental.id).expose().clone(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}
