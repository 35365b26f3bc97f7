//! Whose page a browser acts for when a private port's cookie comes along by itself.
//!
//! To a browser all rentals may be one site, and `SameSite` doesn't tell them apart: the page of another tenant could open a WebSocket to
//! a private port of its visitor's, or post a form there, with the visitor's cookie. Hence, where the cookie is the only proof:
//!
//! | request | passes where |
//! |---|---|
//! | an upgrade | `Origin` is this host; without one, where `Sec-Fetch-Site` is `same-origin` or `none` |
//! | an unsafe method | neither `Origin` nor `Sec-Fetch-Site` names another origin, and one of them names this one |
//! | anything else | `Sec-Fetch-Site` is `same-origin` or `none`, or a person goes there by GET (no frame); unsaid: `Origin` names no other |
//!
//! # Invariants
//! - What acts passes by what a browser says alone: where neither header is there it is refused, since old browsers leave them out of forms
//!   of other pages too. Programs say the token in a header, which no page can make up.
//! - Pages can set neither `Origin` nor `Sec-Fetch-*`.

use axum::http::{HeaderMap, HeaderValue, Method, header, uri::Authority};

use crate::error::{Error, Kind, Result};

/// What a browser says of who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// A page of this host, or the person themselves.
    Here,
    Elsewhere,
    Nothing,
}

/// Refuses what a page of another host sent along with a private port's cookie; `host` is that of the request.
///
/// # Errors
/// 403 `port_other_page`.
pub(super) fn check(method: &Method, headers: &HeaderMap, host: &str, tls: bool) -> Result<()> {
    let (origin, site) = (origin(headers, host, tls), site(headers));
    let passes = if headers.contains_key(header::UPGRADE) {
        // browsers name the origin of each WebSocket, and don't agree on its site: its scheme is another one than the page's
        origin == Said::Here || (origin == Said::Nothing && site == Said::Here)
    } else if method.is_safe() {
        match site {
            Said::Here => true,
            Said::Elsewhere => method == Method::GET && goes_there(headers),
            Said::Nothing => origin != Said::Elsewhere,
        }
    } else {
        let said = [origin, site];
        said.contains(&Said::Here) && !said.contains(&Said::Elsewhere)
    };
    if passes {
        return Ok(());
    }
    Err(Error::new(
        Kind::Forbidden,
        "port_other_page",
        "a page of another address sent this to a private one: open the address itself, or say its token in the header X-Ramarket-Port-Token",
    ))
}

fn origin(headers: &HeaderMap, host: &str, tls: bool) -> Said {
    match headers.get(header::ORIGIN) {
        None => Said::Nothing,
        // also a page of this host says so where its policy is to refer nobody
        Some(origin) if origin == "null" => Said::Nothing,
        Some(origin) => match origin.to_str() {
            Ok(origin) if is_host(origin, host, tls) => Said::Here,
            _ => Said::Elsewhere,
        },
    }
}

/// Whether an origin is the host as a request names it.
fn is_host(origin: &str, host: &str, tls: bool) -> bool {
    let (usual, authority) = match origin.split_once("://") {
        Some(("https", authority)) => (443, authority),
        Some(("http", authority)) if !tls => (80, authority),
        _ => return false,
    };
    let (Ok(page), Ok(host)) = (authority.parse::<Authority>(), host.parse::<Authority>()) else {
        return false;
    };
    let port = |of: &Authority| of.port_u16().unwrap_or(usual);
    page.host().eq_ignore_ascii_case(host.host())
        // a proxy may leave the port out of the name; nobody who rents has another port of it
        && (host.port().is_none() || port(&page) == port(&host))
}

fn site(headers: &HeaderMap) -> Said {
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None => Said::Nothing,
        Some(b"same-origin" | b"none") => Said::Here,
        Some(_) => Said::Elsewhere,
    }
}

