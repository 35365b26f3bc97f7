//! Pages: plain HTML made here, complete without JavaScript, under a strict content policy.

mod account;
mod device;
mod forgotten;
mod home;
mod html;
mod login;
mod packages;
mod paper;

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

/// The pages and what they need.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(home_page))
        .route("/static/site.css", get(style))
        .merge(account::routes())
        .merge(device::routes())
        .merge(forgotten::routes())
        .merge(login::routes())
        .merge(packages::routes())
        .merge(paper::routes())
}

async fn home_page(State(app): State<Arc<App>>) -> Html<String> {
    let url = app.config.http.public_url();
    Html(home::page(&url, &app.market_numbers()))
}

async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, STYLE).into_response()
}
