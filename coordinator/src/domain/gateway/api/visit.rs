//! Requests for rentals' own host names: they go to a port of the rental; who rents it says which ports there are.
//!
//! # Invariants
//! - A request for the tenants' domain never reaches our pages or the API, nor the other way round; with a listener of its own
//!   (`gateway.tenant_listen`) that domain is served there and nowhere else, and nothing else is served there.
//! - Whoever is let in to a private port showed its token of now.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, Uri, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use shared::{id::RentalId, link::open::Open};

use super::{
    super::{
        Gateway,
        web::{self, WebPort},
    },
    carry, head,
    host::Host,
    pages::{page, refusal},
    pass::Pass,
};
use crate::{
    app::App,
    context::Actor,
    domain::auth::cookies,
    error::{Error, Result},
    http::request_id,
};

/// How long a browser keeps a private port's token.
const TOKEN_AGE_S: u32 = 86_400;

/// Middleware before everything that is ours: takes the requests for rentals.
pub async fn divert(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match host(&app, &request) {
        Host::Ours => next.run(request).await,
        // they have a listener of their own
        _ if app.config.gateway.tenant_listen.is_some() => page(
            StatusCode::MISDIRECTED_REQUEST,
            "Rentals aren't served here",
        ),
        Host::Nobody => page(StatusCode::NOT_FOUND, "There is no such rental"),
        Host::Rental(rental, port) => visit(&app, (rental, port), request).await,
    }
}

/// All that the listener of rentals serves.
pub async fn rentals_only(State(app): State<Arc<App>>, request: Request) -> Response {
    match host(&app, &request) {
        Host::Ours => page(
            StatusCode::MISDIRECTED_REQUEST,
            "Only rentals are served here",
        ),
        Host::Nobody => page(StatusCode::NOT_FOUND, "There is no such rental"),
        Host::Rental(rental, port) => visit(&app, (rental, port), request).await,
    }
}

fn host(app: &App, request: &Request) -> Host {
    let Some(domain) = &app.config.gateway.tenant_domain else {
        return Host::Ours;
    };
    let named = request.uri().authority().map(Authority::as_str);
    let named = named.or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    Host::of(named.unwrap_or_default(), domain)
}

async fn visit(app: &Arc<App>, asked: (RentalId, Option<u16>), request: Request) -> Response {
    match serve(app, asked, request).await {
        Ok(response) => response,
        Err(error) => refusal(&error),
    }
}

async fn serve(
    app: &Arc<App>,
    (rental, port): (RentalId, Option<u16>),
    request: Request,
) -> Result<Response> {
    let found = app
        .db
        .read("gateway.web_port", move |tx| web::find(tx, rental, port))
        .await?
        .ok_or_else(|| Error::not_found("page"))?;
    let (mut parts, body) = request.into_parts();
    if !found.public
        && let Some(answer) = admit(app, &app.gateway, &found, &mut parts)?
    {
        return Ok(answer);
    }
    let open = Open::Dial {
        rental_id: rental,
        host: "localhost".to_owned(),
        port: found.port,
    };
    let stream = app.gateway.open(rental, &open).await?;
    let pass = Pass {
        app: Arc::clone(app),
        ctx: app.context(Actor::RentalToken(rental), request_id::current()),
        rental,
        port: Some(found),
    };
    carry::carry(pass, stream, Request::from_parts(parts, body)).await
}

/// Lets in who has a private port's token; one in the query becomes a cookie of the rental's host.
fn admit(
    app: &App,
    gateway: &Gateway,
    port: &WebPort,
    parts: &mut Parts,
) -> Result<Option<Response>> {
    let tls = app.config.http.is_tls();
    let cookie = head::token_cookie(tls);
    let said = parts
        .headers
        .get(&head::TOKEN_HEADER)
        .and_then(|value| value.to_str().ok());
    let kept = cookies::read(&parts.headers, cookie);
    if said
        .or(kept)
        .is_some_and(|token| gateway.port_tokens.opens(port, token))
    {
        return Ok(None);
    }
    let (token, rest) = without_token(&parts.uri);
    let token = token.filter(|token| gateway.port_tokens.opens(port, token));
    let token = token.ok_or_else(|| {
        Error::unauthenticated(
            "port_token",
            "This address is private. Whoever rents it has a link with a token.",
        )
    })?;
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Ok(None);
    }
    let secure = if tls { "; Secure" } else { "" };
    let cookie =
        format!("{cookie}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={TOKEN_AGE_S}{secure}");
    let headers = [
        (header::LOCATION, rest),
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    Ok(Some((StatusCode::SEE_OTHER, headers).into_response()))
}

/// The token in a query, and path and query without it.
fn without_token(uri: &Uri) -> (Option<String>, String) {
    let mut token = None;
    let mut rest = Vec::new();
    for pair in uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        match pair.strip_prefix("token=") {
            Some(value) if token.is_none() => token = Some(value.to_owned()),
            _ => rest.push(pair),
        }
    }
    // `//host` would lead elsewhere
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    let rest = if rest.is_empty() {
        path
    } else {
        format!("{path}?{}", rest.join("&"))
    };
    (token, rest)
}
