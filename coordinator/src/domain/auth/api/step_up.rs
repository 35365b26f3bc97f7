//! `POST /auth/step-up`: who is signed in proves again who they are, for what moves money or changes who they are.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use shared::secret::Secret;
use utoipa::ToSchema;

use crate::{
    app::App,
    context::OpCtx,
    domain::auth::session::{self, Proof},
    error::Result,
    http::{Json, Problems},
};

/// A proof of who you are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUpRequest {
    #[schema(example = "correct horse battery staple")]
    password: Option<String>,
    /// Of the authenticator app, or a recovery code; needed where a second factor is in force, and enough then.
    #[schema(example = "287082")]
    code: Option<String>,
}

/// Proves again who you are. For five minutes this session may then do what moves money or changes the account.
#[utoipa::path(post, path = "/auth/step-up", operation_id = "step_up", tag = "auth",
    security(("access_token" = []), ("cookie" = [])),
    request_body = StepUpRequest,
    responses((status = 204, description = "Proven"), Problems))]
pub(super) async fn step_up(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Json(body): Json<StepUpRequest>,
) -> Result<StatusCode> {
    let proof = Proof {
        password: body.password.map(Secret::new),
        code: body.code.map(Secret::new),
    };
    session::step_up(&app, ctx, proof).await?;
    Ok(StatusCode::NO_CONTENT)
}
