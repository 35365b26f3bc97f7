//! A key of Coinbase's Developer Platform: each call carries a fresh token, for that call alone.
//!
//! # Invariants
//! - A token names method, host and path, and lives for two minutes.
//! - The secret never leaves this file; it prints as `[redacted]`.

use anyhow::Context as _;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use reqwest::{Method, Url};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::Ed25519KeyPair,
};
use serde_json::json;
use shared::{secret::Secret, time::Timestamp};

const LIFE_S: i64 = 120;
const NONCE_BYTES: usize = 16;
const SEED_BYTES: usize = 32;

/// An Ed25519 key and its id.
#[derive(Debug)]
pub struct CdpKey {
    id: String,
    pair: Secret<Ed25519KeyPair>,
}

impl CdpKey {
    /// `secret` as the platform shows it: base64 of 64 bytes, seed and public key.
    ///
    /// # Errors
    /// It is something else, such as an EC key.
    pub fn new(id: &str, secret: &str) -> anyhow::Result<Self> {
        const WANTED: &str =
            "write the secret of an Ed25519 API key: base64 of 64 bytes (EC keys aren't supported)";
        let bytes = STANDARD.decode(secret.trim()).ok().context(WANTED)?;
        anyhow::ensure!(bytes.len() == 2 * SEED_BYTES, WANTED);
        let (seed, public) = bytes.split_at(SEED_BYTES);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public)
            .map_err(|_| anyhow::anyhow!(WANTED))?;
        Ok(Self {
            id: id.to_owned(),
            pair: Secret::new(pair),
        })
    }

    /// A token for one call.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(super) fn token(
        &self,
        method: &Method,
        url: &Url,
        now: Timestamp,
    ) -> anyhow::Result<Secret<String>> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let header =
            json!({"alg": "EdDSA", "kid": self.id, "typ": "JWT", "nonce": hex::encode(nonce)});
        let host = url.host_str().unwrap_or_default();
        let issued = now.as_secs();
        let claims = json!({
            "sub": self.id,
            "iss": "cdp",
            "uris": [format!("{method} {host}{}", url.path())],
            "iat": issued,
            "nbf": issued,
            "exp": issued + LIFE_S,
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self.pair.expose().sign(signed.as_bytes());
        Ok(Secret::new(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        )))
    }
}
