//! Where other coordinators connect: an upgrade to plain streams, proven by the secret that they share. No part of the API.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use hyper_util::rt::TokioIo;

use super::super::relay::{self, PATH, PROOF, PROTOCOL};
use crate::{
    app::App,
    error::{Error, Result},
};

/// The route.
pub fn routes() -> Router<Arc<App>> {
    Router::new().route(PATH, get(connect))
}

async fn connect(State(app): State<Arc<App>>, mut request: Request) -> Result<Response> {
    let headers = request.headers();
    let Some(relay) = &app.gateway.relay else {
        return Err(Error::not_found("page"));
    };
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    relay.admit(said(PROOF))?;
    if said(header::UPGRADE.as_str()) != Some(PROTOCOL) {
        return Err(Error::bad_request(
            "bad_request",
            format!("this is for connections that are upgraded to {PROTOCOL}"),
        ));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let links = Arc::clone(&app.gateway.links);
    let shutdown = app.shutdown.clone();
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => {
                let served = relay::serve(links, TokioIo::new(connection));
                shutdown.run_until_cancelled(Box::pin(served)).await;
            }
            Err(error) => tracing::debug!(%error, "another coordinator went before it was let in"),
        }
    });
    let answer = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static(PROTOCOL)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, answer).into_response())
}
