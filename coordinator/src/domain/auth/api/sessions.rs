//! `/sessions`: where somebody is signed in, and ending that.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Serialize;
use shared::{id::SessionId, time::Timestamp};
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::auth::session,
    error::Result,
    http::{Json, Path, Problems},
};

/// A login that holds.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionResponse {
    #[schema(value_type = String, example = "ses_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: SessionId,
    /// Whether it is the one that asks.
    current: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last refreshed.
    #[schema(value_type = String, format = DateTime)]
    last_used_at: Timestamp,
    /// When it ends in any case.
    #[schema(value_type = String, format = DateTime)]
    ends_at: Timestamp,
    /// What the program called itself.
    #[schema(example = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")]
    user_agent: Option<String>,
    /// From where it was last used.
    #[schema(example = "203.0.113.7")]
    client_address: Option<String>,
}

/// All sessions: at most a hundred are kept.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionsResponse {
    items: Vec<SessionResponse>,
}

/// Where you are signed in, newest first.
#[utoipa::path(get, path = "/sessions", operation_id = "list_sessions", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    responses((status = 200, description = "Your sessions", body = SessionsResponse), Problems))]
pub(super) async fn list_sessions(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
) -> Result<Json<SessionsResponse>> {
    let current = ctx.signed_in()?.session;
    let sessions = app
        .db
        .read("auth.sessions", move |tx| session::list(tx, &ctx))
        .await?;
    let items = sessions
        .into_iter()
        .map(|view| SessionResponse {
            id: view.id,
            current: view.id == current,
            created_at: view.created,
            last_used_at: view.last_used,
            ends_at: view.ends,
            user_agent: view.user_agent,
            client_address: view.client,
        })
        .collect();
    Ok(Json(SessionsResponse { items }))
}

/// Ends one of your sessions; its access tokens hold for at most 30 seconds more.
#[utoipa::path(delete, path = "/sessions/{id}", operation_id = "end_session", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    params(("id" = String, Path)),
    responses((status = 204, description = "Ended"), Problems))]
pub(super) async fn end_session(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path(id): Path<SessionId>,
) -> Result<StatusCode> {
    app.db
        .write("auth.end_session", move |tx| session::end_own(tx, &ctx, id))
        .await?;
    app.auth.live.forget(id);
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all your sessions but this one.
#[utoipa::path(delete, path = "/sessions", operation_id = "end_other_sessions", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    responses((status = 204, description = "Ended"), Problems))]
pub(super) async fn end_other_sessions(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
) -> Result<StatusCode> {
    let ended = app
        .db
        .write("auth.end_other_sessions", move |tx| {
            session::end_others(tx, &ctx)
        })
        .await?;
    app.auth.live.forget_all(&ended);
    Ok(StatusCode::NO_CONTENT)
}
