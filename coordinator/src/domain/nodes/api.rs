//! `/nodes/*` for people and for enrolment; beats are in `agentlink`.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    id::{NodeId, UserId},
    resources::Resources,
    time::Timestamp,
    wire::enroll::{EnrollReply, EnrollRequest},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Change, Resize,
    model::{Node, Schedulability},
};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{
        IfMatch, Json, Page, Paging, Path, Problems, PublicCtx, Query, RawBody, Tag, Tagged,
        etag::IfMatchParam, extract::parse_json,
    },
};

pub mod blocklists;

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(add_token))
        .routes(routes!(enroll))
        .routes(routes!(list))
        .routes(routes!(get, patch, retire))
        .routes(routes!(cordon))
        .routes(routes!(uncordon))
        .routes(routes!(drain))
        .merge(blocklists::routes())
}

/// A token for one machine.
#[derive(Serialize, ToSchema)]
struct TokenView {
    /// Shown once; give it to `ramarket-agent enroll` on the machine.
    #[schema(example = "enr_5b1f…")]
    token: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

#[utoipa::path(
    post, path = "/nodes/enrollment-tokens", operation_id = "create_enrollment_token", tag = "nodes",
    responses((status = 201, body = TokenView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn add_token(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
) -> Result<(StatusCode, Json<TokenView>)> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("no random numbers"))?;
    let token = format!("enr_{}", hex::encode(bytes));
    let kept = token.clone();
    let expires_at = app
        .db
        .write("node.token", move |tx| super::add_token(tx, &ctx, &kept))
        .await?;
    Ok((StatusCode::CREATED, Json(TokenView { token, expires_at })))
}

#[utoipa::path(
    post, path = "/nodes/enroll", operation_id = "enroll_node", tag = "nodes",
    description = "For agents. The same key with the same token is answered again.",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 201, body = Object), Problems), security(())
)]
async fn enroll(
    PublicCtx(ctx): PublicCtx,
    State(app): State<Arc<App>>,
    RawBody(body): RawBody,
) -> Result<(StatusCode, Json<EnrollReply>)> {
    let request: EnrollRequest = parse_json(&body)?;
    let node = app
        .db
        .write("node.enroll", move |tx| super::enroll(tx, &ctx, &request))
        .await?;
    let reply = EnrollReply {
        node_id: node.id,
        coordinator_key: app.keys.journal_ack.public(),
        server_time: app.clock.now(),
        public_url: app.config.http.public_url(),
    };
    Ok((StatusCode::CREATED, Json(reply)))
}

