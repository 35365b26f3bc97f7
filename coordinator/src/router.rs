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

use axum::Router;
use utoipa::{OpenApi as _, openapi::OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    domain::{auth, events},
    http::openapi::Head,
};

/// Where the API lies.
pub const API_PREFIX: &str = "/api/v1";

/// The API's routes and its document.
fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Head::openapi()).nest(
        API_PREFIX,
        OpenApiRouter::new()
            .merge(auth::api::routes())
            .merge(events::api::routes()),
    )
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> OpenApi {
    api().into_openapi()
}

/// Everything that is served.
#[must_use]
pub fn router(app: &Arc<App>) -> Router {
    let (router, _document) = api().split_for_parts();
    router.with_state(Arc::clone(app))
}
