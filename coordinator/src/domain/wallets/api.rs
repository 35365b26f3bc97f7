//! `GET /auth/wallet/challenge`: what a wallet signs to come back to its rentals.

use std::sync::Arc;

use axum::extract::State;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    domain::payments::extensions,
    error::Result,
    http::{Json, Problems},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(challenge))
}

#[utoipa::path(
    get, path = "/auth/wallet/challenge", operation_id = "wallet_challenge", tag = "auth",
    description = "What a wallet signs (sign-in-with-x, EIP-4361) to come back to the rentals that it paid for without an account. Send it \
        signed in the header SIGN-IN-WITH-X, base64 of JSON: the fields of `info` with `address`, `chainId`, `type` and `signature`. It is \
        good for one request within five minutes. Every 402 holds one, too.",
    responses((status = 200, body = Object), Problems), security(())
)]
async fn challenge(State(app): State<Arc<App>>) -> Result<Json<Value>> {
    let site = super::site(&app);
    let sign_in = super::challenge(&app, &site, app.purchases.chains())?;
    let asked = extensions::sign_in_with_x(&sign_in, "/api/v1/rentals");
    Ok(Json(asked))
}
