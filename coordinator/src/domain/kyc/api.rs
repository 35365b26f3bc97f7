//! `/kyc`, `/admin/kyc` and the webhook of the hosted provider.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest as _, Request, State as AppState},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use shared::{
    id::{KycCaseId, KycDocumentId, UserId},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Decision, NewDocument,
    model::{self, Case, Document, DocumentKind, MANUAL, State},
    webhook,
};
use crate::{
    app::App,
    context::{Actor, OpCtx, Role},
    error::{Error, Result},
    http::{Json, Page, Paging, Path, Problems, PublicCtx, Query, RawBody},
};

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(mine, submit))
        // documents are larger than other bodies; who sends them is asked before they are read
        .layer(DefaultBodyLimit::max(model::SUBMISSION_BYTES_MAX))
        .routes(routes!(list))
        .routes(routes!(decide))
        .routes(routes!(document))
        .routes(routes!(take_webhook))
}

/// Where an account stands.
#[derive(Serialize, ToSchema)]
struct KycView {
    #[schema(value_type = String, example = "pending")]
    state: State,
    #[serde(flatten)]
    case: Option<CaseView>,
    /// What the market wants identity proven for: `payouts`, `offers`.
    gates: Vec<&'static str>,
}

/// A submission.
#[derive(Serialize, ToSchema)]
struct CaseView {
    #[schema(value_type = String)]
    id: KycCaseId,
    /// `manual`, or the hosted provider's name.
    provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    submitted_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    decided_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    documents: Vec<DocumentView>,
    /// Where the hosted provider goes on, if it is the provider's and pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_url: Option<String>,
}

/// A document without its content.
#[derive(Serialize, ToSchema)]
struct DocumentView {
    #[schema(value_type = String)]
    id: KycDocumentId,
    kind: String,
    media_type: String,
    size_bytes: i64,
}

fn case_view(app: &App, case: Case, documents: Vec<Document>) -> CaseView {
    let config = &app.config.kyc;
    let waits = case.state == State::Pending && super::is_hosted(config, &case.provider);
    let url = config.provider_url.as_ref().filter(|_| waits);
    CaseView {
        continue_url: url.map(|url| format!("{url}?reference={}", case.id)),
        id: case.id,
        provider: case.provider,
        reason: case.reason,
        submitted_at: case.created_at,
        decided_at: case.decided_at,
        expires_at: case.expires_at,
        documents: documents.into_iter().map(document_view).collect(),
    }
}

fn document_view(document: Document) -> DocumentView {
    DocumentView {
        id: document.id,
        kind: document.kind,
        media_type: document.media_type,
        size_bytes: document.size_bytes,
    }
}

fn kyc_view(app: &App, found: Option<(Case, Vec<Document>)>) -> KycView {
    KycView {
        state: found.as_ref().map_or(State::None, |(case, _)| case.state),
        case: found.map(|(case, documents)| case_view(app, case, documents)),
        gates: app
            .config
            .kyc
            .gates
            .iter()
            .map(|gate| gate.name())
            .collect(),
    }
}

