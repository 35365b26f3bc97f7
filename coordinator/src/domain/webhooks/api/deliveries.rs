//! What was sent to an endpoint, and sending by hand.

use std::sync::Arc;

use axum::{extract::State as AxumState, http::StatusCode};
use serde::Serialize;
use shared::{
    id::{DeliveryId, EventId, WebhookId},
    time::Timestamp,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::ListParams;
use crate::{
    app::App,
    context::OpCtx,
    domain::webhooks::{
        deliveries,
        model::{Delivery, DeliveryState},
    },
    error::Result,
    http::{Json, Page, Paging, Path, Problems, Query},
    limits::{Action, Caller},
    tasks::webhook_courier,
};

/// The routes of deliveries.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(test))
        .routes(routes!(list_deliveries))
        .routes(routes!(replay))
}

/// One event for one endpoint.
#[derive(Serialize, ToSchema)]
struct DeliveryView {
    #[schema(value_type = String)]
    id: DeliveryId,
    /// The event; sent as `webhook-id`.
    #[schema(value_type = String)]
    event_id: EventId,
    #[serde(rename = "type")]
    kind: String,
    /// `pending`, `delivered` or `failed`.
    state: &'static str,
    /// Since it was made or replayed.
    attempts: i64,
    /// While it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_try_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt: Option<AttemptView>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// What an attempt came to.
#[derive(Serialize, ToSchema)]
struct AttemptView {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    took_ms: i64,
    /// Absent if nothing answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The first KiB of the answer, or why there is none.
    answer: String,
}

fn delivery_view(delivery: Delivery) -> DeliveryView {
    DeliveryView {
        id: delivery.id,
        event_id: delivery.event,
        kind: delivery.kind,
        state: delivery.state.name(),
        attempts: delivery.attempts,
        next_try_at: (delivery.state == DeliveryState::Pending).then_some(delivery.next_try_at),
        last_attempt: delivery.last.map(|last| AttemptView {
            at: last.at,
            took_ms: last.took_ms,
            status: last.status,
            answer: last.answer,
        }),
        created_at: delivery.created_at,
    }
}

#[utoipa::path(post, path = "/webhooks/{id}/test", operation_id = "test_webhook", tag = "live", params(("id" = String, Path)),
    description = "Sends a `webhook.test`; look at the deliveries for what came of it.",
    responses((status = 202, body = DeliveryView), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn test(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<WebhookId>,
) -> Result<(StatusCode, Json<DeliveryView>)> {
    count_sending(&app, &ctx)?;
    let delivery = app
        .db
        .write("webhook.test", move |tx| deliveries::test(tx, &ctx, id))
        .await?;
    app.tasks.poke(webhook_courier::NAME);
    Ok((StatusCode::ACCEPTED, Json(delivery_view(delivery))))
}

/// Nobody makes us a machine gun.
fn count_sending(app: &App, ctx: &OpCtx) -> Result<()> {
    let caller = Caller::User(ctx.user()?.id);
    app.limits
        .count(Action::WebhookSend, caller, app.clock.boot_ms())
}

#[utoipa::path(get, path = "/webhooks/{id}/deliveries", operation_id = "list_webhook_deliveries", tag = "live",
    params(("id" = String, Path), ListParams), description = "The newest first.",
    responses((status = 200, body = Page<DeliveryView>), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn list_deliveries(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<WebhookId>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<DeliveryView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let (before, fetch) = (paging.after()?, paging.fetch());
    let rows = app
        .db
        .read("webhook.deliveries", move |tx| {
            deliveries::list(tx, &ctx, id, before, fetch)
        })
        .await?;
    Ok(Json(
        Page::of(rows, &paging, |delivery| delivery.id)?.map(delivery_view),
    ))
}

#[utoipa::path(post, path = "/webhooks/{id}/deliveries/{delivery_id}/replay", operation_id = "replay_webhook_delivery",
    tag = "live", params(("id" = String, Path), ("delivery_id" = String, Path)),
    description = "Sends it again under the same `webhook-id`, whatever came of it before.",
    responses((status = 202, body = DeliveryView), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn replay(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path((id, delivery)): Path<(WebhookId, DeliveryId)>,
) -> Result<(StatusCode, Json<DeliveryView>)> {
    count_sending(&app, &ctx)?;
    let replayed = app
        .db
        .write("webhook.replay", move |tx| {
            deliveries::replay(tx, &ctx, id, delivery)
        })
        .await?;
    app.tasks.poke(webhook_courier::NAME);
    Ok((StatusCode::ACCEPTED, Json(delivery_view(replayed))))
}
