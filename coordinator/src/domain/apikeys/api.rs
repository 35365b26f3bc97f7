//! `/api-keys`: made, listed and ended by their person.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use shared::{id::ApiKeyId, time::Timestamp};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::model::{DAYS_DEFAULT, KeySecret, StoredKey, Wish};
use crate::{
    app::App,
    context::{OpCtx, Scope},
    error::Result,
    http::{Json, Page, Paging, Path, Problems, Query},
    outbound::address::IpRange,
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(revoke))
}

const fn days_default() -> u16 {
    DAYS_DEFAULT
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateApiKeyRequest {
    /// What it is for.
    #[schema(example = "nightly builds")]
    name: String,
    /// What it may do: `account:read`, `rentals:read`, `rentals:write`, `rentals:reach` (logs, programs, files and ports of
    /// rentals), `balance:write`, `nodes:read`, `nodes:write`, `offers:write`, `events:read`, `webhooks:read`, `webhooks:write`, `analytics:read`.
    #[schema(value_type = Vec<String>, example = json!(["rentals:read", "rentals:write"]))]
    scopes: BTreeSet<Scope>,
    /// 1 to 365.
    #[serde(default = "days_default")]
    #[schema(example = 90, minimum = 1, maximum = 365)]
    expires_in_days: u16,
    /// From where it may be used, as addresses or ranges; from everywhere if it is left out.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["198.51.100.0/24"]))]
    addresses: Vec<IpRange>,
}

/// A key as its person sees it.
#[derive(Serialize, ToSchema)]
struct KeyView {
    #[schema(value_type = String, example = "key_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: ApiKeyId,
    #[schema(example = "nightly builds")]
    name: String,
    #[schema(value_type = Vec<String>, example = json!(["rentals:read"]))]
    scopes: BTreeSet<Scope>,
    #[schema(value_type = Vec<String>, example = json!([]))]
    addresses: Vec<IpRange>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// To the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// An address.
    last_used_from: Option<String>,
}

impl From<StoredKey> for KeyView {
    fn from(key: StoredKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            addresses: key.addresses,
            created_at: key.created,
            expires_at: key.expires,
            revoked_at: key.revoked,
            last_used_at: key.last_used,
            last_used_from: key.last_used_from,
        }
    }
}

/// A new key.
#[derive(Serialize, ToSchema)]
struct CreatedApiKeyView {
    /// Shown once: keep it where nobody else reads. Send it as `Authorization: Bearer …`.
    #[schema(example = "ram_live_…")]
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

#[utoipa::path(
    post, path = "/api-keys", operation_id = "create_api_key", tag = "auth",
    description = "Makes a key for a program. Needs a recent proof of who you are (see step_up); a key can't make keys.",
    request_body = CreateApiKeyRequest, responses((status = 201, body = CreatedApiKeyView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn create(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Json(request): Json<CreateApiKeyRequest>,
) -> Result<(
    StatusCode,
    [(HeaderName, HeaderValue); 1],
    Json<CreatedApiKeyView>,
)> {
    let wish = Wish {
        name: request.name,
        scopes: request.scopes,
        days: request.expires_in_days,
        addresses: request.addresses,
    }
    .check()?;
    let secret = KeySecret::random()?;
    let kept = secret.clone();
    let key = app
        .db
        .write("api_key.create", move |tx| {
            super::create(tx, &ctx, &wish, &kept)
        })
        .await?;
    let body = CreatedApiKeyView {
        key: secret.key_text(key.id).expose().clone(),
        view: key.into(),
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(body)))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/api-keys", operation_id = "list_api_keys", tag = "auth", params(ListParams),
    description = "Your keys, the ended ones too, oldest first; never their secrets.",
    responses((status = 200, body = Page<KeyView>), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn list(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<KeyView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("api_key.list", move |tx| {
            super::list(tx, &ctx, &after, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |key| key.id.to_string())?;
    Ok(Json(page.map(KeyView::from)))
}

#[utoipa::path(
    delete, path = "/api-keys/{id}", operation_id = "revoke_api_key", tag = "auth", params(("id" = String, Path)),
    description = "Ends a key; other coordinators believe it for at most 30 s more. Ending it again changes nothing.",
    responses((status = 204, description = "Ended"), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn revoke(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<ApiKeyId>,
) -> Result<StatusCode> {
    app.db
        .write("api_key.revoke", move |tx| super::revoke(tx, &ctx, id))
        .await?;
    app.api_keys.forget(id);
    Ok(StatusCode::NO_CONTENT)
}
