//! `/auth/email`: showing that an address works, and changing it.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::auth::{self, account, links::LinkToken, model::Email},
    error::Result,
    http::{ClientIp, Json, Problems, PublicCtx},
    limits::{Action, Caller},
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeEmailRequest {
    #[schema(example = "countess@example.org")]
    email: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyEmailRequest {
    /// From the link.
    #[schema(example = "ZQNbWGUuXNtXK0dG9QcS2dXmFJ0Yb5xkq3vJ1n8sT6o")]
    token: String,
}

/// Sends a link to a new address and a notice to the one of now; the address changes when the link is used. Needs a fresh
/// proof of who you are.
#[utoipa::path(post, path = "/auth/email", operation_id = "change_email", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    request_body = ChangeEmailRequest,
    responses((status = 202, description = "A mail is on its way"), Problems))]
pub(super) async fn change_email(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Json(body): Json<ChangeEmailRequest>,
) -> Result<StatusCode> {
    auth::require_fresh(&ctx)?;
    let email = Email::parse(&body.email)?;
    let user = Caller::User(ctx.signed_in()?.id);
    app.limits.count(Action::Mail, user, app.clock.boot_ms())?;
    let (token, postbox) = (LinkToken::random()?, Arc::clone(&app.postbox));
    app.db
        .write("auth.ask_to_change_email", move |tx| {
            account::ask_to_change_email(tx, &ctx, &postbox, &email, &token)
        })
        .await?;
    Ok(StatusCode::ACCEPTED)
}

/// Sends a link that shows that your address works.
#[utoipa::path(post, path = "/auth/email/verify/request", operation_id = "request_email_verification", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    responses((status = 202, description = "A mail is on its way"), Problems))]
pub(super) async fn request_email_verification(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
) -> Result<StatusCode> {
    let user = ctx.signed_in()?.id;
    app.limits
        .count(Action::Mail, Caller::User(user), app.clock.boot_ms())?;
    let (token, postbox) = (LinkToken::random()?, Arc::clone(&app.postbox));
    app.db
        .write("auth.ask_to_verify", move |tx| {
            let account = auth::account(tx, user)?;
            account::ask_to_verify(tx, &ctx, &postbox, &account, &token)
        })
        .await?;
    Ok(StatusCode::ACCEPTED)
}

/// Uses a link that was sent to your address.
#[utoipa::path(post, path = "/auth/email/verify", operation_id = "verify_email", tag = "auth", security(()),
    request_body = VerifyEmailRequest,
    responses((status = 204, description = "The address works"), Problems))]
pub(super) async fn verify_email(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    Json(body): Json<VerifyEmailRequest>,
) -> Result<StatusCode> {
    let address = Caller::Address(client.group());
    app.limits
        .count(Action::SignIn, address, app.clock.boot_ms())?;
    let token = LinkToken::parse(&body.token)?;
    app.db
        .write("auth.verify_email", move |tx| {
            account::verify(tx, &ctx, &token)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
