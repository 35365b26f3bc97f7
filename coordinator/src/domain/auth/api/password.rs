//! `/auth/password`: changing it, and setting a new one by a link that arrives by mail.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::auth::{account, links::LinkToken},
    error::Result,
    http::{ClientIp, Json, Problems, PublicCtx},
    limits::{Action, Caller},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangePasswordRequest {
    #[schema(example = "correct horse battery staple")]
    current_password: String,
    /// 8 to 256 bytes, and not one of those that attackers try first.
    #[schema(example = "four other unrelated words")]
    new_password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgotPasswordRequest {
    #[schema(example = "ada@example.org")]
    email: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetPasswordRequest {
    /// From the link.
    #[schema(example = "ZQNbWGUuXNtXK0dG9QcS2dXmFJ0Yb5xkq3vJ1n8sT6o")]
    token: String,
    /// 8 to 256 bytes, and not one of those that attackers try first.
    #[schema(example = "four other unrelated words")]
    password: String,
}

/// Changes your password. All your other sessions end.
#[utoipa::path(post, path = "/auth/password", operation_id = "change_password", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    request_body = ChangePasswordRequest,
    responses((status = 204, description = "Changed"), Problems))]
pub(super) async fn change_password(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Json(body): Json<ChangePasswordRequest>,
) -> Result<StatusCode> {
    account::change_password(&app, ctx, body.current_password, body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends a link to set a new password, if the address has an account. The answer is the same if it hasn't, and doesn't wait
/// for the difference.
#[utoipa::path(post, path = "/auth/password/forgot", operation_id = "forgot_password", tag = "auth", security(()),
    request_body = ForgotPasswordRequest,
    responses((status = 202, description = "If there is an account, a mail is on its way"), Problems))]
pub(super) async fn forgot_password(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    Json(body): Json<ForgotPasswordRequest>,
) -> Result<StatusCode> {
    let address = Caller::Address(client.group());
    account::forgotten(&app, ctx, address, &body.email)?;
    Ok(StatusCode::ACCEPTED)
}

/// Sets a new password by the link of a mail. All sessions end.
#[utoipa::path(post, path = "/auth/password/reset", operation_id = "reset_password", tag = "auth", security(()),
    request_body = ResetPasswordRequest,
    responses((status = 204, description = "Set; sign in with it"), Problems))]
pub(super) async fn reset_password(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    Json(body): Json<ResetPasswordRequest>,
) -> Result<StatusCode> {
    let address = Caller::Address(client.group());
    app.limits
        .count(Action::SignIn, address, app.clock.boot_ms())?;
    let token = LinkToken::parse(&body.token)?;
    account::reset_password(&app, ctx, token, body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}
