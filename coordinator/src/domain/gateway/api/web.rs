//! `PUT` and `DELETE /rentals/{id}/ports/{port}`: which ports the web reaches.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::id::RentalId;
use utoipa::ToSchema;

use super::{
    super::{
        access::Verb,
        web::{self, WebPort},
    },
    host::Host,
    pass,
};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{Json, Path, Problems},
};

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

/// The ports of a rental that the web reaches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebPortsView {
    /// The lowest first, at most 32; the first one is also met at the rental's name without a port.
    items: Vec<WebPortView>,
}

#[utoipa::path(
    get, path = "/rentals/{id}/ports", operation_id = "list_ports", tag = "rentals", params(("id" = String, Path)),
    description = "The ports in the rental that the web reaches, with the tokens of private ones.",
    responses((status = 200, body = WebPortsView), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn list(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
) -> Result<Json<WebPortsView>> {
    let body = move |tx: &mut dyn crate::store::Tx| web::list(tx, &ctx, id);
    let ports = app.db.read("gateway.list_ports", body).await?;
    // without a domain there is no name by which any could be met
    let items = ports.iter().filter_map(|port| view(&app, port)).collect();
    Ok(Json(WebPortsView { items }))
}

fn view(app: &App, port: &WebPort) -> Option<WebPortView> {
    let token = (!port.public).then(|| app.gateway.port_tokens.mint(port).expose().clone());
    Some(WebPortView {
        port: port.port,
        public: port.public,
        url: address(app, port)?,
        token,
    })
}

#[utoipa::path(
    put, path = "/rentals/{id}/ports/{port}", operation_id = "open_port", tag = "rentals",
    params(("id" = String, Path), ("port" = u16, Path)), request_body = PortAccess,
    description = "Lets the web reach a port in the rental, under a host name of its own: HTTP/1.1 and WebSockets. At most 32 ports. \
        Who was let in before and isn't any more, since a public port became private or a private one got a new token, is disconnected within a minute.",
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
    let none = || {
        Error::conflict(
            "no_web_endpoints",
            "this market gives rentals no host names: reach the port by a WebSocket, ramarket port-forward or SSH",
        )
    };
    if app.config.gateway.tenant_domain.is_none() {
        return Err(none());
    }
    if port == 0 {
        return Err(Error::not_found("port"));
    }
    let body = move |tx: &mut dyn crate::store::Tx| web::open(tx, &ctx, id, port, asked.public);
    let opened = app.db.write("gateway.open_port", body).await?;
    view(&app, &opened).map(Json).ok_or_else(none)
}

#[utoipa::path(
    delete, path = "/rentals/{id}/ports/{port}", operation_id = "close_port", tag = "rentals",
    params(("id" = String, Path), ("port" = u16, Path)),
    description = "Closes a port to the web; what is open there ends within a minute.",
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

/// Where the web reaches a port, if rentals have host names.
pub(crate) fn address(app: &App, port: &WebPort) -> Option<String> {
    let domain = app.config.gateway.tenant_domain.as_ref()?;
    Some(url(app, &Host::name(port.rental, port.port, domain)))
}

/// Scheme and port are those under which rentals are reached.
fn url(app: &App, host: &str) -> String {
    let public = app.config.http.public_url();
    let (scheme, rest) = public.split_once("://").unwrap_or(("https", ""));
    let named = rest
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    // behind a proxy it is the proxy's port, which is that of our own URL
    let direct = app.config.http.public_url.is_none() || app.config.http.has_own_tls();
    let own = app.config.gateway.tenant_listen.filter(|_| direct);
    let port: Option<u16> = own.map_or(named, |listen| Some(listen.port()));
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = port
        .filter(|port| *port != usual)
        .map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{host}{port}/")
}
