//! A person's rentals: their list, each one's page ([`page`]), what it wrote, a terminal in it ([`terminal()`], [`assets`]). Complete without
//! JavaScript, but for the terminal, whose page then says what to run instead.
//!
//! # Invariants
//! - Shown to whoever rents it and nobody else, by the same services and lines of the table of access as the API.
//! - Nothing that a rental said is HTML here.

mod assets;
mod page;
mod terminal;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::Value;
use shared::id::RentalId;

use super::{
    html::{self, alert, escape},
    reader::asks,
};
use crate::{
    app::App,
    context::OpCtx,
    domain::{
        gateway::{
            access::reachable,
            api::{logs, web::address},
            web,
        },
        oidc::provider::encoded,
        rentals::{self, Side, api::view::view},
    },
    error::{Error, Kind, Result},
    http::error::status_of,
};

/// Rentals of a page of the list.
const LISTED: usize = 50;
/// As that of our other pages, with a script of ours and requests to us.
const LIVE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";
/// Lines of a log that are shown.
const LINES: u32 = 500;

#[derive(Debug, Deserialize)]
struct Listed {
    /// Older than this one.
    before: Option<String>,
}

/// A rental as its page needs it.
#[derive(Debug)]
struct Shown {
    /// As the API shows it.
    view: Value,
    /// Where the web reaches it, and whether without a token.
    ports: Vec<(String, bool)>,
}

/// The pages.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/rentals", get(list))
        .route("/rentals/{id}", get(one))
        .route("/rentals/{id}/logs", get(log))
        .route("/rentals/{id}/terminal", get(terminal))
        .merge(assets::routes())
}

async fn list(
    State(app): State<Arc<App>>,
    Query(listed): Query<Listed>,
    request: Request,
) -> Response {
    let read = async {
        let ctx = asks(&app, request, "list_rentals").await?;
        let before = listed.before.as_deref().map(str::parse::<RentalId>);
        let before = before.transpose().map_err(|_| Error::not_found("rental"))?;
        let now = ctx.now;
        let count = i64::try_from(LISTED).unwrap_or(i64::MAX).saturating_add(1);
        let find = move |tx: &mut dyn crate::store::Tx| {
            rentals::list(tx, &ctx, Side::Consumer, before, count)
        };
        let found = app.db.read("rental.list", find).await?;
        let shown = found
            .iter()
            .map(|rental| serde_json::to_value(view(&app, rental, now)?).map_err(Error::internal));
        shown.collect::<Result<Vec<Value>>>()
    };
    match read.await {
        Ok(rentals) => shown(
            StatusCode::OK,
            "Your rentals",
            &page::list(&rentals, LISTED),
        ),
        Err(error) => refused(&error, "/rentals"),
    }
}

async fn one(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response {
    match find(&app, request, &id, "get_rental").await {
        Ok((_, found)) => live(&page::one(&found)),
        Err(error) => refused(&error, &format!("/rentals/{id}")),
    }
}

async fn log(State(app): State<Arc<App>>, Path(id): Path<String>, request: Request) -> Response {
    let read = async {
        let (ctx, found) = find(&app, request, &id, "rental_logs").await?;
        let rental = found.id()?;
        Ok((logs::recent(&app, ctx, rental, LINES).await, rental))
    };
    match read.await {
        Ok((Ok((lines, _)), rental)) => {
            let body = page::log(rental, &lines, LINES);
            shown(StatusCode::OK, "What it wrote", &body)
        }
        Ok((Err(error), rental)) => {
            let back = format!("<p><a href=\"/rentals/{rental}\">The rental</a></p>\n");
            let body = alert(error.detail()) + &back;
            shown(status_of(error.kind()), "What it wrote", &body)
        }
        Err(error) => refused(&error, &format!("/rentals/{id}/logs")),
    }
}

async fn terminal(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let made = find(&app, request, &id, "create_ticket")
        .await
        .and_then(|(_, found)| terminal::page(&app.config.http.public_url(), &found));
    made.unwrap_or_else(|error| refused(&error, &format!("/rentals/{id}/terminal")))
}

/// A rental of whoever asks, who may do `operation`.
async fn find(app: &App, request: Request, id: &str, operation: &str) -> Result<(OpCtx, Shown)> {
    let ctx = asks(app, request, operation).await?;
    if ctx.actor == crate::context::Actor::Anonymous {
        return Err(crate::context::sign_in_required());
    }
    let id: RentalId = id.parse().map_err(|_| Error::not_found("rental"))?;
    let asked = ctx.clone();
    let find = move |tx: &mut dyn crate::store::Tx| {
        let rental = reachable(tx, &asked, id)?;
        Ok((rental, web::all(tx, id)?))
    };
    let (rental, ports) = app.db.read("rental.page", find).await?;
    let view = serde_json::to_value(view(app, &rental, ctx.now)?).map_err(Error::internal)?;
    let ports = ports
        .iter()
        .filter_map(|port| Some((address(app, port)?, port.public)));
    let ports = ports.collect();
    Ok((ctx, Shown { view, ports }))
}

impl Shown {
    /// A text of the view; empty where there is none.
    fn text(&self, pointer: &str) -> &str {
        text(&self.view, pointer)
    }

    fn id(&self) -> Result<RentalId> {
        self.text("/id")
            .parse()
            .map_err(|_| Error::not_found("rental"))
    }

    fn is_running(&self) -> bool {
        self.text("/state") == "running"
    }

    fn is_over(&self) -> bool {
        self.text("/state") == "ended"
    }
}

/// A text within a view; empty where there is none.
fn text<'v>(view: &'v Value, pointer: &str) -> &'v str {
    view.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// An amount within a view.
fn money(view: &Value, pointer: &str) -> String {
    let part = |name: &str| text(view, &format!("{pointer}/{name}")).to_owned();
    format!("{} {}", part("amount"), part("currency"))
}

fn refused(error: &Error, path: &str) -> Response {
    if error.kind() == Kind::Internal {
        tracing::error!(%error, "a page of rentals failed");
    }
    let mut body = alert(error.detail());
    if error.kind() == Kind::Unauthenticated {
        let next = escape(&encoded(path));
        body.push_str(&format!(
            "<p><a href=\"/login?next={next}\">Sign in</a></p>\n"
        ));
    }
    shown(status_of(error.kind()), "This can't be shown", &body)
}

fn shown(status: StatusCode, title: &str, body: &str) -> Response {
    let body = format!("<div class=\"paper\">\n{body}</div>");
    (status, quiet(), Html(html::page(title, &body))).into_response()
}

/// A page that a script of ours keeps up to date; it is whole without.
fn live(body: &str) -> Response {
    let head = "<script type=\"module\" src=\"/static/rental.js\"></script>\n";
    let body = format!("<div class=\"paper\">\n{body}</div>");
    let policy = [(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(LIVE_POLICY),
    )];
    let html = html::page_with("Rental", head, &body);
    (quiet(), policy, Html(html)).into_response()
}

/// Nothing of it is kept, or found.
const fn quiet() -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            HeaderName::from_static("x-robots-tag"),
            HeaderValue::from_static("noindex"),
        ),
    ]
}
