//! `/nodes/{id}/blocklists`: whom and what a machine's owner doesn't serve.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::{id::NodeId, image::rules::Pattern, time::Timestamp};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    context::OpCtx,
    domain::nodes::blocklists::{self, Blocked, Blocklists},
    error::{Error, Result},
    http::{IfMatch, Json, Path, Problems, Tag, Tagged, etag::IfMatchParam},
};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(get, replace))
}

/// Whom and what isn't served, whole: what is left out is served again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BlocklistsBody {
    /// Accounts, and wallets that pay without one; at most 256.
    #[serde(default)]
    #[schema(example = json!(["usr_0192f0c1a2b37c4d8e5f60718293a4b5", "0x209693bc6afc0c5328ba36faf03c514ef312287c"]))]
    consumers: Vec<String>,
    /// Whole names of repositories, with * for any characters, and digests; at most 256.
    #[serde(default)]
    #[schema(example = json!(["docker.io/owner/*"]))]
    images: Vec<String>,
    /// Registries, with * for any characters; at most 256.
    #[serde(default)]
    #[schema(example = json!(["*.example.org"]))]
    registries: Vec<String>,
}

impl BlocklistsBody {
    fn parse(&self) -> Result<Blocklists> {
        let blocked = |text: &String| {
            text.parse::<Blocked>().map_err(|()| {
                Error::invalid(
                    "/consumers",
                    "ids of accounts (usr_…) and addresses of wallets (0x…)",
                )
            })
        };
        let patterns = |pointer: &str, texts: &[String]| {
            let parse = |text: &String| {
                text.parse::<Pattern>()
                    .map_err(|error| Error::invalid(pointer, error.to_string()))
            };
            texts.iter().map(parse).collect::<Result<Vec<Pattern>>>()
        };
        Ok(Blocklists {
            consumers: self.consumers.iter().map(blocked).collect::<Result<_>>()?,
            images: patterns("/images", &self.images)?,
            registries: patterns("/registries", &self.registries)?,
            ..Blocklists::default()
        })
    }
}

/// Whom and what isn't served.
#[derive(Serialize, ToSchema)]
struct BlocklistsView {
    /// Accounts and wallets.
    consumers: Vec<String>,
    /// Repositories and digests.
    images: Vec<String>,
    /// Registries.
    registries: Vec<String>,
    /// Null before the first change.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
}

fn tag(lists: &Blocklists) -> Tag {
    Tag::of_version(lists.version)
}

fn tagged(lists: &Blocklists) -> Tagged<Json<BlocklistsView>> {
    let texts = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect();
    let view = BlocklistsView {
        consumers: lists.consumers.iter().map(ToString::to_string).collect(),
        images: texts(&lists.images),
        registries: texts(&lists.registries),
        updated_at: lists.updated_at,
    };
    Tagged(tag(lists), Json(view))
}

#[utoipa::path(
    get, path = "/nodes/{id}/blocklists", operation_id = "get_node_blocklists", tag = "nodes", params(("id" = String, Path)),
    description = "Whom and what the node's owner doesn't serve.",
    responses((status = 200, body = BlocklistsView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn get(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
) -> Result<Tagged<Json<BlocklistsView>>> {
    let lists = app
        .db
        .read("node.blocklists", move |tx| {
            blocklists::get_own(tx, &ctx, id)
        })
        .await?;
    Ok(tagged(&lists))
}

#[utoipa::path(
    put, path = "/nodes/{id}/blocklists", operation_id = "replace_node_blocklists", tag = "nodes",
    params(("id" = String, Path), IfMatchParam),
    description = "New quotes and rentals are refused by the new lists at once; what runs goes on.",
    request_body = BlocklistsBody, responses((status = 200, body = BlocklistsView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn replace(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    seen: IfMatch,
    Json(request): Json<BlocklistsBody>,
) -> Result<Tagged<Json<BlocklistsView>>> {
    let lists = request.parse()?;
    let lists = app
        .db
        .write("node.blocklists", move |tx| {
            let check = |old: &Blocklists| seen.check(&tag(old));
            blocklists::replace(tx, &ctx, id, &lists, &check)
        })
        .await?;
    Ok(tagged(&lists))
}
