//! `/auth/oidc/*` and `/auth/identities`: to the provider and back, and what is linked.
//!
//! # Invariants
//! - An answer counts only with the cookie of the attempt that it belongs to; what goes wrong before that changes nothing.
//! - Whatever comes of an answer, the browser leaves the address with the code in it.

mod body;

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{AppendHeaders, IntoResponse, Response},
};
use shared::{
    id::{IdentityId, SessionId},
    secret::Secret,
    time::Timestamp,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::body::{
    CallbackQuery, IdentitiesResponse, LinkRequest, LinkResponse, ProviderResponse,
    ProvidersResponse, StartQuery,
};
use super::{
    Outcome,
    attempt::{Attempt, LIFE_S, Purpose},
    flow::{self, Returned},
    model::{Next, Refusal},
    provider::encoded,
};
use crate::{
    app::App,
    context::{Actor, OpCtx},
    domain::auth::{self, SignedIn, cookies, model::Device},
    error::{Error, Kind, Result},
    http::{ClientIp, Json, Path, Problems, Query, VisitCtx, credentials, error::status_of},
    limits::{Action, Caller},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(providers))
        .routes(routes!(start))
        .routes(routes!(callback))
        .routes(routes!(identities, link))
        .routes(routes!(unlink))
}

/// With which accounts elsewhere people may sign in.
#[utoipa::path(get, path = "/auth/oidc", operation_id = "oidc_providers", tag = "auth", security(()),
    responses((status = 200, description = "The providers, by name", body = ProvidersResponse), Problems))]
async fn providers(State(app): State<Arc<App>>) -> Json<ProvidersResponse> {
    let shown = app.oidc.providers().map(|provider| ProviderResponse {
        name: provider.name.clone(),
        display_name: provider.display_name.clone(),
        start_url: format!("/api/v1/auth/oidc/{}/start", provider.name),
    });
    Json(ProvidersResponse {
        items: shown.collect(),
    })
}

/// Sends the browser to a provider, to sign in with an account there.
#[utoipa::path(get, path = "/auth/oidc/{provider}/start", operation_id = "oidc_start", tag = "auth", security(()),
    params(("provider" = String, Path, example = "google"), StartQuery),
    responses((status = 303, description = "To the provider"), Problems))]
async fn start(
    State(app): State<Arc<App>>,
    VisitCtx(ctx): VisitCtx,
    ip: ClientIp,
    Path(provider): Path<String>,
    Query(query): Query<StartQuery>,
) -> Result<Response> {
    let purpose = if query.prove_again {
        Purpose::ProveAgain
    } else {
        Purpose::SignIn
    };
    let next = next_of(query.next.as_deref(), "next")?;
    let (url, cookie) = begin(&app, &ctx, ip, &provider, next, purpose).await?;
    let to = HeaderValue::try_from(url).map_err(Error::internal)?;
    let headers = [(header::LOCATION, to)];
    Ok((StatusCode::SEE_OTHER, headers, cookie, quiet()).into_response())
}

/// The browser comes back from a provider.
#[utoipa::path(get, path = "/auth/oidc/{provider}/callback", operation_id = "oidc_callback", tag = "auth", security(()),
    // providers send more than we asked for
    extensions(("x-open-query" = json!(true))),
    params(("provider" = String, Path, example = "google"), CallbackQuery),
    responses((status = 303, description = "Signed in or linked, and on to the page that was asked for; a browser that isn't let in \
        is sent to `/login`, with the problem's code as `error`"), Problems))]
async fn callback(
    State(app): State<Arc<App>>,
    VisitCtx(ctx): VisitCtx,
    ip: ClientIp,
    device: Device,
    Path(provider): Path<String>,
    Query(query): Query<CallbackQuery>,
    parts: Parts,
) -> Response {
    match returned(&app, ctx, ip, device, &provider, query, &parts).await {
        Ok(response) => response,
        Err(error) => not_let_in(&parts.headers, error),
    }
}

