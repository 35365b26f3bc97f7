//! The layers around every route, outermost first: name, log, headers, CORS, limits told, every error a problem, (`intake`:)
//! size, lanes, then panics and time.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;
use tower_http::cors::{Any as AnyOrigin, CorsLayer};
use tracing::Instrument as _;

use super::{
    error::{PROBLEM_JSON, problem, respond},
    request_id,
};
use crate::{
    app::App,
    error::{Error, Kind},
    limits,
};

/// A handler answers within this; a stream may go on after its head is sent.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Our pages need a style sheet and pictures of our own, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'; object-src 'none'";
/// The API viewer is a program: its own scripts, its own requests, styles that it sets on elements.
const VIEWER_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
/// What our pages are.
const PAGE: &str = "text/html; charset=utf-8";
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Where the API viewer lies.
pub const VIEWER_PATH: &str = "/api/docs";

/// Logs and counts every request.
pub async fn log(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_name(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", request.id = request_id::current());
    let response = next.run(request).instrument(span.clone()).await;
    let took = started.elapsed();
    let status = response.status().as_u16();
    metrics::counter!("http_requests_total", "method" => method, "route" => route.clone(),
        "status" => status.to_string())
    .increment(1);
    metrics::histogram!("http_request_seconds", "method" => method, "route" => route.clone())
        .record(took.as_secs_f64());
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let _entered = span.enter();
    if matches!(route.as_str(), "/healthz" | "/readyz" | "/metrics") {
        tracing::debug!(
            http.method = method,
            http.route = route,
            http.status = status,
            ms,
            "request served"
        );
    } else {
        tracing::info!(
            http.method = method,
            http.route = route,
            http.status = status,
            ms,
            "request served"
        );
    }
    response
}

/// Known methods by name; a metric must not grow with what callers make up.
const fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Headers that every response carries, unless its handler set its own.
pub async fn security_headers(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let policy = if path.starts_with(VIEWER_PATH) {
        VIEWER_POLICY
    } else {
        PAGE_POLICY
    };
    let is_api = path.starts_with(crate::router::API_PREFIX);
    let mut response = next.run(request).await;
    let mut set = |name: HeaderName, value: &'static str| {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, policy);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "same-origin");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    if is_api {
        set(header::CACHE_CONTROL, "no-store");
    } else {
        set(
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        );
    }
    if app.config.http.is_tls() {
        set(
            header::STRICT_TRANSPORT_SECURITY,
            "max-age=31536000; includeSubDomains",
        );
    }
    response
}

/// Other sites' pages may call the API with a bearer token or a payment; cookies never count there.
pub fn cors() -> CorsLayer {
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            name("idempotency-key"),
            name("last-event-id"),
            name("payment-signature"),
            name("sign-in-with-x"),
            name("x-payment"),
            name("x-request-id"),
            // stock x402 clients list the headers that they want to read among those that they send
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ])
        .expose_headers([
            name("payment-required"),
            name("payment-response"),
            name("x-payment-response"),
            name("x-request-id"),
            RATE_LIMIT_POLICY,
            RATE_LIMIT,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
        ])
        .max_age(Duration::from_secs(3_600))
}

/// Bounds the time of a handler.
pub async fn time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::new(
            Kind::Unavailable { retry_after_s: 5 },
            "timeout",
            "this took too long and was given up; look at the state of things before you try again",
        )
        .into_response(),
    }
}

/// Tells callers where they stand with the limits that their request counted against.
pub async fn tell_limits(request: Request, next: Next) -> Response {
    let (mut response, standings) = limits::noting(next.run(request)).await;
    if let Some((policy, rate)) = limits::headers(&standings) {
        let told = [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, rate)];
        for (name, value) in told {
            // digits and names of ours
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}

/// Makes a problem of an error that somebody else wrote: a library's refusal of a WebSocket, a missing file of the viewer.
pub async fn every_error_a_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_ours = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|media| {
            // a page that says what went wrong is for people
            media == PROBLEM_JSON || media == "application/json" || media == PAGE
        });
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, _body) = response.into_parts();
    let error = match status {
        StatusCode::NOT_FOUND => Error::not_found("page"),
        StatusCode::METHOD_NOT_ALLOWED => Error::new(
            Kind::MethodNotAllowed,
            "method_not_allowed",
            "this method isn't served here; the header allow lists what is",
        ),
        _ if status.is_client_error() => Error::bad_request(
            "bad_request",
            "the request lacks what this endpoint needs: see /api/docs",
        ),
        _ => Error::internal("an error without a problem"),
    };
    let mut problem = problem(&error, status);
    problem.status = status.as_u16();
    let mut response = respond(status, &problem);
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// A handler that panicked is our fault, and nobody else's.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the layer hands it over by value"
)]
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("of an unknown kind");
    Error::internal(format!("panic: {text}")).into_response()
}
