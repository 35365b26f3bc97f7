//! `/nodes/{id}/heartbeat` and `/nodes/{id}/link`, for agents.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        OriginalUri, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, Method, Uri},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::{
    id::NodeId,
    wire::{
        HEARTBEAT_BYTES_MAX,
        heartbeat::{Beat, Nudge, Reply},
        problem::agent_codes,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    admission::{Refusal, Signed},
    beat::Admitted,
    nudger::Link,
    presence::Presence,
};
use crate::{
    app::App,
    error::{Error, Kind},
    http::{
        Json, Path, Problems, Query, RawBody,
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
        .routes(routes!(link))
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

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct LinkParams {
    /// The latest beacon.
    beacon: String,
}

#[utoipa::path(
    get, path = "/nodes/{id}/link", operation_id = "node_link", tag = "agents",
    params(("id" = String, Path), LinkParams),
    description = "A WebSocket that only says when to beat. Signed like a beat, without a body.",
    responses((status = 101), Problems), security(())
)]
async fn link(
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    Query(params): Query<LinkParams>,
    OriginalUri(uri): OriginalUri,
    method: Method,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let now = app.clock.now();
    let signed = Signed {
        method: &method,
        path_and_query: path_and_query(&uri),
        headers: &headers,
        body: None,
    };
    let (_key, nonce) = app.agents.authenticate(id, signed, now).await?;
    if !app.agents.beacons.is_live(id, &params.beacon, now) {
        return Err(app.agents.stale_beacon(id, now));
    }
    app.agents.presence.admit_link(id, &nonce)?;
    let link = app.agents.nudger.open(id);
    let shutdown = app.shutdown.clone();
    Ok(upgrade
        .max_message_size(1_024)
        .on_upgrade(move |socket| async move {
            tokio::select! {
                () = serve_link(socket, link, &app.agents.presence, id) => {}
                () = shutdown.cancelled() => {}
            }
        }))
}

/// A link is kept alive by our pings; one that answers nothing for so long is closed.
const PING_EVERY: Duration = Duration::from_secs(15);
const SILENCE_MAX: Duration = Duration::from_secs(45);

async fn serve_link(mut socket: WebSocket, link: Link, presence: &Presence, node: NodeId) {
    let Ok(fetch) = serde_json::to_string(&Nudge::Fetch) else {
        return;
    };
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut heard = tokio::time::Instant::now();
    loop {
        let sent = tokio::select! {
            () = link.nudged() => {
                presence.ask_beat(node);
                socket.send(Message::Text(fetch.clone().into())).await
            }
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return;
                }
                socket.send(Message::Ping(Vec::new().into())).await
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = tokio::time::Instant::now();
                    Ok(())
                }
            },
        };
        if sent.is_err() {
            return;
        }
    }
}
