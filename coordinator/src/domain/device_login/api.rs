//! `/auth/device`: what a device asks before and while a person confirms it on the page `/device`.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
};
use serde::{Deserialize, Serialize};
use shared::{id::ApiKeyId, time::Timestamp};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Heard,
    model::{DAYS_DEFAULT, DeviceCode, HOLDS_MS, INTERVAL_S, UserCode, Wish},
};
use crate::{
    app::App,
    context::Scope,
    domain::apikeys::model::{KeySecret, StoredKey},
    error::{Error, Result},
    http::{ClientIp, Json, Problems, PublicCtx},
    limits::{Action, Caller},
};

/// Codes for people that are tried before giving up: two in 25,600,000,000 are equal.
const TRIES: usize = 3;

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(begin))
        .routes(routes!(redeem))
}

const fn days_default() -> u16 {
    DAYS_DEFAULT
}

/// What a device asks for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BeginDeviceLoginRequest {
    /// What the device is called, for the person who confirms; the key gets this name.
    #[schema(example = "ramarket on laptop")]
    client_name: String,
    /// What the key may do, as for POST /api-keys.
    #[schema(value_type = Vec<String>, example = json!(["rentals:read", "rentals:write"]))]
    scopes: BTreeSet<Scope>,
    /// For how many days the key holds: 1 to 90.
    #[serde(default = "days_default")]
    #[schema(example = 30, minimum = 1, maximum = 90)]
    expires_in_days: u16,
}

/// The two codes.
#[derive(Serialize, ToSchema)]
struct DeviceLoginView {
    /// The device's own: keep it, show it to nobody.
    #[schema(example = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY")]
    device_code: String,
    /// For the person.
    #[schema(example = "BCDF-GHJK")]
    user_code: String,
    /// Where the person enters it.
    #[schema(example = "https://market.example/device")]
    verification_uri: String,
    /// The same with the code in it.
    #[schema(example = "https://market.example/device?code=BCDF-GHJK")]
    verification_uri_complete: String,
    /// Seconds for which both hold.
    #[schema(example = 600)]
    expires_in: i64,
    /// Seconds between two questions of the device.
    #[schema(example = 5)]
    interval: i64,
}

#[utoipa::path(
    post, path = "/auth/device", operation_id = "begin_device_login", tag = "auth",
    description = "Begins to sign a program in from another device, in the shapes of RFC 8628: show `user_code` and `verification_uri` to \
        a person, who confirms there, and ask POST /auth/device/token every `interval` seconds meanwhile.",
    request_body = BeginDeviceLoginRequest, responses((status = 200, body = DeviceLoginView), Problems), security(())
)]
async fn begin(
    PublicCtx(ctx): PublicCtx,
    State(app): State<Arc<App>>,
    client: ClientIp,
    Json(request): Json<BeginDeviceLoginRequest>,
) -> Result<(NoStore, Json<DeviceLoginView>)> {
    let address = Caller::Address(client.group());
    app.limits
        .count(Action::DeviceLogin, address, app.clock.boot_ms())?;
    let wish = Wish {
        client_name: request.client_name,
        scopes: request.scopes,
        days: request.expires_in_days,
    }
    .check()?;
    let device = DeviceCode::random()?;
    for _ in 0..TRIES {
        let user = UserCode::random()?;
        let (ctx, wish, kept, code) = (ctx.clone(), wish.clone(), device.clone(), user.clone());
        let begun = app.db.write("device_login.begin", move |tx| {
            super::begin(tx, &ctx, &wish, &kept, &code)
        });
        if begun.await? {
            return Ok((no_store(), Json(view(&app, &device, &user))));
        }
    }
    Err(Error::internal("no free code was found"))
}

fn view(app: &App, device: &DeviceCode, user: &UserCode) -> DeviceLoginView {
    let page = format!("{}/device", app.config.http.public_url());
    DeviceLoginView {
        device_code: device.text().to_owned(),
        user_code: user.to_string(),
        verification_uri_complete: format!("{page}?code={user}"),
        verification_uri: page,
        expires_in: HOLDS_MS / 1_000,
        interval: INTERVAL_S,
    }
}

type NoStore = [(HeaderName, HeaderValue); 1];

const fn no_store() -> NoStore {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}

/// The device's code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RedeemDeviceLoginRequest {
    #[schema(example = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY")]
    device_code: String,
}

/// The key of a device.
#[derive(Serialize, ToSchema)]
struct DeviceKeyView {
    /// An API key, shown once: send it as `Authorization: Bearer …`.
    #[schema(example = "ram_live_…")]
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Its scopes, with spaces between them.
    #[schema(example = "rentals:read rentals:write")]
    scope: String,
    /// Its id, to revoke it by.
    #[schema(value_type = String, example = "key_0192f0c1a2b37c4d8e5f60718293a4b5")]
    key_id: ApiKeyId,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

#[utoipa::path(
    post, path = "/auth/device/token", operation_id = "redeem_device_login", tag = "auth",
    description = "Asks whether the person has confirmed, and gets the key once they have: 400 `authorization_pending` until then, \
        `slow_down` when asked too often, `access_denied` and `expired_token` when it is over.",
    request_body = RedeemDeviceLoginRequest, responses((status = 200, body = DeviceKeyView), Problems), security(())
)]
async fn redeem(
    PublicCtx(ctx): PublicCtx,
    State(app): State<Arc<App>>,
    client: ClientIp,
    Json(request): Json<RedeemDeviceLoginRequest>,
) -> Result<(NoStore, Json<DeviceKeyView>)> {
    let address = Caller::Address(client.group());
    app.limits
        .count(Action::DevicePoll, address, app.clock.boot_ms())?;
    let device = DeviceCode::sent(request.device_code);
    let secret = KeySecret::random()?;
    let kept = secret.clone();
    let heard = app
        .db
        .write("device_login.redeem", move |tx| {
            super::redeem(tx, &ctx, &device, &kept)
        })
        .await?;
    key_of(heard).map(|key| (no_store(), Json(key_view(&key, &secret))))
}

fn key_of(heard: Heard) -> Result<Box<StoredKey>> {
    Err(match heard {
        Heard::Key(key) => return Ok(key),
        Heard::Pending => Error::bad_request(
            "authorization_pending",
            "nobody has confirmed yet: ask again after the interval",
        ),
        Heard::TooSoon => Error::bad_request(
            "slow_down",
            "asked too soon: wait 5 s longer between two questions",
        ),
        Heard::Denied => Error::bad_request("access_denied", "the person refused"),
        Heard::Over => Error::bad_request(
            "expired_token",
            "this code isn't known, was redeemed, or is older than 10 minutes: begin again",
        ),
    })
}

fn key_view(key: &StoredKey, secret: &KeySecret) -> DeviceKeyView {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
    DeviceKeyView {
        access_token: secret.key_text(key.id).expose().clone(),
        token_type: "Bearer",
        scope: scopes.join(" "),
        key_id: key.id,
        expires_at: key.expires,
    }
}
