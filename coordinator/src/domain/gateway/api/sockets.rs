//! `/rentals/{id}/exec`, `/ports/{port}` and `/files`: WebSockets into a rental.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::HeaderMap,
    response::Response,
};
use futures_util::StreamExt as _;
use serde::Deserialize;
use shared::{
    id::RentalId,
    link::{
        open::{Exec, Open},
        socket::MESSAGE_BYTES_MAX,
    },
};
use tokio::time::timeout;
use utoipa::IntoParams;

use super::{
    super::access::Verb,
    pass::{self, Pass},
    tunnel::{self, Form},
    watch::{End, Watch},
};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{
        Path, Problems, Query, csrf,
        error::{problem, status_of},
    },
};

/// What is to be run is said within this.
const FIRST_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of what is to be run: with what we add it must fit into a message to the node.
const EXEC_BYTES_MAX: usize = 60 * 1_024;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct TicketParams {
    /// A ticket instead of credentials, for browsers.
    ticket: Option<String>,
}

type Upgrade = std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

#[utoipa::path(
    get, path = "/rentals/{id}/exec", operation_id = "rental_exec", tag = "rentals",
    params(("id" = String, Path), TicketParams),
    description = "A program in the rental, over a WebSocket. The first message is text, JSON: `{\"command\": [\"sh\", \"-c\", \"…\"], \"terminal\": \
        {\"term\": \"xterm-256color\", \"size\": {\"columns\": 80, \"rows\": 24}}, \"env\": {}}`; an empty command is a login shell, without a \
        terminal there are pipes. After it go binary messages, each a frame: a byte for its kind, its length in four bytes (big end first), its \
        payload of at most 32 KiB. To the program: 0 input (empty at its end), 3 the terminal's size (columns and rows, two bytes each), 4 a \
        signal (its number). From it: 1 output, 2 errors, and at the end 5, JSON: `{\"code\": 0}` or `{\"signal\": 9}`. What can't be started is \
        told by a text message, a problem, and the close code 4000 + its status. Close codes: 1000 it ended, 1003 not understood, 1008 access \
        ended or nothing was taken for too long, 1012 the coordinator restarts, 4502 the node's connection broke, 4408 nothing went either way \
        for 15 minutes.",
    responses((status = 101), Problems),
    security(("access_token" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn exec(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path(id): Path<RentalId>,
    Query(params): Query<TicketParams>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response> {
    let (pass, upgrade) = let_in(&app, ctx, (id, Verb::Exec), params, &headers, upgrade).await?;
    pass.note(Verb::Exec).await?;
    let tracker = app.background.clone();
    Ok(upgrade.on_upgrade(move |socket| tracker.track_future(run(socket, pass))))
}

#[utoipa::path(
    get, path = "/rentals/{id}/ports/{port}", operation_id = "rental_port", tag = "rentals",
    params(("id" = String, Path), ("port" = u16, Path), TicketParams),
    description = "A TCP connection to a port in the rental, also to one that listens on its own loopback only, over a WebSocket: binary messages \
        are bytes, an empty one ends a direction. Close codes as of exec.",
    responses((status = 101), Problems),
    security(("access_token" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn port(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path((id, port)): Path<(RentalId, u16)>,
    Query(params): Query<TicketParams>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response> {
    if port == 0 {
        return Err(Error::not_found("port"));
    }
    let open = Open::Dial {
        rental_id: id,
        host: "localhost".to_owned(),
        port,
    };
    raw(
        app,
        ctx,
        (Verb::Port(port), open),
        params,
        &headers,
        upgrade,
    )
    .await
}

#[utoipa::path(
    get, path = "/rentals/{id}/files", operation_id = "rental_files", tag = "rentals",
    params(("id" = String, Path), TicketParams),
    description = "The rental's files by SFTP (version 3), over a WebSocket: binary messages are bytes, an empty one ends a direction. Close codes as \
        of exec.",
    responses((status = 101), Problems),
    security(("access_token" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn files(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path(id): Path<RentalId>,
    Query(params): Query<TicketParams>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response> {
    let open = Open::Sftp { rental_id: id };
    raw(app, ctx, (Verb::Files, open), params, &headers, upgrade).await
}

/// A stream of bytes, opened before the WebSocket is: what is refused is a problem.
async fn raw(
    app: Arc<App>,
    ctx: OpCtx,
    (verb, open): (Verb, Open),
    params: TicketParams,
    headers: &HeaderMap,
    upgrade: Upgrade,
) -> Result<Response> {
    let rental = open.rental_id().ok_or_else(|| Error::not_found("rental"))?;
    let (pass, upgrade) = let_in(&app, ctx, (rental, verb), params, headers, upgrade).await?;
    pass.note(verb).await?;
    let stream = app.gateway.open(rental, &open).await?;
    let tracker = app.background.clone();
    Ok(upgrade.on_upgrade(move |socket| {
        tracker.track_future(tunnel::carry(socket, stream, Watch::new(pass), Form::Raw))
    }))
}

/// Who may open a WebSocket, before anything else is looked at.
async fn let_in(
    app: &Arc<App>,
    ctx: OpCtx,
    (rental, verb): (RentalId, Verb),
    params: TicketParams,
    headers: &HeaderMap,
    upgrade: Upgrade,
) -> Result<(Pass, WebSocketUpgrade)> {
    csrf::check_origin(headers, &app.config.http.public_url())?;
    let pass = pass::admit(app, ctx, rental, verb, params.ticket).await?;
    let upgrade = upgrade.map_err(|rejection| {
        Error::bad_request("bad_request", format!("open a WebSocket here: {rejection}"))
    })?;
    let upgrade = upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(MESSAGE_BYTES_MAX)
        .write_buffer_size(0);
    Ok((pass, upgrade))
}

/// Hears what is to be run, and runs it.
async fn run(mut socket: WebSocket, pass: Pass) {
    let first = tokio::select! {
        first = timeout(FIRST_TIME_MAX, socket.recv()) => first,
        () = pass.app.shutdown.cancelled() => {
            let (sink, source) = socket.split();
            let (code, reason) = End::Stopping.close();
            return tunnel::close(sink, source, code, reason).await;
        }
    };
    let exec = match first {
        Ok(Some(Ok(Message::Text(text)))) => parse(text.as_str()),
        Ok(Some(Ok(_)) | None) => Err(Error::bad_request(
            "exec",
            "the first message is text: what to run, as JSON",
        )),
        Ok(Some(Err(_))) => return,
        Err(_) => Err(Error::bad_request(
            "exec",
            "nothing to run was said in time",
        )),
    };
    let opened = match exec {
        Ok(exec) => {
            let open = Open::Exec {
                rental_id: pass.rental,
                exec,
            };
            pass.app.gateway.open(pass.rental, &open).await
        }
        Err(error) => Err(error),
    };
    match opened {
        Ok(stream) => {
            Box::pin(tunnel::carry(
                socket,
                stream,
                Watch::new(pass),
                Form::Frames,
            ))
            .await
        }
        Err(error) => refuse(socket, &error).await,
    }
}

fn parse(text: &str) -> Result<Exec> {
    if text.len() > EXEC_BYTES_MAX {
        let why = format!("what to run has at most {EXEC_BYTES_MAX} bytes");
        return Err(Error::bad_request("exec", why));
    }
    let exec: Exec = serde_json::from_str(text)
        .map_err(|error| Error::bad_request("exec", format!("what to run: {error}")))?;
    let mut texts = exec
        .command
        .iter()
        .chain(exec.env.keys())
        .chain(exec.env.values());
    if texts.any(|text| text.contains('\0')) {
        return Err(Error::bad_request("exec", "text can't contain NUL"));
    }
    Ok(exec)
}

/// Says why nothing runs, and closes.
async fn refuse(mut socket: WebSocket, error: &Error) {
    let status = status_of(error.kind());
    if let Ok(text) = serde_json::to_string(&problem(error, status))
        && socket.send(Message::Text(text.into())).await.is_err()
    {
        return;
    }
    let (sink, source) = socket.split();
    tunnel::close(sink, source, 4_000 + status.as_u16(), error.code()).await;
}
