//! `POST /auth/step-up`: who is signed in proves again who they are, for what moves money or changes who they are.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::auth::{self, model},
    error::{Error, Kind, Result},
    http::{Json, Problems},
    limits::{Action, Caller},
};

/// A proof of who you are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUpRequest {
    #[schema(example = "correct horse battery staple")]
    password: String,
}

/// Proves again who you are. For five minutes this session may then do what moves money or changes the account.
#[utoipa::path(post, path = "/auth/step-up", operation_id = "step_up", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    request_body = StepUpRequest,
    responses((status = 204, description = "Proven"), Problems))]
pub(super) async fn step_up(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Json(body): Json<StepUpRequest>,
) -> Result<StatusCode> {
    let user = ctx.signed_in()?.clone();
    let password = model::new_password(body.password).map_err(|_| refused())?;
    let (account, hash) = app
        .db
        .read("auth.proof", move |tx| auth::account_with_hash(tx, user.id))
        .await?;
    let caller = Caller::Email(account.email);
    app.limits
        .count(Action::Login, caller, app.clock.boot_ms())?;
    if !app.auth.passwords.verify(password, Some(&hash)).await? {
        return Err(refused());
    }
    app.db
        .write("auth.step_up", move |tx| {
            auth::session::prove(tx, &ctx, user.session)
        })
        .await?;
    app.auth.live.forget(user.session);
    Ok(StatusCode::NO_CONTENT)
}

fn refused() -> Error {
    Error::new(
        Kind::Forbidden,
        "proof_refused",
        "the password is wrong; the session goes on as before",
    )
}
