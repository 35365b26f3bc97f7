//! API keys: made by a person who has just proven who they are, shown once, used by programs as bearer tokens.
//!
//! # Invariants
//! - Only SHA-256 of a key's 256-bit secret is kept; a key never makes or ends keys.
//! - A key can do what its scopes say *and* its person may; it never has the role admin (`domain/access` decides).
//! - Asking costs the database one read in [`TRUSTED_MS`] and one write in [`NOTED_MS`] for each key, however often it is used.

pub mod api;
mod live;
pub mod model;
mod store;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use shared::id::ApiKeyId;

pub use self::live::LiveKeys;
use self::model::{KEYS_MAX, KeySecret, StoredKey, Wish};
use super::{
    audit::{self, Entry},
    auth,
};
use crate::{
    app::App,
    context::{ApiKey, OpCtx, Role},
    error::{Error, Kind, Result},
    store::Tx,
};

/// A key that was ended elsewhere, or a role that was taken away, may be believed for so long.
pub const TRUSTED_MS: i64 = 30_000;
/// The last use is noted at most so often.
pub const NOTED_MS: i64 = 60_000;

/// Makes a key of the caller's, who is signed in.
///
/// # Errors
/// 403 for keys; 409 with too many keys; 422 out of bounds.
pub fn create(tx: &mut dyn Tx, ctx: &OpCtx, wish: &Wish, secret: &KeySecret) -> Result<StoredKey> {
    let user = ctx.signed_in()?.id;
    if store::holding(tx, user, ctx.now)? >= KEYS_MAX {
        return Err(Error::conflict(
            "too_many_keys",
            format!("an account has at most {KEYS_MAX} keys: end one that isn't used"),
        ));
    }
    let key = StoredKey {
        id: ctx.mint(),
        user,
        name: wish.name.clone(),
        secret_hash: secret.hash(),
        scopes: wish.scopes.clone(),
        addresses: wish.addresses.clone(),
        created: ctx.now,
        expires: wish.expires(ctx.now),
        revoked: None,
        last_used: None,
        last_used_from: None,
    };
    store::insert(tx, &key)?;
    let addresses: Vec<String> = key.addresses.iter().map(ToString::to_string).collect();
    let state = serde_json::json!({
        "name": key.name, "scopes": key.scopes, "addresses": addresses, "expires_at": key.expires.to_string(),
    });
    audit::record(tx, ctx, Entry::of("api_key.created", key.id).after(state))?;
    Ok(key)
}

/// The caller's keys after a cursor.
///
/// # Errors
/// 403 for keys.
pub fn list(tx: &mut dyn Tx, ctx: &OpCtx, after: &str, limit: i64) -> Result<Vec<StoredKey>> {
    store::page(tx, ctx.signed_in()?.id, after, limit)
}

/// Ends a key of the caller's; ending it again changes nothing.
///
/// # Errors
/// 404 for what isn't theirs.
pub fn revoke(tx: &mut dyn Tx, ctx: &OpCtx, id: ApiKeyId) -> Result<()> {
    let user = ctx.signed_in()?.id;
    store::by_id(tx, id)?
        .filter(|key| key.user == user)
        .ok_or_else(|| Error::not_found("API key"))?;
    if store::revoke(tx, user, id, ctx.now)? {
        audit::record(tx, ctx, Entry::of("api_key.revoked", id))?;
    }
    Ok(())
}

/// Who acts by the key that `text` is, from `client`.
///
/// # Errors
/// 401 when it doesn't hold, 403 when it is bound to other addresses; 503 when the database can't be asked.
pub async fn authenticate(app: &App, text: &str, client: Option<IpAddr>) -> Result<ApiKey> {
    let (id, secret) = model::parse(text).ok_or_else(|| {
        Error::unauthenticated(
            "api_key_malformed",
            "this isn't an API key: a character is wrong or missing, copy it again",
        )
    })?;
    let (key, roles) = known(app, id).await?.ok_or_else(refused)?;
    if key.secret_hash != secret.hash() || !key.holds(app.clock.now()) {
        return Err(refused());
    }
    if !key.opens_from(client) {
        return Err(Error::new(
            Kind::Forbidden,
            "api_key_address",
            "this API key isn't used from this address: its owner bound it to others",
        ));
    }
    note_use(app, id, client).await;
    Ok(ApiKey {
        id,
        user: key.user,
        roles,
        scopes: key.scopes,
    })
}

fn refused() -> Error {
    Error::unauthenticated(
        "api_key",
        "the API key isn't known, or has ended: make a new one",
    )
}

type Known = (StoredKey, std::collections::BTreeSet<Role>);

/// A key with its person's roles, as known for at most [`TRUSTED_MS`].
async fn known(app: &App, id: ApiKeyId) -> Result<Option<Known>> {
    let now_ms = app.clock.boot_ms();
    if let Some(known) = app.api_keys.get(id, now_ms) {
        return Ok(Some(known));
    }
    let found = app
        .db
        .read("api_key.find", move |tx| {
            let Some(key) = store::by_id(tx, id)? else {
                return Ok(None);
            };
            let owner = auth::account(tx, key.user)?;
            if owner.disabled.is_some() {
                return Ok(None);
            }
            let mut roles = owner.roles;
            roles.remove(&Role::Admin);
            Ok(Some((key, roles)))
        })
        .await?;
    if let Some(known) = &found {
        app.api_keys.put(id, known.clone(), now_ms);
    }
    Ok(found)
}

/// Notes that a key was used, at most once a minute. That it can't be noted is no reason to refuse its bearer.
async fn note_use(app: &App, id: ApiKeyId, client: Option<IpAddr>) {
    if !app.api_keys.is_note_due(id, app.clock.boot_ms()) {
        return;
    }
    let now = app.clock.now();
    let from = client.map(|client| client.to_string());
    let noted = app
        .db
        .write("api_key.use", move |tx| {
            store::note_use(tx, id, from.as_deref(), now, now.plus_ms(-NOTED_MS))
        })
        .await;
    if let Err(error) = noted {
        tracing::warn!(key.id = %id, %error, "use of an API key can't be noted");
    }
}

/// Whether a key still holds, as known for at most [`TRUSTED_MS`]; for what lasts longer than a request.
///
/// # Errors
/// What the database says.
pub async fn holds(app: &App, key: &ApiKey) -> Result<bool> {
    let found = known(app, key.id).await?;
    Ok(found.is_some_and(|(stored, _)| stored.holds(app.clock.now())))
}
