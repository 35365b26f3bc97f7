//! What a browser is shown that looks for a rental and doesn't get to it.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::error::{Error, Kind};

/// A page for whoever looks for a rental.
pub(super) fn refusal(error: &Error) -> Response {
    let status = match (error.kind(), error.code()) {
        (Kind::Forbidden, "port_other_page") => StatusCode::FORBIDDEN,
        // what it is refused for is its renter's to know
        (Kind::NotFound | Kind::Forbidden, _) => StatusCode::NOT_FOUND,
        (Kind::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (Kind::TooMany { .. }, _) => StatusCode::TOO_MANY_REQUESTS,
        (Kind::Unavailable { .. }, "node_unavailable") => StatusCode::GATEWAY_TIMEOUT,
        (Kind::Conflict | Kind::Unavailable { .. }, _) => StatusCode::BAD_GATEWAY,
        (Kind::BadRequest, _) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%error, "a web request into a rental failed");
    }
    match status {
        StatusCode::NOT_FOUND => page(
            status,
            "There is no such rental, or it has no such port open",
        ),
        StatusCode::UNAUTHORIZED => page(
            status,
            "This address is private: whoever rents it has a link with a token",
        ),
        StatusCode::FORBIDDEN => page(
            status,
            "This address is private, and a page of another address asked for it: open it by itself; a program says the token in the header X-Ramarket-Port-Token",
        ),
        StatusCode::TOO_MANY_REQUESTS => page(
            status,
            "This rental has as many connections as it may: try again",
        ),
        StatusCode::BAD_GATEWAY => page(
            status,
            "The rental doesn't answer here: it isn't running, its node isn't connected, or nothing listens at this port",
        ),
        StatusCode::GATEWAY_TIMEOUT => page(status, "The rental didn't answer in time"),
        StatusCode::BAD_REQUEST => page(status, "This request can't be understood"),
        _ => page(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something failed on our side",
        ),
    }
}

pub(super) fn page(status: StatusCode, said: &'static str) -> Response {
    let number = status.as_u16();
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{number}</title>\n</head>\n<body>\n\
         <h1>{number}</h1>\n<p>{said}.</p>\n</body>\n</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    (status, headers, html).into_response()
}
