//! `/healthz` (the process lives), `/readyz` (it can work), `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::metrics;
use crate::{
    app::App,
    domain::events,
    error::{Error, Kind, Result},
    http::{Json, client_ip, credentials},
};

/// The database must take a write within this.
const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

/// The routes of this file.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
}

async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 when the database takes writes and every timer turns, else 503; says what it looked at.
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let probe = app.db.write("health.probe", events::touch);
    let database = match tokio::time::timeout(PROBE_TIME_MAX, probe).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    if let Err(why) = &database {
        tracing::warn!(why, "not ready: the database takes no writes");
    }
    let late = app.tasks.late(app.clock.boot_ms());
    let stopping = app.shutdown.is_cancelled();
    let is_ready = database.is_ok() && late.is_empty() && !stopping;
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "status": if is_ready { "ready" } else { "not_ready" },
        "database": database.map_or_else(|_| "takes no writes", |()| "ok"),
        "stopping": stopping,
        "tasks_late": late,
        "tasks": app.tasks.reports(),
    });
    (status, Json(body)).into_response()
}

/// For this machine itself and for whoever has the cron token.
async fn metrics_text(State(app): State<Arc<App>>, parts: Parts) -> Result<Response> {
    let forwarded = ["x-forwarded-for", "forwarded", "via", "x-real-ip"]
        .iter()
        .any(|name| parts.headers.contains_key(*name));
    let local = client_ip::peer(&parts).is_loopback() && !forwarded;
    let token = credentials::bearer(&parts.headers)?;
    if !local && !token.is_some_and(|token| credentials::is_cron_token(&app, token)) {
        return Err(Error::unauthenticated(
            "cron_token",
            "from elsewhere than this machine, send the cron token as a bearer",
        ));
    }
    let text = metrics::render().ok_or_else(|| {
        Error::new(
            Kind::Unavailable { retry_after_s: 60 },
            "no_metrics",
            "metrics aren't collected in this process",
        )
    })?;
    let media = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media)], text).into_response())
}
