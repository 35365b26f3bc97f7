//! `/admin/users/*`: accounts, their roles, their sessions, and whether they are open.

use std::{collections::BTreeSet, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::{
    id::{SessionId, UserId},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};

use super::nodes::ReasonBody;
use crate::{
    app::App,
    context::{OpCtx, Role},
    domain::{
        admin,
        auth::{
            self,
            model::{Account, Email},
        },
    },
    error::Result,
    http::{Json, Page, Paging, Path, Problems, Query},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct UsersParams {
    /// Only the account of this address.
    email: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// An account as administrators see it.
#[derive(Serialize, ToSchema)]
pub(super) struct AdminUserView {
    #[schema(value_type = String, example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: UserId,
    #[schema(example = "ada@example.org")]
    email: String,
    #[schema(value_type = Vec<String>, example = json!(["consumer"]))]
    roles: BTreeSet<Role>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Since when it is disabled; `null`: it isn't.
    #[schema(value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
}

impl From<Account> for AdminUserView {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            roles: account.roles,
            created_at: account.created,
            disabled_at: account.disabled,
        }
    }
}

#[utoipa::path(
    get, path = "/admin/users", operation_id = "list_users", tag = "admin", params(UsersParams),
    description = "Accounts, oldest first.",
    responses((status = 200, body = Page<AdminUserView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Query(params): Query<UsersParams>,
) -> Result<Json<Page<AdminUserView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let email = params.email.as_deref().map(Email::parse).transpose()?;
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("admin.users", move |tx| match &email {
            Some(email) => {
                let found = auth::find_account(tx, email)?;
                Ok(found.into_iter().map(|(account, _)| account).collect())
            }
            None => auth::accounts(tx, &after, fetch),
        })
        .await?;
    let page = Page::of(rows, &paging, |account| account.id.to_string())?;
    Ok(Json(page.map(AdminUserView::from)))
}

/// Roles to give and to take.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolesBody {
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["provider"]))]
    grant: BTreeSet<Role>,
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!([]))]
    revoke: BTreeSet<Role>,
    /// Goes into the audit log.
    #[schema(example = "joins the operators")]
    reason: String,
}

#[utoipa::path(
    post, path = "/admin/users/{id}/roles", operation_id = "change_roles", tag = "admin", params(("id" = String, Path)),
    description = "Gives and takes roles; sessions notice within 30 s.",
    request_body = RolesBody, responses((status = 200, body = AdminUserView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn roles(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<UserId>,
    Json(body): Json<RolesBody>,
) -> Result<Json<AdminUserView>> {
    let reason = admin::reason(&body.reason)?;
    let account = app
        .db
        .write("admin.roles", move |tx| {
            admin::change_roles(tx, &ctx, id, &body.grant, &body.revoke, &reason)
        })
        .await?;
    Ok(Json(account.into()))
}

#[utoipa::path(
    post, path = "/admin/users/{id}/disable", operation_id = "disable_user", tag = "admin", params(("id" = String, Path)),
    description = "Closes an account: its sessions end, nobody signs in to it, its API keys stop within 30 s. Its rentals and nodes go on.",
    request_body = ReasonBody, responses((status = 200, body = AdminUserView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn disable(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<UserId>,
    Json(body): Json<ReasonBody>,
) -> Result<Json<AdminUserView>> {
    let reason = admin::reason(&body.reason)?;
    let (account, ended) = app
        .db
        .write("admin.disable", move |tx| {
            admin::disable(tx, &ctx, id, &reason)
        })
        .await?;
    app.auth.live.forget_all(&ended);
    Ok(Json(account.into()))
}

#[utoipa::path(
    post, path = "/admin/users/{id}/enable", operation_id = "enable_user", tag = "admin", params(("id" = String, Path)),
    description = "Opens a disabled account again; its owner signs in anew.",
    request_body = ReasonBody, responses((status = 200, body = AdminUserView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn enable(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<UserId>,
    Json(body): Json<ReasonBody>,
) -> Result<Json<AdminUserView>> {
    let reason = admin::reason(&body.reason)?;
    let account = app
        .db
        .write("admin.enable", move |tx| {
            admin::enable(tx, &ctx, id, &reason)
        })
        .await?;
    Ok(Json(account.into()))
}

/// Which sessions ended.
#[derive(Serialize, ToSchema)]
pub(super) struct EndedSessionsView {
    #[schema(value_type = Vec<String>, example = json!(["ses_0192f0c1a2b37c4d8e5f60718293a4b5"]))]
    sessions: Vec<SessionId>,
}

#[utoipa::path(
    post, path = "/admin/users/{id}/end-sessions", operation_id = "end_user_sessions", tag = "admin", params(("id" = String, Path)),
    description = "Ends all sessions of an account: whoever uses one signs in anew. Other coordinators notice within 30 s.",
    request_body = ReasonBody, responses((status = 200, body = EndedSessionsView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn end_sessions(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<UserId>,
    Json(body): Json<ReasonBody>,
) -> Result<Json<EndedSessionsView>> {
    let reason = admin::reason(&body.reason)?;
    let sessions = app
        .db
        .write("admin.end_sessions", move |tx| {
            admin::end_sessions(tx, &ctx, id, &reason)
        })
        .await?;
    app.auth.live.forget_all(&sessions);
    Ok(Json(EndedSessionsView { sessions }))
}
