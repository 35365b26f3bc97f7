//! Web endpoints: requests for a rental's host name go to a port of it; who rents it says which ports there are.
//!
//! # Invariants
//! - A request for the tenants' domain never reaches our pages or the API, nor the other way round.
//! - Each request has a connection of its own into the rental; it ends with the request, or with what it was upgraded to.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use shared::{id::RentalId, link::open::Open};
use tokio::{io::copy_bidirectional, time::timeout};
use utoipa::ToSchema;

use super::{
    super::{
        Gateway,
        access::Verb,
        reached::Reached,
        web::{self, WebPort},
    },
    head,
    host::Host,
    pages::{page, refusal},
    pass::{self, Pass},
    watch::Watch,
};
use crate::{
    app::App,
    context::{Actor, OpCtx},
    domain::auth::cookies,
    error::{Error, Kind, Result},
    http::{ClientIp, Json, Path, Problems, request_id},
};

/// A rental's program begins its answer within this.
const ANSWER_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// How long a browser keeps a private port's token.
const TOKEN_AGE_S: u32 = 86_400;

/// How the web reaches a port.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PortAccess {
    /// Whether everybody may; else only with the token.
    public: bool,
}

/// A port that the web reaches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebPortView {
    /// Which.
    #[schema(example = 8080)]
    port: u16,
    /// Whether everybody may.
    public: bool,
    /// Where.
    #[schema(example = "https://8080-rnt-0192f0c1a2b37c4d8e5f60718293a4b5.apps.example/")]
    url: String,
    /// Opens a private port: once as `?token=…`, which a browser keeps, or in the header X-Ramarket-Port-Token. The next change voids it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    token: Option<String>,
}

#[utoipa::path(
    put, path = "/rentals/{id}/ports/{port}", operation_id = "open_port", tag = "rentals",
    params(("id" = String, Path), ("port" = u16, Path)), request_body = PortAccess,
    description = "Lets the web reach a port in the rental, under a host name of its own: HTTP/1.1 and WebSockets. At most 32 ports.",
    responses((status = 200, body = WebPortView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn open(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path((id, port)): Path<(RentalId, u16)>,
    Json(asked): Json<PortAccess>,
) -> Result<Json<WebPortView>> {
    pass::admit(&app, ctx.clone(), id, Verb::Port(port), None).await?;
    let Some(domain) = app.config.gateway.tenant_domain.clone() else {
        return Err(Error::conflict(
            "no_web_endpoints",
            "this market gives rentals no host names: reach the port by a WebSocket, ramarket port-forward or SSH",
        ));
    };
    if port == 0 {
        return Err(Error::not_found("port"));
    }
    let body = move |tx: &mut dyn crate::store::Tx| web::open(tx, &ctx, id, port, asked.public);
    let opened = app.db.write("gateway.open_port", body).await?;
    let token = (!opened.public).then(|| app.gateway.port_tokens.mint(&opened).expose().clone());
    Ok(Json(WebPortView {
        port,
        public: opened.public,
        url: url(&app, &Host::name(id, port, &domain)),
        token,
    }))
}

#[utoipa::path(
    delete, path = "/rentals/{id}/ports/{port}", operation_id = "close_port", tag = "rentals",
    params(("id" = String, Path), ("port" = u16, Path)),
    description = "Closes a port to the web; what is open there goes on until its end.",
    responses((status = 204), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn close(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path((id, port)): Path<(RentalId, u16)>,
) -> Result<StatusCode> {
    let body = move |tx: &mut dyn crate::store::Tx| web::close(tx, &ctx, id, port);
    app.db.write("gateway.close_port", body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Scheme and port are those under which we are reached.
fn url(app: &App, host: &str) -> String {
    let public = app.config.http.public_url();
    let (scheme, rest) = public.split_once("://").unwrap_or(("https", ""));
    let port = rest
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or_else(String::new, |(_, port)| format!(":{port}"));
    format!("{scheme}://{host}{port}/")
}

/// Middleware before everything that is ours: takes the requests for rentals.
pub async fn divert(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(domain) = &app.config.gateway.tenant_domain else {
        return next.run(request).await;
    };
    let named = request.uri().authority().map(Authority::as_str);
    let named = named.or_else(|| request.headers().get(header::HOST)?.to_str().ok());
    match Host::of(named.unwrap_or_default(), domain) {
        Host::Ours => next.run(request).await,
        Host::Nobody => page(StatusCode::NOT_FOUND, "There is no such rental"),
        Host::Rental(rental, port) => match serve(&app, (rental, port), request).await {
            Ok(response) => response,
            Err(error) => refusal(&error),
        },
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
    pass_on(app, rental, stream, Request::from_parts(parts, body)).await
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
async fn pass_on(
    app: &Arc<App>,
    rental: RentalId,
    stream: Reached,
    request: Request,
) -> Result<Response> {
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let mut request = to_rental(app, request)?;
    let ours = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let ctx = app.context(Actor::RentalToken(rental), request_id::current());
    let pass = Pass {
        app: Arc::clone(app),
        ctx,
        rental,
    };
    let watch = Watch::patient(pass.clone());
    app.background.spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a web request's connection into a rental broke");
            },
            end = watch.over() => tracing::debug!(?end, "a web request was ended"),
        }
    });
    let answer = timeout(ANSWER_TIME_MAX, sender.send_request(request));
    let mut answer = answer
        .await
        .map_err(|_| late())?
        .map_err(|error| broken(&error))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(ours) = ours
    {
        let theirs = hyper::upgrade::on(&mut answer);
        app.background.spawn(join(pass, ours, theirs));
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

/// Carries an upgraded connection.
async fn join(pass: Pass, ours: hyper::upgrade::OnUpgrade, theirs: hyper::upgrade::OnUpgrade) {
    let watch = Watch::patient(pass);
    let carried = async {
        let (ours, theirs) = tokio::try_join!(ours, theirs)?;
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        copy_bidirectional(&mut ours, &mut theirs).await?;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = carried => if let Err(error) = ended {
            tracing::debug!(%error, "an upgraded connection into a rental broke");
        },
        end = watch.over() => tracing::debug!(?end, "an upgraded connection was ended"),
    }
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
