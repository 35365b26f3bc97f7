//! `/rentals/{id}/…`: [`tickets`], what it wrote ([`logs`]), what it used ([`metrics`]), and WebSockets into it ([`sockets`]); other
//! coordinators connect at [`peer`].
//!
//! [`pass`] decides who gets in, [`watch`] how long they stay, [`tunnel`] carries a WebSocket, [`follow`] server-sent events. [`web`] takes the
//! requests for rentals' own host names.

mod follow;
mod head;
mod host;
mod logs;
mod metrics;
mod pages;
mod pass;
pub mod peer;
mod sockets;
mod tickets;
mod tunnel;
mod watch;
pub mod web;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(tickets::create))
        .routes(routes!(logs::logs))
        .routes(routes!(metrics::metrics))
        .routes(routes!(sockets::exec))
        .routes(routes!(sockets::port, web::open, web::close))
        .routes(routes!(sockets::files))
}
