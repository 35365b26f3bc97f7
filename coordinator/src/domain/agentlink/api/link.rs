//! `/nodes/{id}/link`: the WebSocket that an agent dials, as a session of streams that we open.
//!
//! # Invariants
//! - A link lives while its agent says something; a new link of the same node ends it, here or at another coordinator.
//! - Agents open no streams.

use std::{io, sync::Arc};

use axum::{
    extract::{
        OriginalUri, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, Method, Uri},
    response::Response,
};
use serde::Deserialize;
use shared::{
    id::NodeId,
    link::{
        PING_EVERY, SILENCE_MAX, SUBPROTOCOL, alive,
        lines::{self, Lines},
        open::{self, Control, Open, Opened},
        session::{Role, Session, Started},
        socket::{ByteSocket, Carried, MESSAGE_BYTES_MAX},
    },
};
use tokio::time::interval;

use super::{
    super::{
        admission::{Refusal, Signed},
        nudger::Link,
        presence::Presence,
    },
    path_and_query,
};
use crate::{
    app::App,
    error::Error,
    http::{Path, Problems, Query},
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkParams {
    /// The latest beacon.
    beacon: String,
}

#[utoipa::path(
    get, path = "/nodes/{id}/link", operation_id = "node_link", tag = "agents",
    params(("id" = String, Path), LinkParams),
    description = "A WebSocket of the subprotocol ramarket-link-2, in whose binary messages the coordinator opens streams (yamux): when to beat, \
        and into rentals. Signed like a beat, without a body.",
    responses((status = 101), Problems), security(())
)]
pub(super) async fn link(
    State(app): State<Arc<App>>,
    Path(id): Path<NodeId>,
    Query(params): Query<LinkParams>,
    OriginalUri(uri): OriginalUri,
    method: Method,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    admit(&app, id, &params.beacon, (&method, &uri, &headers)).await?;
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(Error::bad_request(
            "link_version",
            format!("links are of the subprotocol {SUBPROTOCOL}: update the agent; until then it goes on by beats alone"),
        )
        .into());
    }
    Ok(upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(MESSAGE_BYTES_MAX)
        .write_buffer_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| serve(app, id, socket)))
}

async fn admit(
    app: &App,
    node: NodeId,
    beacon: &str,
    (method, uri, headers): (&Method, &Uri, &HeaderMap),
) -> Result<(), Refusal> {
    let now = app.clock.now();
    let signed = Signed {
        method,
        path_and_query: path_and_query(uri),
        headers,
        body: None,
    };
    let (_key, nonce) = app.agents.authenticate(node, signed, now).await?;
    if !app.agents.beacons.is_live(node, beacon, now) {
        return Err(app.agents.stale_beacon(node, now));
    }
    app.agents.presence.admit_link(node, &nonce)?;
    Ok(())
}

async fn serve(app: Arc<App>, node: NodeId, socket: WebSocket) {
    let socket = ByteSocket::new(socket, Message::Binary, carried);
    let (socket, silence) = alive::listen(socket);
    let Started {
        session,
        accepted,
        driver,
    } = Session::start(socket, Role::Server);
    drop(accepted);
    let nudges = app.agents.nudger.open(node);
    let held = app.gateway.hold(node, session.clone());
    let end = tokio::select! {
        ended = driver => ended.err().map_or_else(|| "its agent closed it".to_owned(), |error| error.to_string()),
        () = silence.lasts(SILENCE_MAX) => "nothing was heard".to_owned(),
        () = held.replaced() => "the agent linked anew".to_owned(),
        error = Box::pin(control(&session, &nudges, &app.agents.presence, node)) => error.to_string(),
        () = app.shutdown.cancelled() => "the coordinator stops".to_owned(),
        () = Box::pin(app.gateway.keep_noted(&held)) => "the agent linked to another coordinator since".to_owned(),
    };
    tracing::debug!(node.id = %node, end, "a link ended");
    let serial = held.serial;
    drop(held);
    let gateway = Arc::clone(&app.gateway);
    app.background
        .spawn(async move { gateway.forget(node, serial).await });
}

/// The control stream: says when to beat, and asks whether the agent is there. Returns why it ended.
async fn control(session: &Session, nudges: &Link, presence: &Presence, node: NodeId) -> io::Error {
    let talk = async {
        let mut stream = session.stream().await?;
        open::send(&mut stream, &Open::Control {}).await?;
        let opened: Opened = open::receive(&mut stream).await?;
        if opened != (Opened::Ready {}) {
            return Err(io::Error::other(format!(
                "it refused to be steered: {opened:?}"
            )));
        }
        let mut ping = interval(PING_EVERY);
        let mut lines = Lines::new(stream);
        loop {
            let say = tokio::select! {
                () = nudges.nudged() => {
                    presence.ask_beat(node);
                    Control::Beat
                }
                _ = ping.tick() => Control::Ping,
                heard = lines.next::<Control>() => match heard? {
                    Some(_) => continue,
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
            };
            lines::write(lines.stream(), &say).await?;
        }
    };
    let ended: io::Result<std::convert::Infallible> = talk.await;
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// What a message brings to the session.
fn carried(message: Message) -> Carried {
    match message {
        Message::Binary(bytes) => Carried::Bytes(bytes),
        Message::Ping(_) | Message::Pong(_) => Carried::Nothing,
        Message::Close(_) => Carried::End,
        Message::Text(_) => Carried::Violation,
    }
}
