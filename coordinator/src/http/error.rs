//! From [`Error`] to a response: RFC 9457, one place for statuses, and one log line for what is our fault.

use std::error::Error as _;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use shared::wire::problem::Problem;

use super::request_id;
use crate::error::{Error, Kind};

/// The media type of problems.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = status_of(self.kind());
        if status.is_server_error() {
            log(&self);
        }
        let mut response = respond(status, &problem(&self, status));
        decorate(&mut response, &self);
        response
    }
}

/// The problem that `error` is to a caller.
#[must_use]
pub fn problem(error: &Error, status: StatusCode) -> Problem {
    Problem {
        kind: format!("/docs/problems#{}", error.code()),
        title: title_of(error.kind()).to_owned(),
        status: status.as_u16(),
        detail: error.detail().to_owned(),
        code: error.code().to_owned(),
        request_id: request_id::current(),
        errors: error.fields().to_vec(),
        recover: None,
    }
}

/// A response with `problem` as its body; for answers that carry more than an [`Error`] can say.
#[must_use]
pub fn respond(status: StatusCode, problem: &Problem) -> Response {
    match serde_json::to_vec(problem) {
        Ok(body) => (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "problem can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The HTTP status of a kind of failure.
#[must_use]
pub const fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::BadRequest => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Slow => StatusCode::REQUEST_TIMEOUT,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Changed => StatusCode::PRECONDITION_FAILED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::LongUrl => StatusCode::URI_TOO_LONG,
        Kind::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Kind::LargeHead => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

const fn title_of(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest => "The request can't be understood",
        Kind::Unauthenticated => "Valid credentials are needed",
        Kind::Forbidden => "Not allowed",
        Kind::NotFound => "Not found",
        Kind::MethodNotAllowed => "Method not allowed",
        Kind::Slow => "The request didn't arrive in time",
        Kind::Changed => "It was changed in between",
        Kind::LongUrl => "The URL is too long",
        Kind::MediaType => "This type of body isn't understood",
        Kind::LargeHead => "The headers are too many or too long",
        Kind::Conflict => "The state of things doesn't allow it now",
        Kind::TooLarge => "The request is too large",
        Kind::Invalid => "A value is out of bounds",
        Kind::TooMany { .. } => "Too many requests",
        Kind::Internal => "Something failed on our side",
        Kind::Unavailable { .. } => "Not available at the moment",
    }
}

fn decorate(response: &mut Response, error: &Error) {
    let headers = response.headers_mut();
    if error.kind() == Kind::Unauthenticated {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"ramarket\""),
        );
    }
    if let Some(seconds) = error.wait_s() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// One line with the whole chain of causes.
fn log(error: &Error) {
    let mut chain = Vec::new();
    let mut cause = error.source();
    while let Some(source) = cause {
        chain.push(source.to_string());
        cause = source.source();
    }
    let cause = chain.join(": ");
    match error.kind() {
        Kind::Unavailable { .. } => {
            tracing::warn!(error.code = error.code(), cause, "request was turned away");
        }
        _ => tracing::error!(error.code = error.code(), cause, "request failed"),
    }
}
