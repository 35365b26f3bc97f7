//! Requests that another site makes a browser send.
//!
//! # Invariants
//! - A cookie counts on an unsafe method only when the browser says that our own pages sent the request,
//!   and the request carries a header that a form or a link can't.

use axum::http::{HeaderMap, Method, header};

use crate::error::{Error, Result};

/// Our scripts send it along with a cookie. Another site's can't: CORS doesn't allow it to them, and a form has no headers.
const SENT_BY: &str = "x-requested-with";
const OURS: &str = "ramarket";

/// Refuses unsafe methods that a cookie stands for, unless they come from `origin` (our public URL).
///
/// # Errors
/// 403 `csrf`.
pub fn check_cookie(method: &Method, headers: &HeaderMap, origin: &str) -> Result<()> {
    if method.is_safe() {
        return Ok(());
    }
    match verdict(headers, origin) {
        Some(true) if headers.get(SENT_BY).is_some_and(|who| who == OURS) => Ok(()),
        Some(true) => Err(Error::new(
            crate::error::Kind::Forbidden,
            "csrf",
            "a cookie counts here only with the header X-Requested-With: ramarket",
        )),
        _ => Err(refused()),
    }
}

/// Refuses what a browser says comes from another site; programs, which say nothing, may pass. For endpoints that set
/// cookies without needing any.
///
/// # Errors
/// 403 `csrf`.
pub fn check_open(headers: &HeaderMap, origin: &str) -> Result<()> {
    match verdict(headers, origin) {
        Some(false) => Err(refused()),
        _ => Ok(()),
    }
}

/// Refuses a WebSocket that a page of another site opens; programs, which say nothing of a page, may pass.
///
/// # Errors
/// 403 `csrf`.
pub fn check_origin(headers: &HeaderMap, origin: &str) -> Result<()> {
    match headers.get(header::ORIGIN) {
        Some(page) if page.as_bytes() != origin.as_bytes() => Err(Error::new(
            crate::error::Kind::Forbidden,
            "csrf",
            "WebSockets are opened by our own pages, and by programs that send no Origin",
        )),
        _ => Ok(()),
    }
}

/// Refuses what doesn't certainly come from a page of ours: for forms that a cookie stands for, which can't carry a header of ours. A form
/// holds a mark of its reader besides.
///
/// # Errors
/// 403 `csrf`.
pub fn check_form(headers: &HeaderMap, origin: &str) -> Result<()> {
    match verdict(headers, origin) {
        Some(true) => Ok(()),
        _ => Err(refused()),
    }
}

/// Whether our own pages sent it; nothing when neither header is there.
fn verdict(headers: &HeaderMap, origin: &str) -> Option<bool> {
    if let Some(site) = headers.get("sec-fetch-site") {
        return Some(matches!(site.as_bytes(), b"same-origin" | b"none"));
    }
    headers
        .get(header::ORIGIN)
        .map(|value| value.as_bytes() == origin.as_bytes())
}

fn refused() -> Error {
    Error::new(
        crate::error::Kind::Forbidden,
        "csrf",
        "a cookie counts here only in requests from our own pages; send the token as a bearer instead",
    )
}
