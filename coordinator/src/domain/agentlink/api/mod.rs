//! `/nodes/{id}/heartbeat` and, in [`link`], `/nodes/{id}/link`, for agents.

mod link;

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, State},
    http::{HeaderMap, Method, Uri},
    response::{IntoResponse, Response},
};
use shared::{
    id::NodeId,
    wire::{
        HEARTBEAT_BYTES_MAX,
        heartbeat::{Beat, Reply},
        problem::agent_codes,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    admission::{Refusal, Signed},
    beat::Admitted,
};
use crate::{
    app::App,
    error::{Error, Kind},
    http::{
        Json, Path, Problems, RawBody,
        error::{problem, respond, status_of},
        extract::parse_json,
    },
    limits::{Action, Caller},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(heartbeat))
        .routes(routes!(link::link))
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Some(recover) = self.recover else {
            return self.error.into_response();
        };
        let status = status_of(self.error.kind());
        let mut problem = problem(&self.error, status);
        problem.recover = Some(*recover);
        respond(status, &problem)
    }
}

#[utoipa::path(
    post, path = "/nodes/{id}/heartbeat", operation_id = "heartbeat", tag = "agents", params(("id" = String, Path)),
    description = "Signed by RFC 9421 with the node's key over @method, @target-uri and content-digest.",
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, body = Object), Problems), security(())
)]
async fn heartbeat(
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    OriginalUri(uri): OriginalUri,
    method: Method,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Json<Reply>, Refusal> {
    let now = app.clock.now();
    if body.len() > HEARTBEAT_BYTES_MAX {
        return Err(
            Error::new(Kind::TooLarge, "body_too_large", "a beat has at most 1 MiB").into(),
        );
    }
    let signed = Signed {
        method: &method,
        path_and_query: path_and_query(&uri),
        headers: &headers,
        body: Some(&body),
    };
    let (key, _nonce) = app.agents.authenticate(id, signed, now).await?;
    // counted by its signature, not by its path: nobody uses up another node's beats
    if !app.agents.presence.was_asked(id) {
        app.limits
            .count(Action::Beat, Caller::Node(id), app.clock.boot_ms())?;
    }
    let beat: Beat = parse_json(&body)?;
    if let Err(refusal) = app.agents.admit(id, &beat, now) {
        if refusal.error.code() == agent_codes::KEY_IN_USE_TWICE {
            app.agents
                .flag(
                    id,
                    agent_codes::KEY_IN_USE_TWICE,
                    refusal.error.detail(),
                    now,
                )
                .await;
        }
        return Err(refusal);
    }
    let (reply, ended) = app
        .agents
        .ingest(Admitted {
            node: id,
            key,
            beat,
            received_at: now,
        })
        .await?;
    if ended {
        app.tasks.poke(crate::tasks::settlement::NAME);
    }
    if reply.more {
        app.agents.presence.ask_beat(id);
    }
    Ok(Json(reply))
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query()
        .map_or_else(|| uri.path(), |both| both.as_str())
}
