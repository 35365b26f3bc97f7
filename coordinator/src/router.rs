//! The API on one page: every slice's `routes()`, and the layers around them.
//!
//! # Conventions of a slice's `api.rs`
//! - `pub fn routes() -> OpenApiRouter<Arc<App>>` is a table: `OpenApiRouter::new().routes(routes!(create, list))`; paths are
//!   below `/api/v1` and written in `#[utoipa::path(post, path = "/offers", operation_id = "create_offer", …)]`.
//! - A handler takes what it needs: `ctx: OpCtx` (who, when), `State(app): State<Arc<App>>`, `Path`, `Query`, `Json` of
//!   `crate::http`, `ClientIp`; it returns `Result<…, Error>`. Its `responses(…)` end with `Problems`.
//! - Newtypes of `shared` have no schema of their own: write `#[schema(value_type = String)]` above fields that are ids
//!   or amounts, and `#[schema(value_type = String, format = DateTime)]` above timestamps; for `Option<…>` likewise
//!   with `Option<String>`. In `params(…)` write `("id" = String, Path)`.
//! - Security: `security(("access_token" = []), ("cookie" = []))`, plus `("rental_token" = [])` where one opens it; public
//!   endpoints write `security(())`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::Method,
    middleware::{from_fn, from_fn_with_state},
    routing::get,
};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config as ViewerConfig, SwaggerUi};

use crate::{
    app::App,
    cron,
    domain::{
        admin, agentlink, analytics, apikeys, audit, auth, device_login, disputes, events, gateway,
        invoices, kyc, nodes, offers, oidc, payouts, rentals, settlement, sshkeys, wallets,
        webhooks,
    },
    error::{Error, Kind},
    http::{
        contract::Contract,
        document,
        extract::BODY_BYTES_MAX,
        gate::{self, Gate},
        intake::{self, Intake},
        llms, middleware,
        openapi::Head,
        request_id,
    },
    telemetry, web,
};

/// Where the API lies.
pub const API_PREFIX: &str = "/api/v1";

/// The API's routes and its document. One line per slice.
pub(crate) fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Head::openapi()).nest(
        API_PREFIX,
        OpenApiRouter::new()
            .merge(audit::api::routes())
            .merge(auth::api::routes())
            .merge(oidc::api::routes())
            .merge(apikeys::api::routes())
            .merge(device_login::api::routes())
            .merge(sshkeys::api::routes())
            .merge(events::api::routes())
            .merge(kyc::api::routes())
            .merge(nodes::api::routes())
            .merge(offers::api::routes())
            .merge(wallets::api::routes())
            .merge(rentals::api::routes())
            .merge(disputes::api::routes())
            .merge(settlement::api::routes())
            .merge(payouts::api::routes())
            .merge(invoices::api::routes())
            .merge(gateway::api::routes())
            .merge(agentlink::api::routes())
            .merge(webhooks::api::routes())
            .merge(analytics::api::routes())
            .merge(admin::api::routes())
            .merge(cron::routes()),
    )
}

/// The OpenAPI document.
///
/// # Panics
/// If it can't be written as JSON, which the tests would show.
#[must_use]
pub fn openapi() -> Value {
    document::complete(&api().into_openapi()).expect("the document is JSON")
}

/// Everything that is served.
///
/// # Panics
/// If the document of the API can't be written as JSON, which the tests would show.
pub fn router(app: &Arc<App>) -> Router {
    let (api, document) = api().split_for_parts();
    let gate = Arc::new(Gate::new(&document));
    let document = document::complete(&document).expect("the document is JSON");
    let intake = Intake::new(&app.config.limits, Contract::of(&document));
    let for_programs = llms::text(&document, &app.config.http.public_url());
    // layers are listed inside out
    Router::new()
        .merge(api)
        .merge(web::routes())
        .merge(telemetry::health::routes())
        .merge(gateway::api::peer::routes())
        .route("/api/openapi.json", get(async || Json(document)))
        .route("/llms.txt", get(async || for_programs))
        .merge(viewer())
        // before the fallbacks: what isn't served needs no leave
        .layer(from_fn_with_state((Arc::clone(app), gate), gate::guard))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(middleware::time))
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn_with_state(intake, intake::admit))
        .layer(from_fn(middleware::every_error_a_problem))
        .layer(from_fn(middleware::tell_limits))
        .layer(middleware::cors())
        .layer(from_fn_with_state(
            Arc::clone(app),
            middleware::security_headers,
        ))
        // before anything that is ours
        .layer(from_fn_with_state(
            Arc::clone(app),
            gateway::api::visit::divert,
        ))
        .layer(from_fn(middleware::log))
        .layer(from_fn(request_id::name))
        .with_state(Arc::clone(app))
}

/// Everything that the listener of rentals serves: rentals.
pub fn rentals(app: &Arc<App>) -> Router {
    Router::new()
        .fallback(gateway::api::visit::rentals_only)
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn(middleware::log))
        .layer(from_fn(request_id::name))
        .with_state(Arc::clone(app))
}

/// The viewer of the document, served from this binary.
fn viewer() -> Router<Arc<App>> {
    let config = ViewerConfig::from("/api/openapi.json").validator_url("none");
    SwaggerUi::new(middleware::VIEWER_PATH)
        .config(config)
        .into()
}

async fn not_found() -> Error {
    Error::new(
        Kind::NotFound,
        "no_such_route",
        "nothing is served here; see /api/openapi.json",
    )
}

async fn method_not_allowed(State(_): State<Arc<App>>, method: Method) -> Error {
    Error::new(
        Kind::MethodNotAllowed,
        "method_not_allowed",
        format!("{method} isn't served here; the header allow lists what is"),
    )
}
