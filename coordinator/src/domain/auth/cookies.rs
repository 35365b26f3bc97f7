//! Our cookies: names and attributes.
//!
//! # Invariants
//! - `HttpOnly` always; `Secure` and the prefix `__Host-` wherever clients reach us by TLS, that is everywhere but on
//!   loopback.

use axum::http::{HeaderMap, header};

use crate::config::Config;

/// As long as a challenge holds.
const CHALLENGE_S: i64 = 300;

/// Makes our cookies.
#[derive(Debug)]
pub struct Cookies {
    tls: bool,
}

impl Cookies {
    /// For the configured public URL.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            tls: config.http.is_tls(),
        }
    }

    /// The name of the access token's cookie.
    #[must_use]
    pub const fn access_name(&self) -> &'static str {
        if self.tls { "__Host-at" } else { "at" }
    }

    /// The name of the refresh token's cookie.
    #[must_use]
    pub const fn refresh_name(&self) -> &'static str {
        if self.tls { "__Host-rt" } else { "rt" }
    }

    /// The access token's `Set-Cookie`; sent along when somebody follows a link to us.
    #[must_use]
    pub fn set_access(&self, token: &str, age_s: i64) -> String {
        self.set(self.access_name(), token, age_s, "Lax")
    }

    /// The refresh token's `Set-Cookie`; sent by our own pages only.
    #[must_use]
    pub fn set_refresh(&self, token: &str, age_s: i64) -> String {
        self.set(self.refresh_name(), token, age_s, "Strict")
    }

    /// Empties both.
    #[must_use]
    pub fn clear(&self) -> [String; 2] {
        [self.set_access("", 0), self.set_refresh("", 0)]
    }

    /// The name of the cookie of an attempt to sign in elsewhere.
    #[must_use]
    pub const fn attempt_name(&self) -> &'static str {
        if self.tls { "__Host-oidc" } else { "oidc" }
    }

    /// The `Set-Cookie` of an attempt to sign in elsewhere; sent along when the provider sends somebody back.
    #[must_use]
    pub fn set_attempt(&self, attempt: &str, age_s: i64) -> String {
        self.set(self.attempt_name(), attempt, age_s, "Lax")
    }

    /// The name of the cookie of a sign-in that needs a code still.
    #[must_use]
    pub const fn challenge_name(&self) -> &'static str {
        if self.tls { "__Host-code" } else { "code" }
    }

    /// The `Set-Cookie` of a sign-in that needs a code still, or with nothing, of none.
    #[must_use]
    pub fn set_challenge(&self, challenge: &str) -> String {
        let age_s = if challenge.is_empty() { 0 } else { CHALLENGE_S };
        self.set(self.challenge_name(), challenge, age_s, "Lax")
    }

    fn set(&self, name: &str, value: &str, age_s: i64, same_site: &str) -> String {
        let secure = if self.tls { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={age_s}{secure}")
    }
}

/// Whether a cookie of this name is one of ours, of whichever session.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let bare = name.strip_prefix("__Host-");
    matches!(name, "at" | "rt")
        || bare.is_some_and(|bare| matches!(bare, "at" | "rt" | "oidc" | "code"))
}

/// The cookies of a request, each as `name=value`: bytes, since any page can set one that isn't text, and the others count all the same.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
}

/// The value of the cookie `name`, if the request has it.
#[must_use]
pub fn read<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    pairs(headers)
        .filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .find_map(|value| std::str::from_utf8(value).ok())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_that_isnt_text_hides_no_other() {
        let mut headers = HeaderMap::new();
        let sent = HeaderValue::from_bytes(b"a=\xff; at2=no; at=yes; =; x").expect("a value");
        headers.append(header::COOKIE, sent);
        assert_eq!(read(&headers, "at"), Some("yes"));
        assert_eq!(read(&headers, "a"), None);
        assert_eq!(read(&headers, "x"), None);
        assert_eq!(pairs(&headers).count(), 5);
    }
}
