//! Who reads a page, and what of it they may.

use axum::extract::Request;

use crate::{
    app::App,
    context::OpCtx,
    domain::access,
    error::Result,
    http::{credentials, request_id},
};

/// Who asks, if the table lets them do `operation`.
pub(super) async fn asks(app: &App, request: Request, operation: &str) -> Result<OpCtx> {
    let (parts, _) = request.into_parts();
    let actor = credentials::actor_of(app, &parts).await?;
    let line = access::line(operation).ok_or_else(access::no_line)?;
    line.decide(&actor)?;
    Ok(app.context(actor, request_id::current()))
}
