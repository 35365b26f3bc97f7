//! An attempt to sign in elsewhere, as the browser keeps it: a cookie that we authenticate, nothing stored until it is used.
//!
//! # Invariants
//! - State, nonce and PKCE verifier are derived from the attempt's secret, each with a key of its own: whoever hasn't the
//!   cookie knows none of them, and what the provider sees tells nothing about the rest.
//! - An attempt holds for [`LIFE_S`], with the provider it was begun with; using it up is the caller's part ([`Attempt::digest`]).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::{
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};
use shared::{id::SessionId, secret::Secret, time::Timestamp};

use super::model::Next;
use crate::{
    error::{Error, Result},
    keys::TokenSecret,
};

/// For so long an attempt may be finished, seconds.
pub const LIFE_S: i64 = 600;
const COOKIE_CHARS_MAX: usize = 2048;

/// Why somebody goes to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To sign in.
    SignIn,
    /// To sign in, and be asked there again who they are.
    ProveAgain,
    /// To link the identity to the account of this session.
    Link(SessionId),
}

/// What the cookie says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    secret: String,
    provider: String,
    next: String,
    purpose: Purpose,
    begun_us: i64,
}

/// An attempt that was begun here.
#[derive(Debug)]
pub struct Attempt {
    secret: Secret<String>,
    keys: AttemptKeys,
    /// With which provider.
    pub provider: String,
    /// Where to afterwards.
    pub next: Next,
    /// Why.
    pub purpose: Purpose,
    /// When it was begun.
    pub begun: Timestamp,
}

/// Makes and reads attempts.
#[derive(Debug, Clone)]
pub struct AttemptKeys {
    cookie: hmac::Key,
    state: hmac::Key,
    nonce: hmac::Key,
    verifier: hmac::Key,
}

impl AttemptKeys {
    /// From our secret: coordinators that share it read each other's attempts.
    #[must_use]
    pub fn new(secret: &TokenSecret) -> Self {
        Self {
            cookie: secret.key("ramarket-oidc-cookie-v1"),
            state: secret.key("ramarket-oidc-state-v1"),
            nonce: secret.key("ramarket-oidc-nonce-v1"),
            verifier: secret.key("ramarket-oidc-verifier-v1"),
        }
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn begin(
        &self,
        provider: &str,
        next: Next,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Attempt> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::internal("the system has no random numbers"))?;
        Ok(Attempt {
            secret: Secret::new(BASE64URL.encode(bytes)),
            keys: self.clone(),
            provider: provider.to_owned(),
            next,
            purpose,
            begun: now,
        })
    }

    /// The attempt of a cookie; nothing when we didn't make it or its time is over.
    #[must_use]
    pub fn open(&self, cookie: &str, now: Timestamp) -> Option<Attempt> {
        if cookie.len() > COOKIE_CHARS_MAX {
            return None;
        }
        let (content, tag) = cookie.split_once('.')?;
        let tag = BASE64URL.decode(tag).ok()?;
        hmac::verify(&self.cookie, content.as_bytes(), &tag).ok()?;
        let content: Content = serde_json::from_slice(&BASE64URL.decode(content).ok()?).ok()?;
        let begun = Timestamp::from_micros(content.begun_us);
        let age_ms = now.ms_since(begun);
        (-30_000..LIFE_S * 1_000).contains(&age_ms).then_some(())?;
        Some(Attempt {
            secret: Secret::new(content.secret),
            keys: self.clone(),
            provider: content.provider,
            next: Next::parse(&content.next)?,
            purpose: content.purpose,
            begun,
        })
    }
}

impl Attempt {
    /// The cookie's value.
    ///
    /// # Errors
    /// Never: it is text that can be written.
    pub fn cookie(&self) -> Result<Secret<String>> {
        let content = Content {
            secret: self.secret.expose().clone(),
            provider: self.provider.clone(),
            next: self.next.as_str().to_owned(),
            purpose: self.purpose,
            begun_us: self.begun.as_micros(),
        };
        let content = BASE64URL.encode(serde_json::to_vec(&content).map_err(Error::internal)?);
        let tag = hmac::sign(&self.keys.cookie, content.as_bytes());
        Ok(Secret::new(format!("{content}.{}", BASE64URL.encode(tag))))
    }

