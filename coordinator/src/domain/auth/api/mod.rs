//! `/auth/*`: parse, limit, hash, call the service, answer with tokens in the body and as cookies.

mod email;
mod password;
mod sessions;
mod step_up;
mod totp;

pub use self::totp::required;

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{AppendHeaders, IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use shared::{id::UserId, time::Timestamp};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Login, SignedIn, account, cookies,
    links::LinkToken,
    login::{Asker, Entered, by_password},
    model::{self, Account, Device, Email},
    refresh::{self as rotation, Refreshed, Rotation},
    token::RefreshToken,
};
use crate::{
    app::App,
    context::{Actor, OpCtx, Role},
    domain::settings,
    error::Result,
    http::{ClientIp, Json, Problems, PublicCtx, RawBody, credentials, csrf, extract},
    limits::{Action, Caller},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(signup))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me))
        .routes(routes!(step_up::step_up))
        .routes(routes!(password::change_password))
        .routes(routes!(password::forgot_password))
        .routes(routes!(password::reset_password))
        .routes(routes!(email::change_email))
        .routes(routes!(email::request_email_verification))
        .routes(routes!(email::verify_email))
        .routes(routes!(
            sessions::list_sessions,
            sessions::end_other_sessions
        ))
        .routes(routes!(sessions::end_session))
        .routes(routes!(totp::login_totp))
        .routes(routes!(totp::begin_totp, totp::remove_totp))
        .routes(routes!(totp::confirm_totp))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignupRequest {
    #[schema(example = "ada@example.org")]
    email: String,
    /// 8 to 256 bytes.
    #[schema(example = "correct horse battery staple")]
    password: String,
    /// `consumer` is given in any case; ask for `provider` to lend machines.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["consumer"]))]
    roles: Vec<Role>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    #[schema(example = "ada@example.org")]
    email: String,
    #[schema(example = "correct horse battery staple")]
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefreshRequest {
    /// Programs send it here; browsers send the cookie and no body.
    refresh_token: String,
}

/// Tokens. Browsers get them as cookies too and need not read this.
#[derive(Serialize, ToSchema)]
struct TokenResponse {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds for which the access token holds.
    expires_in: i64,
    /// Exchange it at `/auth/refresh`, once.
    refresh_token: String,
    user: UserResponse,
}

/// An account.
#[derive(Serialize, ToSchema)]
struct UserResponse {
    #[schema(value_type = String, example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: UserId,
    email: String,
    #[schema(value_type = Vec<String>, example = json!(["consumer"]))]
    roles: BTreeSet<Role>,
    /// Whether mail to the address was shown to arrive.
    email_verified: bool,
    /// Whether signing in needs a code of an authenticator app.
    second_factor: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Account> for UserResponse {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            roles: account.roles,
            email_verified: account.verified.is_some(),
            second_factor: account.second_factor,
            created_at: account.created,
        }
    }
}

/// Opens an account and signs in.
#[utoipa::path(post, path = "/auth/signup", operation_id = "signup", tag = "auth", security(()),
    request_body = SignupRequest,
    responses((status = 201, description = "Signed in", body = TokenResponse), Problems))]
async fn signup(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    device: Device,
    Json(body): Json<SignupRequest>,
) -> Result<Response> {
    let email = Email::parse(&body.email)?;
    let password = model::chosen_password("/password", body.password, Some(email.as_str()))?;
    let roles = model::signup_roles(&body.roles)?;
    let now = ctx.now;
    let client = Caller::Address(client.group());
    app.limits
        .count(Action::SignIn, client, app.clock.boot_ms())?;
    let hash = app.auth.passwords.hash(password).await?;
    let login = Login::new(&app.config, &roles, device)?;
    let (link, postbox) = (LinkToken::random()?, Arc::clone(&app.postbox));
    let signed_in = app
        .db
        .write("auth.signup", move |tx| {
            settings::check_signups(tx)?;
            let account = super::create_account(tx, &ctx, &email, &hash, &roles)?;
            account::ask_to_verify(tx, &ctx, &postbox, &account, &link)?;
            super::begin_session(tx, &ctx, &account, &login)
        })
        .await?;
    answer(&app, StatusCode::CREATED, now, signed_in)
}

/// Signs in. Where a second factor is in force, the answer is 401 `second_factor_required` with a `challenge` to send with a code
/// to `POST /auth/login/totp`.
#[utoipa::path(post, path = "/auth/login", operation_id = "login", tag = "auth", security(()),
    request_body = LoginRequest,
    responses((status = 200, description = "Signed in", body = TokenResponse), Problems))]
async fn login(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    device: Device,
    Json(body): Json<LoginRequest>,
) -> Result<Response> {
    let asker = Asker {
        address: client.group(),
        device,
    };
    let now = ctx.now;
    match by_password(&app, ctx, asker, &body.email, body.password).await? {
        Entered::In(signed_in) => answer(&app, StatusCode::OK, now, *signed_in),
        Entered::NeedsCode(challenge) => Ok(totp::required(challenge)),
    }
}

