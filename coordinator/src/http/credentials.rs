//! From a request's credentials to an [`OpCtx`], the first argument of every service.
//!
//! # Invariants
//! - A credential that is there but doesn't hold is 401: it never makes its bearer nobody.
//! - Who asks is resolved by the gate, once; a handler that the gate doesn't stand before gets no context.
//! - An `Authorization` header goes before a wallet's claim, and that before the cookie; only the cookie needs the protection of [`csrf`].

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use shared::x402::sign_in;

use super::{ClientIp, csrf, gate::Resolved, rental_token, request_id};
use crate::{
    app::App,
    context::{Actor, OpCtx, sign_in_required},
    domain::{apikeys, auth, wallets},
    error::{Error, Result},
};

impl FromRequestParts<Arc<App>> for OpCtx {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let Some(Resolved(actor)) = parts.extensions.get::<Resolved>() else {
            return Err(Error::internal(
                "a handler asks who acts, and no gate is before it",
            ));
        };
        let actor = actor.clone();
        Ok(context(app, parts, actor))
    }
}

/// A context for endpoints that don't look at credentials (login, refresh): a stale cookie must not lock anybody out.
/// Another site's requests are refused all the same.
#[derive(Debug)]
pub struct PublicCtx(pub OpCtx);

impl FromRequestParts<Arc<App>> for PublicCtx {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        csrf::check_open(&parts.headers, &app.config.http.public_url())?;
        Ok(Self(context(app, parts, Actor::Anonymous)))
    }
}

/// A context for safe endpoints to which other sites lead the browser, such as a provider that sends somebody back: nobody
/// acts, and where the request comes from is checked by its handler.
#[derive(Debug)]
pub struct VisitCtx(pub OpCtx);

impl FromRequestParts<Arc<App>> for VisitCtx {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(context(app, parts, Actor::Anonymous)))
    }
}

/// The context of a request by `actor`.
#[must_use]
pub fn context(app: &App, parts: &Parts, actor: Actor) -> OpCtx {
    let client = ClientIp::of(parts, &app.config.http.trusted_proxies);
    context_of(app, client, actor)
}

/// The context of a request by `actor` from `client`.
#[must_use]
pub fn context_of(app: &App, client: ClientIp, actor: Actor) -> OpCtx {
    app.context(actor, request_id::current())
        .with_client(client.known())
}

/// Who sent the request.
///
/// # Errors
/// 401 when a credential is there but doesn't hold, 403 when a cookie comes from another site.
pub async fn actor_of(app: &App, parts: &Parts) -> Result<Actor> {
    if let Some(actor) = by_headers(app, parts).await? {
        return Ok(actor);
    }
    let name = app.auth.cookies.access_name();
    let Some(cookie) = auth::cookies::read(&parts.headers, name) else {
        return Ok(Actor::Anonymous);
    };
    csrf::check_cookie(&parts.method, &parts.headers, &app.config.http.public_url())?;
    auth::authenticate(app, cookie).await.map(Actor::User)
}

/// Who sent the request, by what no browser sends on its own; nothing where there is none of it.
///
/// # Errors
/// 401 when a credential is there but doesn't hold.
pub async fn by_headers(app: &App, parts: &Parts) -> Result<Option<Actor>> {
    if let Some(token) = bearer(&parts.headers)? {
        return bearer_actor(app, parts, token).await.map(Some);
    }
    let Some(claim) = wallet_claim(&parts.headers)? else {
        return Ok(None);
    };
    let wallet = wallets::authenticate(app, claim).await?;
    Ok(Some(Actor::Wallet(wallet)))
}

/// Who sent a form of one of our pages, by the cookie. Its handler checks the mark in the form besides.
///
/// # Errors
/// 401 when nobody is signed in, 403 when it isn't certain that it comes from a page of ours.
pub async fn user_of_form(app: &App, headers: &HeaderMap) -> Result<Actor> {
    csrf::check_form(headers, &app.config.http.public_url())?;
    let cookie = auth::cookies::read(headers, app.auth.cookies.access_name());
    let cookie = cookie.ok_or_else(sign_in_required)?;
    auth::authenticate(app, cookie).await.map(Actor::User)
}

/// Whether the session or the key by which somebody acts still holds, as known for at most 30 s; for what lasts longer than a
/// request.
///
/// # Errors
/// What the database says.
pub async fn still_holds(app: &App, actor: &Actor) -> Result<bool> {
    match actor {
        Actor::User(user) => {
            let live = auth::session::live_user(app, user.session).await?;
            Ok(live.is_some())
        }
        Actor::ApiKey(key) => apikeys::holds(app, key).await,
        Actor::Anonymous
        | Actor::RentalToken(_)
        | Actor::Wallet(_)
        | Actor::SshKey(_)
        | Actor::Node(_)
        | Actor::System => Ok(true),
    }
}

async fn bearer_actor(app: &App, parts: &Parts, token: &str) -> Result<Actor> {
    if token.starts_with(apikeys::model::PREFIX) {
        let client = ClientIp::of(parts, &app.config.http.trusted_proxies).known();
        let key = apikeys::authenticate(app, token, client).await?;
        return Ok(Actor::ApiKey(key));
    }
    if token.starts_with(rental_token::PREFIX) {
        return app
            .rental_tokens
            .rental_of(token)
            .map(Actor::RentalToken)
            .ok_or_else(|| Error::unauthenticated("rental_token", "the rental token isn't valid"));
    }
    if is_cron_token(app, token) {
        return Ok(Actor::System);
    }
    auth::authenticate(app, token).await.map(Actor::User)
}

/// What a wallet says of itself.
fn wallet_claim(headers: &HeaderMap) -> Result<Option<&[u8]>> {
    let mut values = headers.get_all(sign_in::SIGN_IN_WITH_X).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Error::unauthenticated(
            "wallet_signature",
            "send one header SIGN-IN-WITH-X",
        ));
    }
    Ok(first.map(header::HeaderValue::as_bytes))
}

/// Whether `token` is the configured cron token; takes the same time for any token of one length.
#[must_use]
pub fn is_cron_token(app: &App, token: &str) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let wanted = app.config.cron_token.as_ref();
    // digests of equal length: where they differ says nothing about the token
    wanted.is_some_and(|wanted| digest(wanted.expose()).as_ref() == digest(token).as_ref())
}

/// The bearer token of the request.
///
/// # Errors
/// 401 when there is an `Authorization` header of another form.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let malformed = || {
        Error::unauthenticated(
            "authorization",
            "send one header authorization: Bearer <token>",
        )
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= 4096 {
        Ok(Some(token.trim()))
    } else {
        Err(malformed())
    }
}
