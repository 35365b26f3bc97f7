//! `/admin/audit`.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::time::Timestamp;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::model::{Filter, Record};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{Json, Page, Paging, Problems, Query},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct AuditParams {
    /// Who: an id, `anonymous` or `system`.
    actor: Option<String>,
    /// What was done, such as `role.granted`.
    action: Option<String>,
    /// The id that it was done to.
    object: Option<String>,
    /// Not before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// One entry of the audit log.
#[derive(Serialize, ToSchema)]
struct AuditView {
    /// Its place in the chain.
    seq: i64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who: an account, a node, a rental's token, `anonymous` or `system`.
    #[schema(example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    actor: String,
    /// The session or key by which they acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    #[schema(example = "role.granted")]
    action: String,
    #[schema(example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    object: String,
    /// What of it was before, as far as it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// What of it is since, as far as it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    request_id: String,
    /// Hexadecimal SHA-256 of this entry and the hash of the one before.
    hash: String,
}

fn view(record: Record) -> Result<AuditView> {
    let seq = record.seq;
    let state = |text: Option<String>| {
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| Error::corrupt("audit_log", &seq.to_string(), "before_json, after_json"))
    };
    Ok(AuditView {
        seq,
        at: record.at,
        actor: record.actor,
        via: record.via,
        action: record.action,
        object: record.object,
        before: state(record.before)?,
        after: state(record.after)?,
        reason: record.reason,
        client: record.client,
        request_id: record.request_id,
        hash: hex::encode(record.hash),
    })
}

#[utoipa::path(
    get, path = "/admin/audit", operation_id = "list_audit", tag = "admin", params(AuditParams),
    description = "Who did what, newest first. `ramarket-coordinator audit verify` proves that nothing was changed.",
    responses((status = 200, body = Page<AuditView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn list(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Query(params): Query<AuditParams>,
) -> Result<Json<Page<AuditView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let before: Option<(i64, i64)> = paging.after()?;
    let filter = Filter {
        actor: params.actor,
        action: params.action,
        object: params.object,
        from: params.from,
        to: params.to,
    };
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("audit.list", move |tx| {
            super::list(tx, &ctx, &filter, before, fetch)
        })
        .await?;
    let views = rows.into_iter().map(|row| Ok((row.at, view(row)?)));
    let page = Page::of(views.collect::<Result<Vec<_>>>()?, &paging, |(at, view)| {
        (at.as_micros(), view.seq)
    })?;
    Ok(Json(page.map(|(_, view)| view)))
}
