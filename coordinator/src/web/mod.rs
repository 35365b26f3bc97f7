//! Pages: plain HTML made here, complete without JavaScript but for the terminal, under a strict content policy.

mod account;
mod device;
mod forgotten;
mod home;
mod html;
mod login;
mod packages;
mod paper;
mod reader;
mod rentals;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::header,
    response::{Html, IntoResponse, Response},
    routing::get,
};

use crate::app::App;

const STYLE: &str = include_str!("../../static/site.css");
/// What keeps a rental's page up to date.
const LIVE: &str = include_str!("../../static/rental.js");

/// The pages and what they need.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(home_page))
        .route("/static/site.css", get(style))
        .route("/static/rental.js", get(script))
        .merge(account::routes())
        .merge(device::routes())
        .merge(forgotten::routes())
        .merge(login::routes())
        .merge(packages::routes())
        .merge(paper::routes())
        .merge(rentals::routes())
}

async fn home_page(State(app): State<Arc<App>>) -> Html<String> {
    let url = app.config.http.public_url();
    Html(home::page(&url, &app.market_numbers()))
}

async fn script() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, LIVE).into_response()
}

async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, STYLE).into_response()
}
