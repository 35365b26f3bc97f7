//! `/kyc`: people's own proofs. `admin` is `/admin/kyc`, `hosted` the webhook of the hosted provider.

mod admin;
mod hosted;

use std::sync::Arc;

use axum::{
    extract::{DefaultBodyLimit, FromRequest as _, Request, State as AppState},
    http::StatusCode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use shared::{
    id::{KycCaseId, KycDocumentId},
    time::Timestamp,
};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    context::OpCtx,
    domain::kyc::{
        self, NewDocument,
        model::{self, Case, Document, DocumentKind, MANUAL, State},
    },
    error::{Error, Kind, Result},
    http::{Json, Problems},
};

/// Submissions that are in memory at once, in this process: each may take what ten other bodies take together.
const SUBMISSIONS_AT_ONCE: usize = 4;
static SUBMISSIONS: Semaphore = Semaphore::const_new(SUBMISSIONS_AT_ONCE);

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(mine, submit))
        // documents are larger than other bodies; who sends them is asked before they are read
        .layer(DefaultBodyLimit::max(model::SUBMISSION_BYTES_MAX))
        .routes(routes!(admin::list))
        .routes(routes!(admin::decide))
        .routes(routes!(admin::document))
        .routes(routes!(hosted::take_webhook))
}

/// Where an account stands.
#[derive(Serialize, ToSchema)]
struct KycView {
    #[schema(value_type = String, example = "pending")]
    state: State,
    /// The newest submission; none before the first.
    case: Option<CaseView>,
    /// What the market wants identity proven for: `payouts`, `offers`.
    gates: Vec<&'static str>,
}

/// A submission.
#[derive(Serialize, ToSchema)]
struct CaseView {
    #[schema(value_type = String, example = "kyc_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: KycCaseId,
    /// `manual`, or the hosted provider's name.
    #[schema(example = "manual")]
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
    #[schema(value_type = String, example = "doc_0192f0c1a2b37c4d8e5f60718293a4b5")]
    id: KycDocumentId,
    #[schema(example = "passport")]
    kind: String,
    #[schema(example = "image/png")]
    media_type: String,
    size_bytes: i64,
}

fn case_view(app: &App, case: Case, documents: Vec<Document>) -> CaseView {
    let config = &app.config.kyc;
    let waits = case.state == State::Pending && kyc::is_hosted(config, &case.provider);
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
    let found = app.db.read("kyc.own", move |tx| kyc::own(tx, &ctx)).await?;
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
    #[schema(example = "iVBORw0KGgo=")]
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
    let _held = SUBMISSIONS.try_acquire().map_err(|_| {
        Error::new(
            Kind::Unavailable { retry_after_s: 5 },
            "busy",
            "others submit documents at this moment; try again",
        )
    })?;
    let Json(body) = Json::<SubmitRequest>::from_request(request, &app).await?;
    let provider = body.provider.unwrap_or_else(|| MANUAL.to_owned());
    let hosted = kyc::is_hosted(&app.config.kyc, &provider);
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
            kyc::submit(tx, &ctx, &provider, &sealed)?;
            kyc::own(tx, &ctx)
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
    let sealed = app.keys.kyc.seal(&id.to_string(), &bytes);
    Ok(NewDocument {
        id,
        kind: document.kind,
        media_type,
        size_bytes: i64::try_from(bytes.len()).map_err(Error::internal)?,
        sealed: sealed.map_err(Error::internal)?,
    })
}
