//! What a proxy takes out of heads and puts into them.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, REFERER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::super::web;
use crate::{
    domain::{apikeys, auth::cookies},
    http::rental_token,
};

/// Of one connection, not of the request (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// Of the request whatever `Connection` says: without them it would be another one.
const NEVER_DROPPED: [HeaderName; 2] = [HOST, CONTENT_LENGTH];
/// Says a private port's token.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-ramarket-port-token");
/// Holds a private port's token on the rental's own host.
pub(super) const TOKEN_COOKIE: &str = "ramarket-port";
const TOKEN_COOKIE_TLS: &str = "__Host-ramarket-port";

/// The name of the token's cookie.
pub(super) const fn token_cookie(tls: bool) -> &'static str {
    if tls { TOKEN_COOKIE_TLS } else { TOKEN_COOKIE }
}

/// Takes out what isn't for the rental: what is of one connection, and what proves who somebody is to us.
pub(super) fn to_rental(headers: &mut HeaderMap, client: Option<IpAddr>, tls: bool) {
    drop_hop_by_hop(headers);
    headers.remove(&TOKEN_HEADER);
    if headers.get(AUTHORIZATION).is_some_and(is_ours) {
        headers.remove(AUTHORIZATION);
    }
    // the page whose address had the token may still refer to it
    let of_token = format!("token={}", web::PREFIX);
    let tells = |from: &HeaderValue| String::from_utf8_lossy(from.as_bytes()).contains(&of_token);
    if headers.get(REFERER).is_some_and(tells) {
        headers.remove(REFERER);
    }
    let kept: Vec<&[u8]> = cookies::pairs(headers)
        .filter(|cookie| !is_our_cookie(cookie))
        .collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok();
    headers.remove(COOKIE);
    if let Some(value) = kept.filter(|value| !value.is_empty()) {
        headers.insert(COOKIE, value);
    }
    let host = headers.get(HOST).cloned();
    let mut say = |name: &'static str, value: Option<HeaderValue>| {
        let name = HeaderName::from_static(name);
        headers.remove(&name);
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    let from = client.and_then(|client| HeaderValue::from_str(&client.to_string()).ok());
    say("x-forwarded-for", from);
    let scheme = if tls { "https" } else { "http" };
    say("x-forwarded-proto", Some(HeaderValue::from_static(scheme)));
    say("forwarded", None);
    say("x-forwarded-host", host);
}

/// Takes out what a rental may not say: what is of one connection, and cookies for other hosts than its own.
pub(super) fn from_rental(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
    let cookies: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| own_cookie(value.as_bytes()))
        .collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    // another service may answer there instead of us
    headers.remove("alt-svc");
}

/// A cookie without its domain, so that it is for this host only; nothing for one that only we set.
fn own_cookie(said: &[u8]) -> Option<HeaderValue> {
    let mut parts = said.split(|byte| *byte == b';');
    let first = parts.next()?;
    if is_our_cookie(first) {
        return None;
    }
    let rest = parts.filter(|part| !name_of(part).eq_ignore_ascii_case(b"domain"));
    let whole: Vec<&[u8]> = std::iter::once(first).chain(rest).collect();
    HeaderValue::from_bytes(&whole.join(&b';')).ok()
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !NEVER_DROPPED.contains(name))
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// What stands before `=`, or all of it.
fn name_of(pair: &[u8]) -> &[u8] {
    let name = pair.split(|byte| *byte == b'=').next();
    name.unwrap_or_default().trim_ascii()
}

fn is_our_cookie(cookie: &[u8]) -> bool {
    // ours have plain names
    std::str::from_utf8(name_of(cookie)).is_ok_and(|name| {
        [TOKEN_COOKIE, TOKEN_COOKIE_TLS].contains(&name) || cookies::is_ours(name)
    })
}

