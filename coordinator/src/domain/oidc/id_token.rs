//! The ID token (OpenID Connect Core, 3.1.3.7; RFC 8725): who signed it, for whom, for which attempt, and when.
//!
//! # Invariants
//! - The algorithm is one that we believe and that the provider's metadata names, and the key is of that algorithm: what the
//!   token says of itself only chooses among those.
//! - It is for us alone, from exactly the issuer that was asked, of this attempt, and of now.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::digest;
use serde::Deserialize;
use shared::{secret::Secret, time::Timestamp};

use super::{
    jwks::{Alg, Jwks},
    model::{Person, SUBJECT_BYTES_MAX},
};
use crate::domain::auth::model::Email;

/// How far the provider's clock and ours may be apart, seconds.
const LEEWAY_S: i64 = 30;
/// A token that was made for this attempt isn't older.
const AGE_S_MAX: i64 = 600;
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why a token doesn't hold; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not three parts of base64url, or not the JSON that is needed.
    #[error("it can't be read")]
    Unreadable,
    /// Not one that we believe and the provider names.
    #[error("its algorithm isn't accepted")]
    Algorithm,
    /// The header demands something, or says that it is another kind of token.
    #[error("its header isn't one of an ID token")]
    Header,
    /// None of the provider's keys that we know.
    #[error("its key isn't known")]
    Key,
    /// Signed by somebody else, or changed.
    #[error("its signature doesn't hold")]
    Signature,
    /// `iss`.
    #[error("it is from another issuer")]
    Issuer,
    /// `aud`.
    #[error("it isn't for us alone")]
    Audience,
    /// `azp`.
    #[error("it was given to another client")]
    Party,
    /// `exp`, `nbf`.
    #[error("it isn't valid now")]
    Time,
    /// `iat`.
    #[error("it wasn't made just now")]
    Age,
    /// `nonce`.
    #[error("it is of another attempt")]
    Nonce,
    /// `at_hash`.
    #[error("it belongs to another access token")]
    AccessToken,
    /// `sub`.
    #[error("its subject is empty or too long")]
    Subject,
}

/// What a token must be.
#[derive(Debug)]
pub struct Expected<'e> {
    /// Exactly.
    pub issuer: &'e str,
    /// Us.
    pub client_id: &'e str,
    /// Those of the provider's metadata that we believe.
    pub algs: &'e [Alg],
    /// Of the attempt.
    pub nonce: &'e str,
    /// What came with it.
    pub access_token: Option<&'e Secret<String>>,
    /// The moment.
    pub now: Timestamp,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    at_hash: Option<String>,
    auth_time: Option<i64>,
    #[serde(flatten)]
    about: About,
}

/// What an ID token or the userinfo endpoint says of somebody.
#[derive(Debug, Default, Deserialize)]
pub struct About {
    email: Option<String>,
    email_verified: Option<Flag>,
}

/// Some providers write it as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Flag {
    Truth(bool),
    Text(String),
}

impl About {
    /// The address, if it is one, and whether it is known to be theirs.
    #[must_use]
    pub fn email(&self) -> (Option<Email>, bool) {
        let email = self
            .email
            .as_deref()
            .and_then(|text| Email::parse(text).ok());
        let verified = match &self.email_verified {
            Some(Flag::Truth(verified)) => *verified,
            Some(Flag::Text(text)) => text == "true",
            None => false,
        };
        (email, verified)
    }
}

/// Checks a token and tells whom it is about.
///
/// # Errors
/// The first flaw found; [`Flaw::Key`] may be cured by the provider's newest keys.
pub fn check(token: &str, keys: &Jwks, expected: &Expected<'_>) -> Result<Person, Flaw> {
    let (claims, alg) = opened(token, keys, expected)?;
    let now_s = expected.now.as_secs();
    if claims.iss != expected.issuer {
        return Err(Flaw::Issuer);
    }
    let for_us = match &claims.aud {
        Audience::One(only) => only == expected.client_id,
        Audience::Several(all) => matches!(all.as_slice(), [only] if only == expected.client_id),
    };
    if !for_us {
        return Err(Flaw::Audience);
    }
    if claims
        .azp
        .as_deref()
        .is_some_and(|azp| azp != expected.client_id)
    {
        return Err(Flaw::Party);
    }
    let begun = claims
        .nbf
        .is_none_or(|nbf| nbf <= now_s.saturating_add(LEEWAY_S));
    if !begun || claims.exp <= now_s.saturating_sub(LEEWAY_S) {
        return Err(Flaw::Time);
    }
    let ages = -LEEWAY_S..=AGE_S_MAX + LEEWAY_S;
    if !ages.contains(&now_s.saturating_sub(claims.iat)) {
        return Err(Flaw::Age);
    }
    if claims.nonce.as_deref() != Some(expected.nonce) {
        return Err(Flaw::Nonce);
    }
    if let Some(told) = &claims.at_hash {
        let given = expected.access_token.ok_or(Flaw::AccessToken)?;
        if *told != half_hash(alg, given.expose()) {
            return Err(Flaw::AccessToken);
        }
    }
    if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES_MAX {
        return Err(Flaw::Subject);
    }
    let (email, email_verified) = claims.about.email();
    Ok(Person {
        issuer: claims.iss,
        subject: claims.sub,
        email,
        email_verified,
        // nobody proves anything in the future
        proven: claims
            .auth_time
            .map(|at| Timestamp::from_secs(at.min(now_s))),
    })
}

/// The claims of a token whose signature holds.
fn opened(token: &str, keys: &Jwks, expected: &Expected<'_>) -> Result<(Claims, Alg), Flaw> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Flaw::Unreadable);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Unreadable)?;
    let (header, claims) = signed.split_once('.').ok_or(Flaw::Unreadable)?;
    let header: Header = part(header)?;
    let alg = Alg::from_name(&header.alg)
        .filter(|alg| expected.algs.contains(alg))
        .ok_or(Flaw::Algorithm)?;
    let typed = header
        .typ
        .as_deref()
        .is_none_or(|typ| typ.eq_ignore_ascii_case("jwt"));
    if !typed || header.crit.is_some() {
        return Err(Flaw::Header);
    }
    let key = keys.find(header.kid.as_deref(), alg).ok_or(Flaw::Key)?;
    let signature = BASE64URL.decode(signature).map_err(|_| Flaw::Unreadable)?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(Flaw::Signature);
    }
    Ok((part(claims)?, alg))
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Flaw> {
    let bytes = BASE64URL.decode(text).map_err(|_| Flaw::Unreadable)?;
    serde_json::from_slice(&bytes).map_err(|_| Flaw::Unreadable)
}

/// The left half of the hash that goes with the algorithm.
fn half_hash(alg: Alg, text: &str) -> String {
    let hash = match alg {
        Alg::Rs256 | Alg::Es256 => &digest::SHA256,
        Alg::EdDsa => &digest::SHA512,
    };
    let hash = digest::digest(hash, text.as_bytes());
    let hash = hash.as_ref();
    BASE64URL.encode(&hash[..hash.len() / 2])
}

#[cfg(test)]
mod tests;