#[utoipa::path(
    get, path = "/kyc", operation_id = "get_kyc", tag = "kyc", description = "Where the caller's proof of identity stands.",
    responses((status = 200, body = KycView), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn mine(ctx: OpCtx, AppState(app): AppState<Arc<App>>) -> Result<Json<KycView>> {
    let found = app
        .db
        .read("kyc.own", move |tx| super::own(tx, &ctx))
        .await?;
    Ok(Json(kyc_view(&app, found)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SubmitRequest {
    /// `manual`, the default, or the hosted provider's name, which needs no documents.
    provider: Option<String>,
    /// At most 4 documents of 2 MiB each.
    #[serde(default)]
    documents: Vec<SubmittedDocument>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SubmittedDocument {
    #[schema(value_type = String, example = "passport")]
    kind: DocumentKind,
    /// A JPEG, a PNG or a PDF, in base64.
    content: String,
}

#[utoipa::path(
    post, path = "/kyc", operation_id = "submit_kyc", tag = "kyc", request_body = SubmitRequest,
    description = "Submits documents, stored encrypted, or begins with the hosted provider.",
    extensions(("x-files-in-json" = json!(true))),
    responses((status = 201, body = KycView), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn submit(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<KycView>)> {
    ctx.user()?;
    let Json(body) = Json::<SubmitRequest>::from_request(request, &app).await?;
    let provider = body.provider.unwrap_or_else(|| MANUAL.to_owned());
    let hosted = super::is_hosted(&app.config.kyc, &provider);
    if provider != MANUAL && !hosted {
        return Err(Error::invalid(
            "/provider",
            "this market has no such provider",
        ));
    }
    if hosted != body.documents.is_empty() {
        return Err(Error::invalid(
            "/documents",
            "manual needs at least one document, a hosted provider none",
        ));
    }
    if body.documents.len() > model::DOCUMENTS_MAX {
        return Err(Error::invalid("/documents", "at most 4 documents"));
    }
    let sealed: Vec<NewDocument> = body
        .documents
        .iter()
        .enumerate()
        .map(|(number, document)| seal(&app, &ctx, number, document))
        .collect::<Result<_>>()?;
    let found = app
        .db
        .write("kyc.submit", move |tx| {
            super::submit(tx, &ctx, &provider, &sealed)?;
            super::own(tx, &ctx)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(kyc_view(&app, found))))
}

fn seal(
    app: &App,
    ctx: &OpCtx,
    number: usize,
    document: &SubmittedDocument,
) -> Result<NewDocument> {
    let pointer = format!("/documents/{number}/content");
    let bytes = BASE64
        .decode(&document.content)
        .map_err(|_| Error::invalid(&pointer, "this isn't base64"))?;
    if bytes.len() > model::DOCUMENT_BYTES_MAX {
        return Err(Error::invalid(&pointer, "a document has at most 2 MiB"));
    }
    let media_type = model::media_type_of(&bytes)
        .ok_or_else(|| Error::invalid(&pointer, "send a JPEG, a PNG or a PDF"))?;
    let id: KycDocumentId = ctx.mint();
    Ok(NewDocument {
        id,
        kind: document.kind,
        media_type,
        size_bytes: i64::try_from(bytes.len()).map_err(Error::internal)?,
        sealed: app.keys.kyc.seal(&id.to_string(), &bytes)?,
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct ListParams {
    /// `pending`, the default, `approved`, `rejected` or `expired`.
    #[param(value_type = Option<String>)]
    state: Option<State>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A case and whose it is, for administrators.
#[derive(Serialize, ToSchema)]
struct AdminCaseView {
    #[schema(value_type = String)]
    user_id: UserId,
    #[schema(value_type = String)]
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
async fn list(
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
            super::list(tx, &ctx, state, &after, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |(case, _)| case.id.to_string())?;
    Ok(Json(page.map(|(case, documents)| {
        admin_view(&app, case, documents)
    })))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DecisionRequest {
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
async fn decide(
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
            super::decide(tx, &ctx, &config, id, &decision)
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
async fn document(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Path((case, id)): Path<(KycCaseId, KycDocumentId)>,
) -> Result<Response> {
    let (document, sealed) = app
        .db
        .write("kyc.read_document", move |tx| {
            super::read_document(tx, &ctx, case, id)
        })
        .await?;
    let bytes = app.keys.kyc.open(&id.to_string(), &sealed)?;
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

#[utoipa::path(
    post, path = "/kyc/webhook/{provider}", operation_id = "take_kyc_webhook", tag = "kyc", params(("provider" = String, Path)),
    description = "For the hosted provider: a Standard Webhook of type `verification.approved` or `verification.rejected` whose \
        `data.reference` is a case. Each event counts once.",
    request_body = Object, responses((status = 204), Problems), security(())
)]
async fn take_webhook(
    AppState(app): AppState<Arc<App>>,
    PublicCtx(mut ctx): PublicCtx,
    Path(provider): Path<String>,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<StatusCode> {
    let config = app.config.kyc.clone();
    let key = config.webhook_key().map_err(Error::internal)?;
    let Some(key) = key.filter(|_| super::is_hosted(&config, &provider)) else {
        return Err(Error::not_found("provider"));
    };
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let sent = webhook::Headers {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
    };
    webhook::verify(&key, &sent, &body, ctx.now, config.webhook_tolerance_s)?;
    let Some(event) = webhook::read(sent.id, &body)? else {
        return Ok(StatusCode::NO_CONTENT);
    };
    // the signature says that the provider speaks; the entry names it
    ctx.actor = Actor::System;
    let news = app
        .db
        .write("kyc.webhook", move |tx| {
            super::take_event(tx, &ctx, &config, &provider, &event)
        })
        .await?;
    tracing::info!(news, "kyc webhook taken in");
    Ok(StatusCode::NO_CONTENT)
}
