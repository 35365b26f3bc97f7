//! `/webhooks`: where to be told of one's events, and what was told.

mod deliveries;

use std::sync::Arc;

use axum::{extract::State as AxumState, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::{id::WebhookId, time::Timestamp};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Change, New,
    model::{Patterns, Webhook},
    signature::{SECRET_BYTES, SigningSecret},
};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{IfMatch, Json, Page, Paging, Path, Problems, Query, Tag, Tagged, etag::IfMatchParam},
    keys::random_32,
    tasks::webhook_courier,
};

/// How long an old secret goes on signing unless somebody says otherwise, seconds.
const OLD_SECRET_S: i64 = 86_400;
const OLD_SECRET_S_MAX: i64 = 7 * 86_400;

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, patch, delete))
        .routes(routes!(rotate))
        .merge(deliveries::routes())
}

/// An endpoint.
#[derive(Serialize, ToSchema)]
struct WebhookView {
    #[schema(value_type = String)]
    id: WebhookId,
    url: String,
    description: String,
    /// Kinds of events that are sent; empty for all.
    events: Vec<String>,
    /// `active`, `paused` or `disabled`.
    state: &'static str,
    /// Why it was disabled: `gone` (it answered 410) or `failing` (nothing arrived for days).
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<&'static str>,
    /// Since when nothing arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

fn view(webhook: &Webhook) -> WebhookView {
    WebhookView {
        id: webhook.id,
        url: webhook.url.clone(),
        description: webhook.description.clone(),
        events: webhook.events.list().to_vec(),
        state: webhook.state.name(),
        disabled_reason: webhook.state.reason(),
        failing_since: webhook.failing_since,
        created_at: webhook.created_at,
        updated_at: webhook.updated_at,
    }
}

/// Of what its owner wrote and whether it is sent to: attempts that fail and new secrets don't void it.
fn tag(webhook: &Webhook) -> Tag {
    let mut fields = vec![
        webhook.url.as_str(),
        &webhook.description,
        webhook.state.name(),
    ];
    fields.extend(webhook.events.list().iter().map(String::as_str));
    Tag::of_fields(&fields)
}

fn tagged(webhook: &Webhook) -> Tagged<Json<WebhookView>> {
    Tagged(tag(webhook), Json(view(webhook)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(get, path = "/webhooks", operation_id = "list_webhooks", tag = "live", params(ListParams),
    responses((status = 200, body = Page<WebhookView>), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn list(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<WebhookView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: Option<WebhookId> = paging.after()?;
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let fetch = paging.fetch();
    let read = move |tx: &mut dyn crate::store::Tx| super::list(tx, &ctx, &after, fetch);
    let rows = app.db.read("webhook.list", read).await?;
    let page = Page::of(rows, &paging, |webhook| webhook.id)?;
    Ok(Json(page.map(|webhook| view(&webhook))))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateWebhookRequest {
    /// `https://…`; must be on the public internet.
    url: String,
    #[serde(default)]
    description: String,
    /// Kinds such as `rental.started`, or `rental.*`; empty for all.
    #[serde(default)]
    events: Vec<String>,
}

/// A new endpoint with its secret.
#[derive(Serialize, ToSchema)]
struct CreatedWebhookView {
    #[serde(flatten)]
    webhook: WebhookView,
    /// Checks signatures (`whsec_…`, Standard Webhooks). It isn't shown again.
    secret: String,
}

/// Requests are signed as <https://www.standardwebhooks.com> says: `webhook-id`, `webhook-timestamp`, `webhook-signature`. A
/// delivery is repeated for about three days until it is answered 2xx; 410 switches the webhook off. The same `webhook-id` may
/// arrive twice.
#[utoipa::path(post, path = "/webhooks", operation_id = "create_webhook", tag = "live", request_body = CreateWebhookRequest,
    responses((status = 201, body = CreatedWebhookView), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn create(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Json(request): Json<CreateWebhookRequest>,
) -> Result<(StatusCode, Tagged<Json<CreatedWebhookView>>)> {
    let secret = new_secret()?;
    let new = New {
        url: checked(&app, request.url)?,
        description: request.description,
        events: Patterns::parse(request.events)?,
        secret: secret.clone(),
    };
    let (sealer, most) = (
        Arc::clone(&app.courier.sealer),
        app.config.webhooks.per_user_max,
    );
    let webhook = app
        .db
        .write("webhook.create", move |tx| {
            super::create(tx, &ctx, &new, &sealer, most)
        })
        .await?;
    let created = CreatedWebhookView {
        webhook: view(&webhook),
        secret: secret.text().expose().clone(),
    };
    Ok((StatusCode::CREATED, Tagged(tag(&webhook), Json(created))))
}

fn new_secret() -> Result<SigningSecret> {
    let bytes = random_32().map_err(|error| Error::internal(error.to_string()))?;
    debug_assert_eq!(bytes.len(), SECRET_BYTES);
    Ok(SigningSecret::from_bytes(bytes))
}

fn checked(app: &App, url: String) -> Result<String> {
    app.outbound
        .check(&url)
        .map_err(|error| Error::invalid("/url", error.to_string()))?;
    Ok(url)
}

#[utoipa::path(get, path = "/webhooks/{id}", operation_id = "get_webhook", tag = "live", params(("id" = String, Path)),
    responses((status = 200, body = WebhookView), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn get(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<WebhookId>,
) -> Result<Tagged<Json<WebhookView>>> {
    let webhook = app
        .db
        .read("webhook.get", move |tx| super::get_own(tx, &ctx, id))
        .await?;
    Ok(tagged(&webhook))
}

/// What to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PatchWebhookRequest {
    url: Option<String>,
    description: Option<String>,
    events: Option<Vec<String>>,
    /// `active` or `paused`.
    state: Option<WantedState>,
}

#[derive(Deserialize, ToSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum WantedState {
    Active,
    Paused,
}

#[utoipa::path(patch, path = "/webhooks/{id}", operation_id = "change_webhook", tag = "live",
    params(("id" = String, Path), IfMatchParam),
    description = "Switched on again, it is sent what still waits for it.",
    request_body = PatchWebhookRequest, responses((status = 200, body = WebhookView), Problems),
    security(("access_token" = []), ("cookie" = [])))]
async fn patch(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<WebhookId>,
    seen: IfMatch,
    Json(request): Json<PatchWebhookRequest>,
) -> Result<Tagged<Json<WebhookView>>> {
    let change = Change {
        url: request.url.map(|url| checked(&app, url)).transpose()?,
        description: request.description,
        events: request.events.map(Patterns::parse).transpose()?,
        active: request.state.map(|state| state == WantedState::Active),
    };
    let webhook = app
        .db
        .write("webhook.change", move |tx| {
            super::change(tx, &ctx, id, &change, |now| seen.check(&tag(now)))
        })
        .await?;
    app.tasks.poke(webhook_courier::NAME);
    Ok(tagged(&webhook))
}

#[utoipa::path(delete, path = "/webhooks/{id}", operation_id = "delete_webhook", tag = "live",
    params(("id" = String, Path), IfMatchParam),
    responses((status = 204), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn delete(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<WebhookId>,
    seen: IfMatch,
) -> Result<StatusCode> {
    app.db
        .write("webhook.delete", move |tx| {
            super::delete(tx, &ctx, id, |now| seen.check(&tag(now)))
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, ToSchema, Default)]
#[serde(deny_unknown_fields)]
struct RotateRequest {
    /// The old secret signs too for so long: a day unless set, a week at most.
    old_expires_in_seconds: Option<i64>,
}

/// A new secret.
#[derive(Serialize, ToSchema)]
struct RotatedView {
    /// It isn't shown again.
    secret: String,
    /// Until then the old one signs too.
    #[schema(value_type = String, format = DateTime)]
    old_expires_at: Timestamp,
}

#[utoipa::path(post, path = "/webhooks/{id}/rotate-secret", operation_id = "rotate_webhook_secret", tag = "live",
    params(("id" = String, Path)), request_body = RotateRequest,
    responses((status = 200, body = RotatedView), Problems), security(("access_token" = []), ("cookie" = [])))]
async fn rotate(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<WebhookId>,
    Json(request): Json<RotateRequest>,
) -> Result<Json<RotatedView>> {
    let old_for_s = request.old_expires_in_seconds.unwrap_or(OLD_SECRET_S);
    if !(0..=OLD_SECRET_S_MAX).contains(&old_for_s) {
        let says = format!("0 to {OLD_SECRET_S_MAX} seconds");
        return Err(Error::invalid("/old_expires_in_seconds", says));
    }
    let (secret, sealer) = (new_secret()?, Arc::clone(&app.courier.sealer));
    let shown = secret.text().expose().clone();
    let old_expires_at = app
        .db
        .write("webhook.rotate", move |tx| {
            super::rotate(
                tx,
                &ctx,
                id,
                (&sealer, &secret),
                old_for_s.saturating_mul(1_000),
            )
        })
        .await?;
    Ok(Json(RotatedView {
        secret: shown,
        old_expires_at,
    }))
}
