//! `/healthz` (the process lives), `/readyz` (it can work), `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::metrics;
use crate::{
    app::App,
    domain::events,
    error::{Error, Kind, Result},
    http::{Json, client_ip, credentials},
    tasks::facilitator,
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
    let reports = json!(app.tasks.reports());
    let body = json!({
        "status": if is_ready { "ready" } else { "not_ready" },
        "database": database.map_or_else(|_| "takes no writes", |()| "ok"),
        "stopping": stopping,
        "tasks_late": late,
        "warnings": warnings(&reports),
        "tasks": reports,
    });
    (status, Json(body)).into_response()
}

/// What an operator has to mend though everything runs: tokens that sign by another domain than the settings say, so that nobody can pay
/// with them.
fn warnings(reports: &Value) -> Vec<String> {
    let tasks = reports.as_array().into_iter().flatten();
    let routes = tasks
        .filter(|task| task["task"] == facilitator::NAME)
        .filter_map(|task| task["status"].as_array())
        .flatten();
    let warning = |token: &Value, network: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{} on {} can't be paid with: {}",
            text(&token["currency"]),
            text(network),
            text(&token["detail"])
        )
    };
    routes
        .flat_map(|route| {
            let tokens = route["tokens"].as_array().into_iter().flatten();
            let bad = tokens.filter(|token| token["domain"] == "differs");
            bad.map(|token| warning(token, &route["network"]))
                .collect::<Vec<_>>()
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use shared::x402::network::{Network, Token};

    use super::*;
    use crate::{
        domain::payments::ports::{Chain, Domain, OnChain, SettleRequest},
        tasks::{Task as _, facilitator::FacilitatorCheck},
        testing::TestApp,
    };

    /// A chain on which every token has another name.
    #[derive(Debug)]
    struct Renamed;

    #[async_trait]
    impl Chain for Renamed {
        async fn look(&self, _: &SettleRequest) -> OnChain {
            panic!("nothing is paid here")
        }

        async fn domain(&self, _: &'static Network, _: &Token) -> Domain {
            Domain::Differs {
                detail: "the contract says name \"Euro Coin\"".to_owned(),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_token_that_nobody_can_pay_with_is_a_warning() {
        let test = TestApp::new().await;
        let route = test.app.purchases.routes.all().next().expect("a route");
        let facilitator = Arc::clone(&route.facilitator);
        let mut unseen = FacilitatorCheck::new(Arc::clone(&test.app));
        let status = unseen.activate().await.expect("it asks");
        let report = |status: &Value| json!([{"task": "facilitator", "status": status}, {"task": "mail", "status": {}}]);
        assert_eq!(warnings(&report(&status)), Vec::<String>::new());
        let test = test.paid_and_seen(facilitator, Some(Arc::new(Renamed)));
        let mut check = FacilitatorCheck::new(Arc::clone(&test.app));
        let status = check.activate().await.expect("it asks");
        assert_eq!(
            warnings(&report(&status)),
            ["USDC on eip155:84532 can't be paid with: the contract says name \"Euro Coin\""]
        );
    }
}
