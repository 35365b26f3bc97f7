//! Tokens: the access token, a JWT signed with Ed25519 and nothing else (RFC 8725, RFC 9068), and the refresh token, 256
//! bits that nobody can guess.
//!
//! # Invariants
//! - A token's header is compared byte by byte with the one we write: no algorithm, key or type is ever chosen by it.
//! - Every claim is required and no other is known.
//! - The successor of a refresh token is derived from it with our secret, so that a rotation whose answer was lost
//!   can be answered again with the same token.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::{
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::{SessionId, UserId},
    secret::Secret,
    sign::{Signature, SigningKey},
    time::Timestamp,
};

use crate::{
    error::{Error, Result},
    keys::Keys,
};

/// How far clocks of several coordinators may be apart, seconds.
const LEEWAY_S: i64 = 30;
const TOKEN_CHARS_MAX: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// Signs and checks access tokens.
#[derive(Debug)]
pub struct AccessTokens {
    key: Arc<SigningKey>,
    /// The only header there is, encoded.
    header: String,
    /// Issuer and audience: our public URL.
    issuer: String,
    life_s: i64,
}

impl AccessTokens {
    /// Signed with our access key for our public URL.
    #[must_use]
    pub fn new(keys: &Keys, issuer: String, life_s: u32) -> Self {
        let key_hash = digest::digest(&digest::SHA256, keys.access.public().as_bytes());
        let kid = hex::encode(&key_hash.as_ref()[..8]);
        let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"at+jwt"}}"#);
        Self {
            key: Arc::clone(&keys.access),
            header: BASE64URL.encode(header),
            issuer,
            life_s: i64::from(life_s),
        }
    }

    /// A token for `user` in `session`, which ends at `session_ends`; and for how many seconds it holds.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn sign(
        &self,
        user: UserId,
        session: SessionId,
        now: Timestamp,
        session_ends: Timestamp,
    ) -> Result<(Secret<String>, i64)> {
        let iat = now.as_secs();
        let exp = iat.saturating_add(self.life_s).min(session_ends.as_secs());
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.issuer.clone(),
            sub: user,
            sid: session,
            jti: BASE64URL.encode(random::<16>()?),
            iat,
            nbf: iat,
            exp,
        };
        let claims = serde_json::to_vec(&claims).map_err(Error::internal)?;
        let signed = format!("{}.{}", self.header, BASE64URL.encode(claims));
        let signature = self.key.sign_raw(signed.as_bytes());
        let token = format!("{signed}.{}", BASE64URL.encode(signature.as_bytes()));
        Ok((Secret::new(token), exp.saturating_sub(iat)))
    }

    /// Whom `token` stands for, and in which session.
    ///
    /// # Errors
    /// 401 when it isn't ours, isn't valid at `now`, or lacks a claim.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(UserId, SessionId)> {
        self.check(token, now).ok_or_else(|| {
            Error::unauthenticated(
                "access_token",
                "the access token isn't valid, or no longer: refresh it or sign in again",
            )
        })
    }

    fn check(&self, token: &str, now: Timestamp) -> Option<(UserId, SessionId)> {
        if token.len() > TOKEN_CHARS_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != self.header {
            return None;
        }
        let signature = Signature::from_bytes(&BASE64URL.decode(signature).ok()?).ok()?;
        self.key
            .public()
            .verify_raw(signed.as_bytes(), &signature)
            .ok()?;
        let claims: Claims = serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()?;
        let now_s = now.as_secs();
        let ours = claims.iss == self.issuer && claims.aud == self.issuer;
        let begun = claims.nbf.max(claims.iat) <= now_s.saturating_add(LEEWAY_S);
        let going_on = claims.exp > now_s.saturating_sub(LEEWAY_S);
        (ours && begun && going_on).then_some((claims.sub, claims.sid))
    }
}

/// A refresh token in clear.
#[derive(Debug, Clone)]
pub struct RefreshToken(Secret<String>);

impl RefreshToken {
    /// The first of a session.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self> {
        random_text().map(Self)
    }

    /// From a caller; nothing when it can't be one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_random_text(text).then(|| Self(Secret::new(text.to_owned())))
    }

    /// The token that replaces this one.
    #[must_use]
    pub fn successor(&self, key: &hmac::Key) -> Self {
        let next = hmac::sign(key, self.0.expose().as_bytes());
        Self(Secret::new(BASE64URL.encode(next)))
    }

    /// What is stored of it: SHA-256.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        hash_of(&self.0)
    }

    /// The text, for its owner.
    #[must_use]
    pub const fn expose(&self) -> &String {
        self.0.expose()
    }
}

/// 256 random bits as text.
pub(super) fn random_text() -> Result<Secret<String>> {
    Ok(Secret::new(BASE64URL.encode(random::<32>()?)))
}

/// Whether `text` can be one of [`random_text`].
pub(super) fn is_random_text(text: &str) -> bool {
    text.len() == 43 && BASE64URL.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// What is stored of a random text: SHA-256.
pub(super) fn hash_of(text: &Secret<String>) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.expose().as_bytes())
        .as_ref()
        .to_vec()
}

pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the system has no random numbers"))?;
    Ok(bytes)
}
