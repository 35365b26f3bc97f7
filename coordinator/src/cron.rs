//! `POST /cron/metering`: runs what the built-in timers run, once, and says what each did. For whoever drives the timers from outside.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    error::Result,
    http::{Json, Problems},
    tasks::{
        TaskReport, expiry, invoices, leases, liveness, payments, payouts, settlement, spending,
    },
};

/// The routes.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(metering))
}

/// What each timer did.
#[derive(Serialize, ToSchema)]
struct Reports {
    tasks: Vec<TaskReport>,
}

#[utoipa::path(
    post, path = "/cron/metering", operation_id = "run_metering", tag = "jobs",
    description = "Liveness, leases, spending, expiry, payments, settlement, invoices and payouts, once each and in this order. For admins and the cron token.",
    responses((status = 200, body = Reports), Problems), security(("access_token" = []), ("cookie" = []))
)]
async fn metering(State(app): State<Arc<App>>) -> Result<Json<Reports>> {
    let names = [
        liveness::NAME,
        leases::NAME,
        spending::NAME,
        expiry::NAME,
        payments::NAME,
        settlement::NAME,
        invoices::NAME,
        payouts::NAME,
    ];
    Ok(Json(Reports {
        tasks: app.tasks.run_now(&names).await?,
    }))
}
