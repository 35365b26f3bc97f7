//! `/auth/totp`: setting and removing the second factor, and signing in with it.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use shared::{secret::Secret, wire::problem::Problem};
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::auth::{
        login::{self, Asker},
        model::Device,
        second_factor::{self, NewSecret},
    },
    error::{Error, Result},
    http::{ClientIp, Json, Problems, PublicCtx, error as problems},
    limits::{Action, Caller},
    store::Tx,
};

/// A secret for an authenticator app, shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct NewSecretResponse {
    /// To type: base32.
    #[schema(example = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")]
    secret: String,
    /// To show as a QR code.
    otpauth_url: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmRequest {
    /// What the app shows now.
    #[schema(example = "287082")]
    code: String,
}

/// Codes for when the app is lost; each works once, and they are shown once.
#[derive(Serialize, ToSchema)]
pub(super) struct RecoveryResponse {
    #[schema(example = json!(["MZXW-6YTB-OIAA-BCDE"]))]
    recovery_codes: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginTotpRequest {
    /// From the problem `second_factor_required` of the login.
    challenge: String,
    /// What the app shows now, or a recovery code.
    #[schema(example = "287082")]
    code: String,
}

/// The answer to who is let in but for the code of their second factor: 401 with a challenge.
#[must_use]
pub fn required(challenge: String) -> Response {
    #[derive(Serialize)]
    struct Required {
        #[serde(flatten)]
        problem: Problem,
        /// To be sent with the code.
        challenge: String,
    }
    let error = Error::unauthenticated(
        "second_factor_required",
        "send a code of the second factor and this challenge: POST /api/v1/auth/login/totp",
    );
    let status = StatusCode::UNAUTHORIZED;
    let body = Required {
        problem: problems::problem(&error, status),
        challenge,
    };
    let head = [(header::CONTENT_TYPE, problems::PROBLEM_JSON)];
    match serde_json::to_vec(&body) {
        Ok(body) => (status, head, super::no_store(), body).into_response(),
        Err(error) => Error::internal(error).into_response(),
    }
}

/// Signs in with the second factor, after `POST /auth/login` answered 401 `second_factor_required` with a `challenge`.
#[utoipa::path(post, path = "/auth/login/totp", operation_id = "login_totp", tag = "auth", security(()),
    request_body = LoginTotpRequest,
    responses((status = 200, description = "Signed in", body = super::TokenResponse), Problems))]
pub(super) async fn login_totp(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    device: Device,
    Json(body): Json<LoginTotpRequest>,
) -> Result<Response> {
    let asker = Asker {
        address: client.group(),
        device,
    };
    let now = ctx.now;
    let code = Secret::new(body.code);
    let signed_in = login::by_code(&app, ctx, asker, &body.challenge, code).await?;
    super::answer(&app, StatusCode::OK, now, signed_in)
}

/// Begins to set a second factor: a secret for an authenticator app. Needs a fresh proof of who you are.
#[utoipa::path(post, path = "/auth/totp", operation_id = "begin_totp", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    responses((status = 201, description = "Begun; confirm it with a code", body = NewSecretResponse), Problems))]
pub(super) async fn begin_totp(State(app): State<Arc<App>>, ctx: OpCtx) -> Result<Response> {
    let secret = NewSecret::random()?;
    let (state, kept) = (Arc::clone(&app), secret.clone());
    let account = app
        .db
        .write("auth.begin_totp", move |tx| {
            state.auth.second_factors.begin(tx, &ctx, &kept)
        })
        .await?;
    let (secret, otpauth_url) = secret.shown(&account.email);
    let body = NewSecretResponse {
        secret,
        otpauth_url,
    };
    Ok((StatusCode::CREATED, super::no_store(), Json(body)).into_response())
}

/// Puts the second factor into force: logins and proofs need it from now on. All your other sessions end.
#[utoipa::path(post, path = "/auth/totp/confirm", operation_id = "confirm_totp", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    request_body = ConfirmRequest,
    responses((status = 200, description = "In force", body = RecoveryResponse), Problems))]
pub(super) async fn confirm_totp(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Json(body): Json<ConfirmRequest>,
) -> Result<Response> {
    let user = ctx.signed_in()?.clone();
    app.limits
        .count(Action::Login, Caller::User(user.id), app.clock.boot_ms())?;
    let recovery = second_factor::recovery_codes()?;
    let (state, kept) = (Arc::clone(&app), recovery.clone());
    let ended = app
        .db
        .write("auth.confirm_totp", move |tx| {
            let factors = &state.auth.second_factors;
            factors.confirm(tx, &ctx, &state.postbox, &body.code, &kept)
        })
        .await?;
    app.auth.live.forget_all(&ended);
    app.auth.live.forget(user.session);
    let recovery_codes = recovery.iter().map(|code| code.expose().clone()).collect();
    let body = RecoveryResponse { recovery_codes };
    Ok((super::no_store(), Json(body)).into_response())
}

/// Removes your second factor. Needs a fresh proof of who you are, with a code of it.
#[utoipa::path(delete, path = "/auth/totp", operation_id = "remove_totp", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    responses((status = 204, description = "Removed"), Problems))]
pub(super) async fn remove_totp(State(app): State<Arc<App>>, ctx: OpCtx) -> Result<StatusCode> {
    let session = ctx.signed_in()?.session;
    let postbox = Arc::clone(&app.postbox);
    let remove = move |tx: &mut dyn Tx| second_factor::remove(tx, &ctx, &postbox);
    app.db.write("auth.remove_totp", remove).await?;
    // what an administrator may do can depend on it
    app.auth.live.forget(session);
    Ok(StatusCode::NO_CONTENT)
}
