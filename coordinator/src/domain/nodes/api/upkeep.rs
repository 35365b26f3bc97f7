//! `/nodes/{id}/{cordon,uncordon,drain,maintenance}`: what a provider wants of a node in time.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::{id::NodeId, time::Timestamp, wire::operator::Maintenance};
use utoipa::{IntoParams, ToSchema};

use super::{super::model::Schedulability, NodeView, tag, tagged};
use crate::{
    app::App,
    context::OpCtx,
    error::Result,
    http::{IfMatch, Json, Path, Problems, Query, Tagged, etag::IfMatchParam},
};

/// A time in which a node can't be relied on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceView {
    /// Its beginning.
    #[schema(value_type = String, format = DateTime, example = "2027-01-10T02:00:00Z")]
    starts_at: Timestamp,
    /// Its end.
    #[schema(value_type = String, format = DateTime, example = "2027-01-10T04:00:00Z")]
    ends_at: Timestamp,
    /// Why, for whoever rents there.
    #[serde(default)]
    #[schema(example = "a new disk")]
    note: String,
}

impl From<Maintenance> for MaintenanceView {
    fn from(window: Maintenance) -> Self {
        Self {
            starts_at: window.starts_at,
            ends_at: window.ends_at,
            note: window.note,
        }
    }
}

/// When a node can't be relied on, in place of what was planned before.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MaintenanceRequest {
    /// At most 16; those that are over are left out.
    windows: Vec<MaintenanceView>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainParams {
    /// After so many seconds what still runs is ended as `preempted`; only the time that it ran is paid. At most 30 days; no deadline
    /// unless given.
    #[param(minimum = 0, maximum = 2_592_000)]
    deadline_seconds: Option<i64>,
}

async fn schedule(
    ctx: OpCtx,
    app: Arc<App>,
    id: NodeId,
    to: Schedulability,
    deadline: Option<Timestamp>,
) -> Result<Tagged<Json<NodeView>>> {
    let node = app
        .db
        .write("node.schedule", move |tx| {
            super::super::schedule(tx, &ctx, id, to, deadline)
        })
        .await?;
    app.tasks.poke(crate::tasks::upkeep::NAME);
    tagged(node)
}

#[utoipa::path(
    post, path = "/nodes/{id}/cordon", operation_id = "cordon_node", tag = "nodes", params(("id" = String, Path)),
    description = "No new rentals; what runs goes on.", responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn cordon(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
) -> Result<Tagged<Json<NodeView>>> {
    schedule(ctx, app, id, Schedulability::Cordoned, None).await
}

#[utoipa::path(
    post, path = "/nodes/{id}/uncordon", operation_id = "uncordon_node", tag = "nodes", params(("id" = String, Path)),
    description = "Back on the market.", responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn uncordon(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
) -> Result<Tagged<Json<NodeView>>> {
    schedule(ctx, app, id, Schedulability::Active, None).await
}

#[utoipa::path(
    post, path = "/nodes/{id}/drain", operation_id = "drain_node", tag = "nodes",
    params(("id" = String, Path), DrainParams),
    description = "No new rentals; those that run end at their time, or at the deadline.",
    responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn drain(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    Query(params): Query<DrainParams>,
) -> Result<Tagged<Json<NodeView>>> {
    let deadline = params
        .deadline_seconds
        .map(|seconds| ctx.now.plus_ms(seconds.saturating_mul(1_000)));
    schedule(ctx, app, id, Schedulability::Draining, deadline).await
}

#[utoipa::path(
    put, path = "/nodes/{id}/maintenance", operation_id = "plan_node_maintenance", tag = "nodes",
    params(("id" = String, Path), IfMatchParam),
    description = "Plans when the node can't be relied on. Nothing is rented that would run into it; what runs already goes on, and whoever \
        rents it is told.",
    request_body = MaintenanceRequest, responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn plan(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    seen: IfMatch,
    Json(request): Json<MaintenanceRequest>,
) -> Result<Tagged<Json<NodeView>>> {
    let windows: Vec<Maintenance> = request
        .windows
        .into_iter()
        .map(|window| Maintenance {
            starts_at: window.starts_at,
            ends_at: window.ends_at,
            note: window.note,
        })
        .collect();
    let node = app
        .db
        .write("node.maintenance", move |tx| {
            seen.check(&tag(&super::super::get_own_locked(tx, &ctx, id)?))?;
            super::super::plan_maintenance(tx, &ctx, id, &windows)
        })
        .await?;
    app.tasks.poke(crate::tasks::upkeep::NAME);
    tagged(node)
}
