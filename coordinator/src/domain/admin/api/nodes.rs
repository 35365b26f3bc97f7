//! `/admin/nodes`: every node, and throwing one out.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use shared::id::{NodeId, UserId};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    context::OpCtx,
    domain::{
        admin,
        nodes::{
            self,
            api::{NodeView, view},
        },
    },
    error::Result,
    http::{Json, Page, Paging, Path, Problems, Query},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only this account's.
    #[param(value_type = Option<String>)]
    owner: Option<UserId>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/admin/nodes", operation_id = "admin_list_nodes", tag = "admin", params(ListParams),
    description = "Every node, retired and banned ones too.",
    responses((status = 200, body = Page<NodeView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<NodeView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("admin.nodes", move |tx| {
            nodes::all(tx, params.owner, &after, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |node| node.id.to_string())?;
    page.try_map(view).map(Json)
}

/// Why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    /// Goes into the audit log.
    #[schema(example = "reports of stolen hardware")]
    pub(super) reason: String,
}

#[utoipa::path(
    post, path = "/admin/nodes/{id}/ban", operation_id = "ban_node", tag = "admin", params(("id" = String, Path)),
    description = "Throws a node out: its beats are refused (`node_banned`), its rentals end as `banned` and their unused money goes back.",
    request_body = ReasonBody, responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn ban(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    Json(body): Json<ReasonBody>,
) -> Result<Json<NodeView>> {
    let reason = admin::reason(&body.reason)?;
    let node = app
        .db
        .write("admin.ban", move |tx| admin::ban(tx, &ctx, id, &reason))
        .await?;
    app.agents.presence.forget(id);
    app.tasks.poke(crate::tasks::settlement::NAME);
    view(node).map(Json)
}

#[utoipa::path(
    post, path = "/admin/nodes/{id}/unban", operation_id = "unban_node", tag = "admin", params(("id" = String, Path)),
    description = "Takes a banned node back; it is on the market again once it has beaten.",
    request_body = ReasonBody, responses((status = 200, body = NodeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn unban(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    Json(body): Json<ReasonBody>,
) -> Result<Json<NodeView>> {
    let reason = admin::reason(&body.reason)?;
    let node = app
        .db
        .write("admin.unban", move |tx| admin::unban(tx, &ctx, id, &reason))
        .await?;
    app.agents.presence.forget(id);
    view(node).map(Json)
}
