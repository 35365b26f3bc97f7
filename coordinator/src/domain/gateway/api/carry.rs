//! A web request on its way into a rental and back, and what a connection becomes that is upgraded.
//!
//! # Invariants
//! - Each request has a connection of its own into the rental; it ends with the request, or with what it was upgraded to. No answer can be
//!   another visitor's.
//! - An answer begins within `gateway.answer_s` of the last byte that moved; after that, silence of `gateway.idle_s` ends either kind.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::{
    super::reached::Reached,
    head,
    pass::Pass,
    watch::{End, Watch, Watched, seconds},
};
use crate::{
    app::App,
    error::{Error, Kind, Result},
    http::ClientIp,
};

/// The request as the rental gets it.
fn to_rental(app: &App, request: Request) -> Result<Request> {
    let (mut parts, body) = request.into_parts();
    let client = ClientIp::of(&parts, &app.config.http.trusted_proxies).known();
    let upgrade = parts.headers.get(header::UPGRADE).cloned();
    // HTTP/2 names the host elsewhere
    if let Some(host) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    head::to_rental(&mut parts.headers, client, app.config.http.is_tls());
    if let Some(to) = &upgrade {
        parts.headers.insert(header::UPGRADE, to.clone());
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path
        .parse()
        .map_err(|_| Error::bad_request("bad_request", "what is asked for has no path"))?;
    parts.version = axum::http::Version::HTTP_11;
    Ok(Request::from_parts(parts, body))
}

/// Sends a request over a connection into the rental.
pub(super) async fn carry(pass: Pass, stream: Reached, request: Request) -> Result<Response> {
    let app = Arc::clone(&pass.app);
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let mut request = to_rental(&app, request)?;
    let ours = upgrade.then(|| hyper::upgrade::on(&mut request));
    let watch = Arc::new(Watch::new(pass));
    let watched = Watched {
        inner: stream,
        watch: Arc::clone(&watch),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(watched))
        .await
        .map_err(|error| broken(&error))?;
    let of_connection = Arc::clone(&watch);
    app.background.spawn(async move {
        let end = tokio::select! {
            ended = connection.with_upgrades() => match ended {
                // what it was upgraded to has an end of its own
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "a web request's connection into a rental broke");
                    End::Cut
                }
            },
            end = of_connection.over() => end,
        };
        of_connection.ended("web", end);
    });
    let answer_time = seconds(app.config.gateway.answer_s);
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer,
        () = watch.quiet(answer_time) => return Err(late()),
    };
    let mut answer = answer.map_err(|error| broken(&error))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(ours) = ours
    {
        let theirs = hyper::upgrade::on(&mut answer);
        app.background.spawn(join(watch, ours, theirs));
        let (mut parts, _) = answer.into_parts();
        let to = parts.headers.get(header::UPGRADE).cloned();
        head::from_rental(&mut parts.headers);
        if let Some(to) = to {
            parts.headers.insert(header::UPGRADE, to);
        }
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let (mut parts, body) = answer.into_parts();
    head::from_rental(&mut parts.headers);
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// Carries an upgraded connection; its watch hears of what goes on by the stream beneath.
async fn join(
    watch: Arc<Watch>,
    ours: hyper::upgrade::OnUpgrade,
    theirs: hyper::upgrade::OnUpgrade,
) {
    let carried = async {
        let (ours, theirs) = tokio::try_join!(ours, theirs)?;
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        copy_bidirectional(&mut ours, &mut theirs).await?;
        anyhow::Ok(())
    };
    let end = tokio::select! {
        ended = carried => match ended {
            Ok(()) => End::Ended,
            Err(error) => {
                tracing::debug!(%error, "an upgraded connection into a rental broke");
                End::Cut
            }
        },
        end = watch.over() => end,
    };
    watch.ended("upgraded", end);
}

fn broken(error: &hyper::Error) -> Error {
    tracing::debug!(%error, "a rental's answer broke off");
    Error::conflict(
        "port_not_open",
        "The rental's program answered with something that isn't HTTP, or nothing.",
    )
}

fn late() -> Error {
    Error::new(
        Kind::Unavailable { retry_after_s: 5 },
        "node_unavailable",
        "The rental's program didn't answer in time.",
    )
}
