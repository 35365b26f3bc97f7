//! `/rentals/*` and `/payments/*`: [`body`] (what is ordered), [`rent`] (ordering and paying), [`ask`] (the terms),
//! [`answer`] (what a payment came to), [`payments`] (the same in four steps), [`topup`], [`balance`] (filling the balance, and what it is),
//! [`read`] (looking and stopping), [`ssh_keys`] (whom it lets in), [`view`] (what is answered).

mod answer;
mod ask;
mod balance;
pub(crate) mod body;
mod image;
mod payments;
mod read;
mod rent;
mod ssh_keys;
mod topup;
pub mod view;

#[cfg(test)]
pub(crate) use body::request_sha256;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(rent::create, read::list))
        .routes(routes!(read::get, read::delete))
        .routes(routes!(rent::extend))
        .routes(routes!(read::stop))
        .routes(routes!(read::events))
        .routes(routes!(read::token))
        .routes(routes!(ssh_keys::get, ssh_keys::replace))
        .routes(routes!(payments::quote))
        .routes(routes!(payments::authorize))
        .routes(routes!(payments::complete))
        .routes(routes!(payments::get))
        .routes(routes!(balance::balance))
        .routes(routes!(topup::top_up))
}
