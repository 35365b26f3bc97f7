//! `/rentals/{id}/…`: [`tickets`], what it wrote ([`logs`]), what it used ([`metrics`]), and WebSockets into it ([`sockets`]); other
//! coordinators connect at [`peer`]. [`post_mortem`] is all that is kept of a rental that is over.
//!
//! [`pass`] decides who gets in, [`watch`] how long they stay, [`tunnel`] carries a WebSocket, [`follow`] server-sent events. [`visit`] takes the
//! requests for rentals' own host names, [`origin`] looks at whose pages sent them, [`carry`] takes them there, [`web`] says which ports they reach.

mod carry;
mod follow;
mod head;
mod host;
pub(crate) mod logs;
mod metrics;
mod origin;
mod pages;
mod pass;
pub mod peer;
mod post_mortem;
mod sockets;
mod tickets;
mod tunnel;
pub mod visit;
mod watch;
pub(crate) mod web;

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
        .routes(routes!(post_mortem::post_mortem))
        .routes(routes!(sockets::exec))
        .routes(routes!(sockets::port, web::open, web::close))
        .routes(routes!(web::list))
        .routes(routes!(sockets::files))
}
