//! `/admin/kyc`: cases, decisions, and documents to be saved.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State as AppState,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::{KycCaseId, KycDocumentId, UserId},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};

use super::{CaseView, case_view};
use crate::{
    app::App,
    context::{OpCtx, Role},
    domain::kyc::{
        self, Decision,
        model::{Case, Document, State},
    },
    error::{Error, Result},
    http::{Json, Page, Paging, Path, Problems, Query},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// `pending`, the default, `approved`, `rejected` or `expired`.
    #[param(value_type = Option<String>)]
    state: Option<State>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A case and whose it is, for administrators.
#[derive(Serialize, ToSchema)]
pub(super) struct AdminCaseView {
    #[schema(value_type = String, example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    user_id: UserId,
    #[schema(value_type = String, example = "pending")]
    state: State,
    #[serde(flatten)]
    case: CaseView,
}

fn admin_view(app: &App, case: Case, documents: Vec<Document>) -> AdminCaseView {
    AdminCaseView {
        user_id: case.user,
        state: case.state,
        case: case_view(app, case, documents),
    }
}

#[utoipa::path(
    get, path = "/admin/kyc", operation_id = "list_kyc", tag = "admin", params(ListParams),
    description = "Cases of one state, oldest first.",
    responses((status = 200, body = Page<AdminCaseView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn list(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Query(params): Query<ListParams>,
) -> Result<Json<Page<AdminCaseView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let after: String = paging.after()?.unwrap_or_default();
    let (state, fetch) = (params.state.unwrap_or(State::Pending), paging.fetch());
    let rows = app
        .db
        .read("kyc.list", move |tx| {
            kyc::list(tx, &ctx, state, &after, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |(case, _)| case.id.to_string())?;
    Ok(Json(page.map(|(case, documents)| {
        admin_view(&app, case, documents)
    })))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionRequest {
    /// `approved` or `rejected`.
    #[schema(value_type = String, example = "approved")]
    decision: State,
    /// Kept in the audit log and shown to the account.
    reason: String,
    /// Until when an approval holds, if not as long as the settings say.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

#[utoipa::path(
    post, path = "/admin/kyc/{id}/decision", operation_id = "decide_kyc", tag = "admin", params(("id" = String, Path)),
    request_body = DecisionRequest, description = "Decides on a pending case, or takes an approval back.",
    responses((status = 200, body = AdminCaseView), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn decide(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Path(id): Path<KycCaseId>,
    Json(body): Json<DecisionRequest>,
) -> Result<Json<AdminCaseView>> {
    ctx.user_with(Role::Admin)?;
    if !matches!(body.decision, State::Approved | State::Rejected) {
        return Err(Error::invalid("/decision", "approved or rejected"));
    }
    if body.reason.trim().is_empty() {
        return Err(Error::invalid("/reason", "say why"));
    }
    if body.expires_at.is_some_and(|until| until <= ctx.now) {
        return Err(Error::invalid("/expires_at", "this moment is over"));
    }
    let decision = Decision {
        to: body.decision,
        reason: body.reason,
        expires_at: body.expires_at,
    };
    let config = app.config.kyc.clone();
    let case = app
        .db
        .write("kyc.decide", move |tx| {
            kyc::decide(tx, &ctx, &config, id, &decision)
        })
        .await?;
    Ok(Json(admin_view(&app, case, Vec::new())))
}

#[utoipa::path(
    get, path = "/admin/kyc/{id}/documents/{document_id}", operation_id = "download_kyc_document", tag = "admin",
    params(("id" = String, Path), ("document_id" = String, Path)),
    description = "A document, to be saved and never shown by the browser. Each download is recorded.",
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn document(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Path((case, id)): Path<(KycCaseId, KycDocumentId)>,
) -> Result<Response> {
    let (document, sealed) = app
        .db
        .write("kyc.read_document", move |tx| {
            kyc::read_document(tx, &ctx, case, id)
        })
        .await?;
    let opened = app.keys.kyc.open(&id.to_string(), &sealed);
    let bytes = opened.map_err(Error::internal)?;
    let ending = match document.media_type.as_str() {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        _ => "pdf",
    };
    let attachment = format!("attachment; filename=\"{id}.{ending}\"");
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_str(&attachment).map_err(Error::internal)?,
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("sandbox; default-src 'none'"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Bytes::from(bytes)).into_response())
}