async fn returned(
    app: &Arc<App>,
    ctx: OpCtx,
    ip: ClientIp,
    device: Device,
    provider: &str,
    query: CallbackQuery,
    parts: &Parts,
) -> Result<Response> {
    let client = Caller::Address(ip.group());
    app.limits
        .count(Action::SignIn, client, app.clock.boot_ms())?;
    app.oidc.provider(provider)?;
    let attempt = cookies::read(&parts.headers, app.auth.cookies.attempt_name())
        .and_then(|cookie| app.oidc.attempts.open(cookie, ctx.now))
        .filter(|attempt| attempt.provider == provider)
        .filter(|attempt| {
            query
                .state
                .as_deref()
                .is_some_and(|state| attempt.has_state(state))
        })
        .ok_or(Refusal::Attempt)?;
    let ctx = match attempt.purpose {
        Purpose::Link(session) => linking(app, ctx, session, parts).await?,
        Purpose::SignIn | Purpose::ProveAgain => ctx,
    };
    let came = Returned {
        code: query.code.map(Secret::new),
        iss: query.iss,
        is_error: query.error.is_some(),
    };
    // boxed: it holds several requests' states
    let finished = Box::pin(flow::finish(app, &ctx, device, &attempt, came)).await;
    let answered = match finished {
        Ok(Outcome::SignedIn(signed_in)) => on_to(app, &attempt, Some((ctx.now, *signed_in))),
        Ok(Outcome::NeedsCode(challenge)) => code_next(app, &attempt, parts, challenge),
        Ok(Outcome::Linked) => on_to(app, &attempt, None),
        Ok(Outcome::Refused(refusal)) => Err(refusal.into()),
        Err(error) => Err(error),
    };
    let response = answered.unwrap_or_else(|error| not_let_in(&parts.headers, error));
    // it was used up, whatever came of it
    let over = app.auth.cookies.set_attempt("", 0);
    Ok((AppendHeaders([(header::SET_COOKIE, over)]), response).into_response())
}

/// The context of somebody who links: their session must still hold, and be the one of this browser if it has any.
async fn linking(app: &App, mut ctx: OpCtx, session: SessionId, parts: &Parts) -> Result<OpCtx> {
    match credentials::actor_of(app, parts).await {
        Ok(Actor::User(user)) if user.session == session => {}
        Ok(Actor::Anonymous) => {}
        Ok(_) => return Err(Refusal::Session.into()),
        // an access token that ran out meanwhile says nothing about the session
        Err(error) if error.kind() == Kind::Unauthenticated => {}
        Err(error) => return Err(error),
    }
    let user = auth::session::live_user(app, session)
        .await?
        .ok_or(Refusal::Session)?;
    ctx.actor = Actor::User(user);
    Ok(ctx)
}

/// Lists the accounts elsewhere with which you can sign in.
#[utoipa::path(get, path = "/auth/identities", operation_id = "identities", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    responses((status = 200, description = "At most 10, oldest first", body = IdentitiesResponse), Problems))]
async fn identities(State(app): State<Arc<App>>, ctx: OpCtx) -> Result<Json<IdentitiesResponse>> {
    let found = app
        .db
        .read("oidc.identities", move |tx| super::identities(tx, &ctx))
        .await?;
    Ok(Json(IdentitiesResponse {
        items: found.into_iter().map(Into::into).collect(),
    }))
}

/// Begins to link an account elsewhere to yours; needs a fresh proof of who you are.
#[utoipa::path(post, path = "/auth/identities", operation_id = "link_identity", tag = "auth",
    security(("access_token" = []), ("cookie" = [])), request_body = LinkRequest,
    responses((status = 200, description = "Go on there, within ten minutes", body = LinkResponse), Problems))]
async fn link(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    ip: ClientIp,
    Json(body): Json<LinkRequest>,
) -> Result<Response> {
    auth::require_fresh(&ctx)?;
    let purpose = Purpose::Link(ctx.signed_in()?.session);
    let next = next_of(body.next.as_deref(), "/next")?;
    let (authorize_url, cookie) = begin(&app, &ctx, ip, &body.provider, next, purpose).await?;
    Ok((cookie, quiet(), Json(LinkResponse { authorize_url })).into_response())
}

