//! The gate before every handler: finds the operation, resolves who asks, asks the table (`domain/access`).
//!
//! # Invariants
//! - Whatever the router serves below `/api/` passes here; what the document of the API lacks, and what has no line in the
//!   table, is refused.
//! - Who asks is resolved once for each request; handlers get the answer and never look at credentials again.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use utoipa::openapi::{OpenApi, path::PathItem};

use super::{credentials, request_id};
use crate::{
    app::App,
    context::Actor,
    domain::{
        access::{self, Line, Proof},
        auth,
    },
    error::Result,
};

/// Below this everything needs a line, but for what describes the API itself.
const GATED: &str = "/api/";
/// The document and its viewer: static, public.
const DESCRIPTION: [&str; 2] = ["/api/openapi.json", "/api/docs"];

/// The table by method and path.
#[derive(Debug)]
pub struct Gate {
    lines: HashMap<(Method, String), &'static Line>,
}

/// Who asks, as the gate found it.
#[derive(Debug, Clone)]
pub struct Resolved(pub Actor);

impl Gate {
    /// The gate of a router that serves `document`.
    #[must_use]
    pub fn new(document: &OpenApi) -> Self {
        let mut lines = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in operations(item) {
                if let Some(line) = access::line(operation) {
                    lines.insert((method, path.clone()), line);
                }
            }
        }
        Self { lines }
    }

    fn line(&self, method: &Method, path: &str) -> Option<&'static Line> {
        // a GET handler serves HEAD too
        let method = if *method == Method::HEAD {
            Method::GET
        } else {
            method.clone()
        };
        self.lines.get(&(method, path.to_owned())).copied()
    }
}

/// The operations of a path: (method, operation id).
fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &str)> {
    [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| {
        let id = operation.as_ref()?.operation_id.as_deref()?;
        Some((method, id))
    })
}

/// Middleware: lets through who may.
///
/// # Errors
/// 401 and 403, as the table says.
pub async fn guard(
    State((app, gate)): State<(Arc<App>, Arc<Gate>)>,
    request: Request,
    next: Next,
) -> Result<Response> {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return Ok(next.run(request).await);
    };
    let path = path.as_str();
    if !path.starts_with(GATED) || DESCRIPTION.iter().any(|open| path.starts_with(open)) {
        return Ok(next.run(request).await);
    }
    let Some(line) = gate.line(request.method(), path) else {
        tracing::error!(
            http.route = path,
            "operation has no line in the table of access, refused"
        );
        return Err(access::no_line());
    };
    let (mut parts, body) = request.into_parts();
    let actor = match line.proof {
        Proof::Own => Actor::Anonymous,
        Proof::Credentials => credentials::actor_of(&app, &parts).await?,
        Proof::HeadersOrTicket => credentials::by_headers(&app, &parts)
            .await?
            .unwrap_or(Actor::Anonymous),
    };
    line.decide(&actor)?;
    if line.fresh {
        auth::require_fresh(&app.context(actor.clone(), request_id::current()))?;
    }
    parts.extensions.insert(Resolved(actor));
    Ok(next.run(Request::from_parts(parts, body)).await)
}