/// Whether a person goes there: by a link, or an address that they typed.
fn goes_there(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|said| said == value);
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "80-rnt-1.apps.example";
    const OWN: (&str, &str) = ("origin", "https://80-rnt-1.apps.example");
    const OTHER: (&str, &str) = ("origin", "https://80-rnt-2.apps.example");
    const NULL: (&str, &str) = ("origin", "null");
    const UPGRADE: (&str, &str) = ("upgrade", "websocket");
    const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");
    const TYPED: (&str, &str) = ("sec-fetch-site", "none");
    const SITE: (&str, &str) = ("sec-fetch-site", "same-site");
    const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
    const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");
    const NO_CORS: (&str, &str) = ("sec-fetch-mode", "no-cors");
    const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");
    const FRAME: (&str, &str) = ("sec-fetch-dest", "iframe");

    fn passes(method: &Method, host: &str, all: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(*name, value.parse().expect("a value"));
        }
        check(method, &headers, host, true).is_ok()
    }

    #[test]
    fn what_acts_comes_from_a_page_of_the_host() {
        for (all, wanted) in [
            (&[OWN][..], true),
            (&[OWN, SAME], true),
            (&[NULL, SAME], true),
            (&[SAME], true),
            (&[TYPED], true),
            (&[], false),
            (&[NULL], false),
            (&[OTHER], false),
            (&[OTHER, SITE], false),
            (&[SITE], false),
            (&[CROSS], false),
            (&[NULL, CROSS, NAVIGATE, DOCUMENT], false),
            (&[OWN, CROSS], false),
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::CONNECT] {
                assert_eq!(passes(&method, HOST, all), wanted, "{method} {all:?}");
            }
        }
    }

    #[test]
    fn an_upgrade_names_its_page() {
        for (all, wanted) in [
            (&[UPGRADE, OWN][..], true),
            // as some browsers say of wss: that a page of https: opens
            (&[UPGRADE, OWN, CROSS], true),
            (&[UPGRADE, SAME], true),
            (&[UPGRADE], false),
            (&[UPGRADE, NULL], false),
            (&[UPGRADE, OTHER], false),
            (&[UPGRADE, OTHER, SAME], false),
            (&[UPGRADE, SITE, NAVIGATE, DOCUMENT], false),
        ] {
            assert_eq!(passes(&Method::GET, HOST, all), wanted, "{all:?}");
        }
    }

    #[test]
    fn others_may_lead_there_and_load_nothing() {
        for (all, get, head) in [
            (&[][..], true, true),
            (&[OWN], true, true),
            (&[OTHER], false, false),
            (&[SAME, NO_CORS], true, true),
            (&[TYPED, NAVIGATE, DOCUMENT], true, true),
            (&[SITE, NO_CORS], false, false),
            (&[CROSS, NO_CORS, DOCUMENT], false, false),
            (&[SITE, NAVIGATE, FRAME], false, false),
            (&[SITE, NAVIGATE, DOCUMENT], true, false),
            (&[CROSS, NAVIGATE, DOCUMENT], true, false),
        ] {
            assert_eq!(passes(&Method::GET, HOST, all), get, "{all:?}");
            assert_eq!(passes(&Method::HEAD, HOST, all), head, "{all:?}");
        }
    }

    #[test]
    fn an_origin_is_the_host_by_name_port_and_scheme() {
        for (origin, host, wanted) in [
            ("https://a.example", "A.example", true),
            ("https://a.example", "a.example:443", true),
            ("https://a.example:8443", "a.example:8443", true),
            ("https://a.example:8443", "a.example", true),
            ("https://a.example", "a.example:8443", false),
            ("http://a.example", "a.example", false),
            ("https://a.example.evil.example", "a.example", false),
            ("https://b.a.example", "a.example", false),
            ("a.example", "a.example", false),
            ("", "", false),
            ("https://", "", false),
        ] {
            assert_eq!(is_host(origin, host, true), wanted, "{origin} {host}");
        }
        assert!(is_host("http://a.example:80", "a.example", false));
    }
}