/// A node as its owner sees it.
#[derive(Serialize, ToSchema)]
pub struct NodeView {
    /// Which.
    #[schema(value_type = String)]
    id: NodeId,
    /// Whose.
    #[schema(value_type = String)]
    owner: UserId,
    /// For people.
    name: String,
    /// `member`, `retired`, `banned`.
    lifecycle: &'static str,
    /// `active`, `cordoned`, `draining`, `drained`: what people want.
    schedulability: &'static str,
    /// `warming`, `online`, `suspect`, `offline`: what is observed.
    availability: &'static str,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    availability_at: Timestamp,
    /// Where it stands.
    region: String,
    /// What is rented out of it.
    #[schema(value_type = Object)]
    rentable: Resources,
    /// What of that is free.
    #[schema(value_type = Object)]
    free: Resources,
    /// The most of it that can be rented out.
    #[schema(value_type = Object)]
    rentable_max: Resources,
    /// What was measured.
    #[schema(value_type = Object)]
    inventory: Value,
    /// The agent's version.
    agent_version: String,
    /// When it enrolled.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Stands for what its owner can change.
fn tag(node: &Node) -> Tag {
    let rentable = format!("{:?}", node.rentable);
    Tag::of_fields(&[
        &node.name,
        &node.region,
        &rentable,
        node.lifecycle.name(),
        node.schedulability.name(),
    ])
}

fn tagged(node: Node) -> Result<Tagged<Json<NodeView>>> {
    Ok(Tagged(tag(&node), Json(view(node)?)))
}

/// What of a node is shown.
///
/// # Errors
/// Its inventory can't be written.
pub fn view(node: Node) -> Result<NodeView> {
    Ok(NodeView {
        id: node.id,
        owner: node.owner,
        name: node.name,
        lifecycle: node.lifecycle.name(),
        schedulability: node.schedulability.name(),
        availability: node.availability.name(),
        availability_at: node.availability_at,
        region: node.region,
        rentable: node.rentable,
        free: node.free,
        rentable_max: super::model::rentable_max(&node.inventory),
        inventory: serde_json::to_value(&node.inventory).map_err(Error::internal)?,
        agent_version: node.agent_version,
        created_at: node.created_at,
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/nodes", operation_id = "list_nodes", tag = "nodes", params(ListParams),
    description = "Your nodes; an admin sees all.",
    responses((status = 200, body = Page<NodeView>), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn list(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<NodeView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("node.list", move |tx| super::list(tx, &ctx, &after, fetch))
        .await?;
    let page = Page::of(rows, &paging, |node| node.id.to_string())?;
    page.try_map(view).map(Json)
}

/// A node with what was noted about it.
#[derive(Serialize, ToSchema)]
struct NodeDetail {
    #[serde(flatten)]
    node: NodeView,
    /// What an honest node doesn't do.
    flags: Vec<FlagView>,
}

#[derive(Serialize, ToSchema)]
struct FlagView {
    code: String,
    detail: String,
    #[schema(value_type = String, format = DateTime)]
    first_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    last_at: Timestamp,
    times: i64,
}

#[utoipa::path(
    get, path = "/nodes/{id}", operation_id = "get_node", tag = "nodes", params(("id" = String, Path)),
    responses((status = 200, body = NodeDetail), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn get(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
) -> Result<Tagged<Json<NodeDetail>>> {
    let (node, flags) = app
        .db
        .read("node.get", move |tx| {
            Ok((super::get_own(tx, &ctx, id)?, super::flags(tx, id)?))
        })
        .await?;
    let flags = flags
        .into_iter()
        .map(|flag| FlagView {
            code: flag.code,
            detail: flag.detail,
            first_at: flag.first_at,
            last_at: flag.last_at,
            times: flag.times,
        })
        .collect();
    let tag = tag(&node);
    let node = view(node)?;
    Ok(Tagged(tag, Json(NodeDetail { node, flags })))
}

/// What to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PatchNodeRequest {
    #[schema(example = "attic")]
    name: Option<String>,
    #[schema(example = "eu-north")]
    region: Option<String>,
    /// How much of the machine is rented out.
    #[serde(default)]
    rentable: RentableBody,
}

/// How much of a machine is rented out; what is left out stays.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RentableBody {
    #[schema(example = 8_589_934_592_i64)]
    ram_bytes: Option<i64>,
    /// Thousandths of a processor.
    #[schema(example = 2_000)]
    cpu_millis: Option<i64>,
    /// Whole GPUs.
    #[schema(example = 1)]
    gpu_count: Option<i64>,
    #[schema(example = 107_374_182_400_i64)]
    disk_bytes: Option<i64>,
}

#[utoipa::path(
    patch, path = "/nodes/{id}", operation_id = "change_node", tag = "nodes",
    params(("id" = String, Path), IfMatchParam),
    request_body = PatchNodeRequest, responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn patch(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    seen: IfMatch,
    Json(request): Json<PatchNodeRequest>,
) -> Result<Tagged<Json<NodeView>>> {
    let change = Change {
        name: request.name,
        region: request.region,
        rentable: Resize {
            ram_bytes: request.rentable.ram_bytes,
            cpu_millis: request.rentable.cpu_millis,
            gpu_count: request.rentable.gpu_count,
            disk_bytes: request.rentable.disk_bytes,
        },
    };
    let node = app
        .db
        .write("node.change", move |tx| {
            seen.check(&tag(&super::get_own_locked(tx, &ctx, id)?))?;
            super::change(tx, &ctx, id, &change)
        })
        .await?;
    tagged(node)
}

#[utoipa::path(
    delete, path = "/nodes/{id}", operation_id = "retire_node", tag = "nodes",
    params(("id" = String, Path), IfMatchParam),
    description = "Takes an idle node out of the market for good.",
    responses((status = 204), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn retire(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    seen: IfMatch,
) -> Result<StatusCode> {
    app.db
        .write("node.retire", move |tx| {
            seen.check(&tag(&super::get_own_locked(tx, &ctx, id)?))?;
            super::retire(tx, &ctx, id)
        })
        .await?;
    app.agents.presence.forget(id);
    Ok(StatusCode::NO_CONTENT)
}

async fn schedule(
    ctx: OpCtx,
    app: Arc<App>,
    id: NodeId,
    to: Schedulability,
) -> Result<Tagged<Json<NodeView>>> {
    let node = app
        .db
        .write("node.schedule", move |tx| super::schedule(tx, &ctx, id, to))
        .await?;
    tagged(node)
}

#[utoipa::path(
    post, path = "/nodes/{id}/cordon", operation_id = "cordon_node", tag = "nodes", params(("id" = String, Path)),
    description = "No new rentals; what runs goes on.", responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn cordon(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
) -> Result<Tagged<Json<NodeView>>> {
    schedule(ctx, app, id, Schedulability::Cordoned).await
}

#[utoipa::path(
    post, path = "/nodes/{id}/uncordon", operation_id = "uncordon_node", tag = "nodes", params(("id" = String, Path)),
    description = "Back on the market.", responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn uncordon(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
) -> Result<Tagged<Json<NodeView>>> {
    schedule(ctx, app, id, Schedulability::Active).await
}

#[utoipa::path(
    post, path = "/nodes/{id}/drain", operation_id = "drain_node", tag = "nodes", params(("id" = String, Path)),
    description = "No new rentals; those that run end at their time.", responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn drain(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
) -> Result<Tagged<Json<NodeView>>> {
    schedule(ctx, app, id, Schedulability::Draining).await
}