/// Unlinks an account elsewhere; needs a fresh proof of who you are, and another way in.
#[utoipa::path(delete, path = "/auth/identities/{id}", operation_id = "unlink_identity", tag = "auth",
    security(("access_token" = []), ("cookie" = [])), params(("id" = String, Path)),
    responses((status = 204, description = "Unlinked"), Problems))]
async fn unlink(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path(id): Path<IdentityId>,
) -> Result<StatusCode> {
    let postbox = Arc::clone(&app.postbox);
    app.db
        .write("oidc.unlink", move |tx| {
            super::unlink(tx, &ctx, &postbox, id)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

type SetCookie = AppendHeaders<[(HeaderName, String); 1]>;

/// Begins an attempt: the provider's address, and the cookie without which its answer is worth nothing.
async fn begin(
    app: &App,
    ctx: &OpCtx,
    ip: ClientIp,
    provider: &str,
    next: Next,
    purpose: Purpose,
) -> Result<(String, SetCookie)> {
    let now_ms = app.clock.boot_ms();
    app.limits
        .count(Action::SignIn, Caller::Address(ip.group()), now_ms)?;
    let provider = app.oidc.provider(provider)?;
    let metadata = provider.metadata(&app.outbound, now_ms).await?;
    let attempt = app
        .oidc
        .attempts
        .begin(&provider.name, next, purpose, ctx.now)?;
    let cookie = attempt.cookie()?;
    let cookie = app.auth.cookies.set_attempt(cookie.expose(), LIFE_S);
    Ok((
        provider.authorize_url(&metadata, &attempt),
        AppendHeaders([(header::SET_COOKIE, cookie)]),
    ))
}

fn next_of(text: Option<&str>, pointer: &str) -> Result<Next> {
    let Some(text) = text else {
        return Ok(Next::default());
    };
    Next::parse(text).ok_or_else(|| {
        Error::invalid(
            pointer,
            "this isn't a page of ours: give a path such as /rentals, outside of /api/v1",
        )
    })
}

/// On to the page that was asked for, signed in.
fn on_to(
    app: &App,
    attempt: &Attempt,
    signed_in: Option<(Timestamp, SignedIn)>,
) -> Result<Response> {
    let to = HeaderValue::from_str(attempt.next.as_str()).map_err(Error::internal)?;
    let handed = signed_in.map(|(now, signed_in)| app.auth.hand_over(now, &signed_in));
    let set = handed.transpose()?.map(|handed| handed.cookies);
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, to)], quiet()).into_response();
    for cookie in set.into_iter().flatten() {
        let value = HeaderValue::try_from(cookie).map_err(Error::internal)?;
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    Ok(response)
}

/// On to the page that asks for the code of the second factor; programs get the challenge as after a password.
fn code_next(app: &App, attempt: &Attempt, parts: &Parts, challenge: String) -> Result<Response> {
    if !is_browser(&parts.headers) {
        return Ok((quiet(), auth::api::required(challenge)).into_response());
    }
    let to = format!("/login/code?next={}", encoded(attempt.next.as_str()));
    let to = HeaderValue::try_from(to).map_err(Error::internal)?;
    let cookie = app.auth.cookies.set_challenge(&challenge);
    let headers = [(header::LOCATION, to)];
    let set = AppendHeaders([(header::SET_COOKIE, cookie)]);
    Ok((StatusCode::SEE_OTHER, headers, set, quiet()).into_response())
}

/// Whether somebody looks at what is answered.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT);
    accepts
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accepts| accepts.contains("text/html"))
}

/// To people the login page says what went wrong; programs get the problem.
fn not_let_in(headers: &HeaderMap, error: Error) -> Response {
    if !is_browser(headers) || status_of(error.kind()) == StatusCode::INTERNAL_SERVER_ERROR {
        return (quiet(), error).into_response();
    }
    // codes are words of ours: nothing to escape
    let to = format!("/login?error={}", error.code());
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)], quiet()).into_response()
}

/// Nothing is kept, and no address with a code or a state in it is passed on.
const fn quiet() -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ]
}