/// Whether an `Authorization` holds a credential of this market: an app's own passes.
fn is_ours(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return true;
    };
    let Some((scheme, token)) = text.split_once(' ') else {
        return false;
    };
    let token = token.trim();
    scheme.eq_ignore_ascii_case("bearer")
        && ([apikeys::model::PREFIX, rental_token::PREFIX]
            .iter()
            .any(|prefix| token.starts_with(prefix))
            // an access token, of whomever: it is the one kind that can't be told from ours at a glance
            || (token.starts_with("eyJ") && token.split('.').count() == 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_rental_hears_nothing_that_is_meant_for_us() {
        let mut asked = headers(&[
            ("host", "8080-rnt-1.apps.example"),
            ("connection", "keep-alive, x-secret"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("authorization", "Bearer rmt_1_2"),
            ("cookie", "__Host-at=1; theme=dark; at=2"),
            ("cookie", "ramarket-port=3; lang=de"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-ramarket-port-token", "rmp_1"),
        ]);
        to_rental(&mut asked, Some(IpAddr::from([192, 0, 2, 1])), true);
        for gone in [
            "connection",
            "x-secret",
            "te",
            "authorization",
            "x-ramarket-port-token",
        ] {
            assert!(!asked.contains_key(gone), "{gone}");
        }
        assert_eq!(asked["cookie"], "theme=dark; lang=de");
        assert_eq!(asked["x-forwarded-for"], "192.0.2.1");
        assert_eq!(asked["x-forwarded-proto"], "https");
        assert_eq!(asked["x-forwarded-host"], "8080-rnt-1.apps.example");
        for own in ["Basic dTpw", "token abc", "Bearer abc"] {
            let mut asked = headers(&[("authorization", own)]);
            to_rental(&mut asked, None, true);
            assert_eq!(asked["authorization"], own);
        }
    }

    #[test]
    fn a_rentals_cookies_are_for_its_own_host() {
        let mut said = headers(&[
            ("set-cookie", "a=1; Path=/; Domain=apps.example; HttpOnly"),
            ("set-cookie", "b=2; domain = .apps.example"),
            ("set-cookie", "__Host-ramarket-port=x; Path=/"),
            ("set-cookie", "__Host-at=x"),
            ("alt-svc", "h3=\":443\""),
            ("transfer-encoding", "chunked"),
        ]);
        from_rental(&mut said);
        let cookies: Vec<&str> = said
            .get_all("set-cookie")
            .iter()
            .map(|value| value.to_str().expect("text"))
            .collect();
        assert_eq!(cookies, ["a=1; Path=/; HttpOnly", "b=2"]);
        assert!(!said.contains_key("alt-svc") && !said.contains_key("transfer-encoding"));
    }

    #[test]
    fn a_cookie_that_isnt_text_passes_and_so_do_the_others() {
        let mut asked = HeaderMap::new();
        for sent in [&b"a=\xff1; at=2; \xe9=3"[..], b"at\xff=4; lang=de"] {
            asked.append(COOKIE, HeaderValue::from_bytes(sent).expect("a value"));
        }
        to_rental(&mut asked, None, true);
        assert_eq!(
            asked["cookie"].as_bytes(),
            b"a=\xff1; \xe9=3; at\xff=4; lang=de"
        );
        let mut said = HeaderMap::new();
        let sent = HeaderValue::from_bytes(b"a=\xff; Domain=apps.example; Path=/");
        said.append(SET_COOKIE, sent.expect("a value"));
        from_rental(&mut said);
        assert_eq!(said["set-cookie"].as_bytes(), b"a=\xff; Path=/");
    }

    #[test]
    fn a_visitor_cant_say_by_which_host_they_came() {
        let mut asked = headers(&[
            ("host", "8080-rnt-1.apps.example"),
            (
                "connection",
                "Host, content-length, x-forwarded-host, x-secret",
            ),
            ("content-length", "3"),
            ("x-secret", "1"),
            ("x-forwarded-host", "evil.example"),
        ]);
        to_rental(&mut asked, None, true);
        assert_eq!(asked["host"], "8080-rnt-1.apps.example");
        assert_eq!(asked["x-forwarded-host"], "8080-rnt-1.apps.example");
        assert_eq!(asked["content-length"], "3");
        assert!(!asked.contains_key("x-secret"));
        let mut without = headers(&[("x-forwarded-host", "evil.example")]);
        to_rental(&mut without, None, true);
        assert!(!without.contains_key("x-forwarded-host"));
    }

    #[test]
    fn a_page_doesnt_refer_to_its_token() {
        for (from, stays) in [
            ("https://a.example/x?token=rmp_1", false),
            ("https://a.example/x?token=theirs", true),
        ] {
            let mut asked = headers(&[("referer", from)]);
            to_rental(&mut asked, None, true);
            assert_eq!(asked.contains_key("referer"), stays, "{from}");
        }
    }
}