/// Exchanges the refresh token for a new pair; each can be used once.
#[utoipa::path(post, path = "/auth/refresh", operation_id = "refresh", tag = "auth", security(()),
    request_body = Option<RefreshRequest>,
    responses((status = 200, description = "A new pair", body = TokenResponse), Problems))]
async fn refresh(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    client: ClientIp,
    device: Device,
    method: Method,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Response> {
    let address = Caller::Address(client.group());
    app.limits
        .count(Action::Refresh, address, app.clock.boot_ms())?;
    let token = refresh_token(&app, &method, &headers, &body)?.ok_or_else(rotation::refused)?;
    let (now, state) = (ctx.now, Arc::clone(&app));
    limit_refreshes(&app, &token).await?;
    let outcome = app
        .db
        .write("auth.refresh", move |tx| {
            let rotation = Rotation {
                config: &state.config,
                key: &state.auth.refresh_key,
                postbox: &state.postbox,
                device: &device,
            };
            rotation::refresh(tx, &ctx, rotation, &token)
        })
        .await?;
    match outcome {
        Refreshed::Rotated(signed_in) => answer(&app, StatusCode::OK, now, *signed_in),
        Refreshed::Reused(session) => {
            app.auth.live.forget(session);
            metrics::counter!("auth_refresh_reuse_total").increment(1);
            tracing::warn!(session.id = %session, "refresh token used twice, session ended");
            Err(rotation::refused())
        }
    }
}

/// So many refreshes per session, from wherever they come.
async fn limit_refreshes(app: &App, token: &RefreshToken) -> Result<()> {
    let (token, now_ms) = (token.clone(), app.clock.boot_ms());
    let session = app
        .db
        .read("auth.refresh_session", move |tx| {
            rotation::session_of(tx, &token)
        })
        .await?
        .ok_or_else(rotation::refused)?;
    app.limits
        .count(Action::RefreshSession, Caller::Session(session), now_ms)
}

/// Signs out: ends the session of the access token and that of the refresh token, if they name one.
#[utoipa::path(post, path = "/auth/logout", operation_id = "logout", tag = "auth",
    security((), ("access_token" = []), ("cookie" = [])),
    request_body = Option<RefreshRequest>,
    responses((status = 204, description = "Signed out"), Problems))]
async fn logout(
    State(app): State<Arc<App>>,
    PublicCtx(ctx): PublicCtx,
    parts: Parts,
    RawBody(body): RawBody,
) -> Result<Response> {
    let token = refresh_token(&app, &parts.method, &parts.headers, &body)?;
    let session = match credentials::actor_of(&app, &parts).await {
        Ok(Actor::User(user)) => Some(user.session),
        Ok(_) => None,
        // a credential that doesn't hold any more has nothing left to end
        Err(error) if error.kind() == crate::error::Kind::Unauthenticated => None,
        Err(error) => return Err(error),
    };
    let ended = app
        .db
        .write("auth.logout", move |tx| {
            if let Some(session) = session {
                super::end_session(tx, &ctx, session)?;
            }
            let other = match &token {
                Some(token) => super::end_session_of(tx, &ctx, token)?,
                None => None,
            };
            Ok([session, other])
        })
        .await?;
    for session in ended.into_iter().flatten() {
        app.auth.live.forget(session);
    }
    let cookies = app
        .auth
        .cookies
        .clear()
        .map(|text| (header::SET_COOKIE, text));
    Ok((StatusCode::NO_CONTENT, AppendHeaders(cookies)).into_response())
}

/// Who is signed in.
#[utoipa::path(get, path = "/auth/me", operation_id = "me", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    responses((status = 200, description = "The account", body = UserResponse), Problems))]
async fn me(State(app): State<Arc<App>>, ctx: OpCtx) -> Result<Response> {
    let id = ctx.user()?.id;
    let account = app
        .db
        .read("auth.me", move |tx| super::account(tx, id))
        .await?;
    Ok((no_store(), Json(UserResponse::from(account))).into_response())
}

/// The refresh token of the body, or else of the cookie, which counts only from our own pages.
fn refresh_token(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<RefreshToken>> {
    if !body.is_empty() {
        let body: RefreshRequest = extract::parse_json(body)?;
        return Ok(RefreshToken::parse(&body.refresh_token));
    }
    let Some(cookie) = cookies::read(headers, app.auth.cookies.refresh_name()) else {
        return Ok(None);
    };
    csrf::check_cookie(method, headers, &app.config.http.public_url())?;
    Ok(RefreshToken::parse(cookie))
}

fn answer(app: &App, status: StatusCode, now: Timestamp, signed_in: SignedIn) -> Result<Response> {
    let handed = app.auth.hand_over(now, &signed_in)?;
    let cookies = handed.cookies.map(|text| (header::SET_COOKIE, text));
    let body = TokenResponse {
        access_token: handed.access.expose().clone(),
        token_type: "Bearer",
        expires_in: handed.expires_in,
        refresh_token: signed_in.refresh.expose().clone(),
        user: signed_in.account.into(),
    };
    Ok((status, AppendHeaders(cookies), no_store(), Json(body)).into_response())
}

const fn no_store() -> [(header::HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}
