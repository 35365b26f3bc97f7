//! `/ssh-keys`: the keys of an account; `/gateway/ssh`: where they open what.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use shared::{id::SshKeyId, time::Timestamp};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::model::{StoredKey, Wish};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Kind, Result},
    http::{Json, Path, Problems},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(remove))
        .routes(routes!(gateway))
}

/// A key to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddSshKeyRequest {
    /// Where it lies; its comment if left out.
    #[schema(example = "my desk")]
    name: Option<String>,
    /// The line of the `.pub` file: Ed25519, ECDSA, or one of both on a security key.
    #[schema(
        example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ ada@desk"
    )]
    public_key: String,
}

/// A key of an account.
#[derive(Serialize, ToSchema)]
struct SshKeyView {
    #[schema(value_type = String, example = "ssk_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: SshKeyId,
    #[schema(example = "my desk")]
    name: String,
    /// Type, base64 and comment.
    public_key: String,
    /// As `ssh-keygen -l` shows it.
    #[schema(example = "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE")]
    fingerprint: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last opened a rental, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
}

impl From<StoredKey> for SshKeyView {
    fn from(stored: StoredKey) -> Self {
        Self {
            id: stored.id,
            name: stored.name,
            public_key: stored.key.line(),
            fingerprint: stored.key.fingerprint().to_owned(),
            created_at: stored.created,
            last_used_at: stored.last_used,
        }
    }
}

/// Keys of an account, all of them.
#[derive(Serialize, ToSchema)]
struct SshKeysView {
    items: Vec<SshKeyView>,
}

#[utoipa::path(
    post, path = "/ssh-keys", operation_id = "create_ssh_key", tag = "auth",
    description = "Adds an SSH key that opens whatever you rent, now and later. Needs a recent proof of who you are (see step_up).",
    request_body = AddSshKeyRequest, responses((status = 201, body = SshKeyView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn create(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Json(request): Json<AddSshKeyRequest>,
) -> Result<(StatusCode, Json<SshKeyView>)> {
    let wish = Wish::check(request.name.as_deref(), &request.public_key)?;
    let key = app
        .db
        .write("ssh_key.create", move |tx| super::create(tx, &ctx, &wish))
        .await?;
    Ok((StatusCode::CREATED, Json(key.into())))
}

#[utoipa::path(
    get, path = "/ssh-keys", operation_id = "list_ssh_keys", tag = "auth",
    description = "Your SSH keys, at most 50, oldest first.", responses((status = 200, body = SshKeysView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
async fn list(ctx: OpCtx, State(app): State<Arc<App>>) -> Result<Json<SshKeysView>> {
    let keys = app
        .db
        .read("ssh_key.list", move |tx| super::list(tx, &ctx))
        .await?;
    let items = keys.into_iter().map(SshKeyView::from).collect();
    Ok(Json(SshKeysView { items }))
}

#[utoipa::path(
    delete, path = "/ssh-keys/{id}", operation_id = "delete_ssh_key", tag = "auth", params(("id" = String, Path)),
    description = "Removes a key; connections that it opened end within a minute.",
    responses((status = 204, description = "Removed"), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn remove(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<SshKeyId>,
) -> Result<StatusCode> {
    app.db
        .write("ssh_key.remove", move |tx| super::remove(tx, &ctx, id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where rentals are reached by SSH.
#[derive(Serialize, ToSchema)]
struct SshGatewayView {
    #[schema(example = "market.example")]
    host: String,
    #[schema(example = 2222)]
    port: u16,
    /// Type and base64 of each.
    #[schema(example = json!(["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"]))]
    host_keys: Vec<String>,
    /// As a client shows them at its first connection, in the order of `host_keys`.
    #[schema(example = json!(["SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE"]))]
    fingerprints: Vec<String>,
    /// A line for `~/.ssh/known_hosts`.
    known_hosts: String,
}

#[utoipa::path(
    get, path = "/gateway/ssh", operation_id = "get_ssh_gateway", tag = "rentals",
    description = "Where `ssh <rental>@<host>` leads to, and the host keys by which it is known.",
    responses((status = 200, body = SshGatewayView), Problems), security(())
)]
async fn gateway(State(app): State<Arc<App>>) -> Result<Json<SshGatewayView>> {
    let face = app.ssh.as_ref().ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            "ssh_not_offered",
            "this market has no SSH gateway",
        )
    })?;
    Ok(Json(SshGatewayView {
        host: face.host.clone(),
        port: face.port,
        host_keys: vec![face.public_key.clone()],
        fingerprints: vec![face.fingerprint.clone()],
        known_hosts: face.known_hosts(),
    }))
}
