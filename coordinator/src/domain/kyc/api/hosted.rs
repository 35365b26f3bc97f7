//! What the hosted provider tells: `/kyc/webhook/{provider}`.

use std::sync::Arc;

use axum::{
    extract::State as AppState,
    http::{HeaderMap, StatusCode},
};

use crate::{
    app::App,
    context::Actor,
    domain::kyc::{self, webhook},
    error::{Error, Result},
    http::{Path, Problems, PublicCtx, RawBody},
};

#[utoipa::path(
    post, path = "/kyc/webhook/{provider}", operation_id = "take_kyc_webhook", tag = "kyc", params(("provider" = String, Path)),
    description = "For the hosted provider: a Standard Webhook of type `verification.approved` or `verification.rejected` whose \
        `data.reference` is a case. Each event counts once.",
    request_body = Object, responses((status = 204), Problems), security(())
)]
pub(super) async fn take_webhook(
    AppState(app): AppState<Arc<App>>,
    PublicCtx(mut ctx): PublicCtx,
    Path(provider): Path<String>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<StatusCode> {
    let config = app.config.kyc.clone();
    let key = config.webhook_key().map_err(Error::internal)?;
    let Some(key) = key.filter(|_| kyc::is_hosted(&config, &provider)) else {
        return Err(Error::not_found("provider"));
    };
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let sent = webhook::Headers {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
    };
    webhook::verify(&key, &sent, &body, ctx.now, config.webhook_tolerance_s)?;
    let Some(event) = webhook::read(sent.id, &body)? else {
        return Ok(StatusCode::NO_CONTENT);
    };
    // the signature says that the provider speaks; the entry names it
    ctx.actor = Actor::System;
    let news = app
        .db
        .write("kyc.webhook", move |tx| {
            kyc::take_event(tx, &ctx, &config, &provider, &event)
        })
        .await?;
    tracing::info!(news, "kyc webhook taken in");
    Ok(StatusCode::NO_CONTENT)
}
