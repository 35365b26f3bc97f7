//! Requests for rentals' own host names: they go to a port of the rental; who rents it says which ports there are.
//!
//! # Invariants
//! - A request for the tenants' domain never reaches our pages or the API, nor the other way round; with a listener of its own
//!   (`gateway.tenant_listen`) that domain is served there and nowhere else, and nothing else is served there.
//! - Whoever is let in to a private port showed its token of now; where a cookie showed it, [`origin`] says whose page sent it.
//! - A token in an address goes no further than here.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{AppendHeaders, IntoResponse as _, Response},
};
use shared::{id::RentalId, link::open::Open};

use super::{
    super::{
        Gateway,
        web::{self, WebPort},
    },
    carry, head,
    host::Host,
    origin,
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
    Host::of(named(request.uri(), request.headers()), domain)
}

/// The host as a request names it, with its port if there is one.
fn named<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> &'r str {
    let named = uri.authority().map(Authority::as_str);
    let named = named.or_else(|| headers.get(header::HOST)?.to_str().ok());
    named.unwrap_or_default()
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

/// Lets in who has a private port's token; one in the query becomes a cookie of the rental's host, and is taken out of the address.
fn admit(
    app: &App,
    gateway: &Gateway,
    port: &WebPort,
    parts: &mut Parts,
) -> Result<Option<Response>> {
    let tls = app.config.http.is_tls();
    let cookie = head::token_cookie(tls);
    let opens = |token: &&str| gateway.port_tokens.opens(port, token);
    let (tokens, rest) = without_tokens(&parts.uri);
    let led = tokens.iter().copied().find(opens);
    let said = parts.headers.get(&head::TOKEN_HEADER);
    let said = said.and_then(|value| value.to_str().ok()).filter(opens);
    if said.or(led).is_none() {
        cookies::read(&parts.headers, cookie)
            .filter(opens)
            .ok_or_else(|| {
                Error::unauthenticated(
                    "port_token",
                    "This address is private. Whoever rents it has a link with a token.",
                )
            })?;
        let host = named(&parts.uri, &parts.headers);
        origin::check(&parts.method, &parts.headers, host, tls)?;
    }
    if tokens.is_empty() {
        return Ok(None);
    }
    let is_page = matches!(parts.method, Method::GET | Method::HEAD)
        && !parts.headers.contains_key(header::UPGRADE);
    if is_page {
        let cookie = led.map(|token| kept(cookie, token, tls));
        return Ok(Some(redirect(rest, cookie)));
    }
    // what acts isn't asked for twice
    parts.uri = with_path(&parts.uri, &rest)?;
    Ok(None)
}

/// The `Set-Cookie` of a port's token.
fn kept(name: &str, token: &str, tls: bool) -> String {
    let secure = if tls { "; Secure" } else { "" };
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={TOKEN_AGE_S}{secure}")
}

fn redirect(to: String, cookie: Option<String>) -> Response {
    let headers = [
        (header::LOCATION, to),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    let cookie = AppendHeaders(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    (StatusCode::SEE_OTHER, headers, cookie).into_response()
}

/// An address with another path and query.
fn with_path(uri: &Uri, path: &str) -> Result<Uri> {
    let unclear = || Error::bad_request("bad_request", "what is asked for has no path and query");
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| unclear())?);
    Uri::from_parts(parts).map_err(|_| unclear())
}

/// The tokens of ours in a query, also void ones, and path and query without them; an app's own parameter of that name stays.
fn without_tokens(uri: &Uri) -> (Vec<&str>, String) {
    let mut tokens = Vec::new();
    let mut rest = Vec::new();
    for pair in uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        match pair.strip_prefix("token=") {
            Some(token) if token.starts_with(web::PREFIX) => tokens.push(token),
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
    (tokens, rest)
}