    /// What the provider sends back unchanged.
    #[must_use]
    pub fn state(&self) -> String {
        self.derived(&self.keys.state)
    }

    /// Whether `state` is this attempt's; takes the same time for any of its length.
    #[must_use]
    pub fn has_state(&self, state: &str) -> bool {
        BASE64URL.decode(state).is_ok_and(|tag| {
            let secret = self.secret.expose().as_bytes();
            hmac::verify(&self.keys.state, secret, &tag).is_ok()
        })
    }

    /// What the ID token must repeat.
    #[must_use]
    pub fn nonce(&self) -> String {
        self.derived(&self.keys.nonce)
    }

    /// What only we can send with the code (RFC 7636).
    #[must_use]
    pub fn verifier(&self) -> Secret<String> {
        Secret::new(self.derived(&self.keys.verifier))
    }

    /// What the provider may know of the verifier before: its SHA-256.
    #[must_use]
    pub fn challenge(&self) -> String {
        let verifier = self.verifier();
        BASE64URL.encode(digest::digest(
            &digest::SHA256,
            verifier.expose().as_bytes(),
        ))
    }

    /// Names the attempt where it is noted that it was used.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.secret.expose().as_bytes())
            .as_ref()
            .to_vec()
    }

    /// When it can't be finished any more, with room for clocks that differ.
    #[must_use]
    pub const fn forgotten_at(&self) -> Timestamp {
        self.begun.plus_ms((LIFE_S + 60) * 1_000)
    }

    fn derived(&self, key: &hmac::Key) -> String {
        BASE64URL.encode(hmac::sign(key, self.secret.expose().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(byte: u8) -> AttemptKeys {
        AttemptKeys::new(&TokenSecret::from_bytes([byte; 32]))
    }

    #[test]
    fn a_cookie_holds_ten_minutes_with_the_key_that_made_it() {
        let now = Timestamp::from_secs(1_800_000_000);
        let next = Next::parse("/rentals").expect("ours");
        let begun = keys(1)
            .begin("google", next, Purpose::SignIn, now)
            .expect("begun");
        let cookie = begun.cookie().expect("made");
        let cookie = cookie.expose();
        let read = keys(1)
            .open(cookie, now.plus_ms(599_999))
            .expect("it holds");
        assert_eq!(
            (read.provider.as_str(), read.next.as_str()),
            ("google", "/rentals")
        );
        assert!(read.has_state(&begun.state()) && read.nonce() == begun.nonce());
        assert_eq!(read.digest(), begun.digest());
        assert!(keys(1).open(cookie, now.plus_ms(600_000)).is_none());
        assert!(keys(2).open(cookie, now).is_none());
        assert!(keys(1).open(&cookie.replace('.', "x."), now).is_none());
        assert!(
            keys(1)
                .open(&format!("e30.{}", &cookie[cookie.len() - 43..]), now)
                .is_none()
        );
        assert!(keys(1).open("", now).is_none());
        assert!(!format!("{begun:?}").contains(begun.secret.expose()));
    }

    #[test]
    fn what_is_derived_differs_and_is_long_enough() {
        let now = Timestamp::from_secs(1_800_000_000);
        let begin = || {
            keys(1)
                .begin("a", Next::default(), Purpose::SignIn, now)
                .expect("begun")
        };
        let (one, other) = (begin(), begin());
        let mut all = vec![
            one.state(),
            one.nonce(),
            one.verifier().expose().clone(),
            one.challenge(),
        ];
        all.extend([
            other.state(),
            other.nonce(),
            other.verifier().expose().clone(),
        ]);
        assert!(all.iter().all(|text| text.len() == 43));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7);
        assert!(
            !one.has_state(&other.state()) && !one.has_state("") && !one.has_state(&one.nonce())
        );
    }
}
