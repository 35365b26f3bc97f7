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
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use serde_json::json;
use shared::{secret::Secret, time::Timestamp};

const LIFE_S: i64 = 120;
const NONCE_BYTES: usize = 16;
const SEED_BYTES: usize = 32;

/// A key and its id.
#[derive(Debug)]
pub struct CdpKey {
    id: String,
    pair: Secret<Pair>,
}

/// The two kinds of keys that the platform gives.
enum Pair {
    Ed25519(Ed25519KeyPair),
    EcP256(EcdsaKeyPair),
}

impl Pair {
    /// The name of its signatures in a token.
    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::EcP256(_) => "ES256",
        }
    }

    fn sign(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Ed25519(pair) => Ok(pair.sign(bytes).as_ref().to_vec()),
            Self::EcP256(pair) => pair
                .sign(&SystemRandom::new(), bytes)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| anyhow::anyhow!("the system has no random numbers")),
        }
    }
}

/// An EC key as the platform and OpenSSL write it (SEC 1, P-256, with its public key): these bytes, the private key, …
const SEC1_HEAD: [u8; 7] = [0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
/// … these, which name the curve, and the public key: an uncompressed point.
const SEC1_MIDDLE: [u8; 17] = [
    0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42,
    0x00,
];

fn ec_key(pem: &str) -> Option<EcdsaKeyPair> {
    // in JSON files and in variables the line ends are written out
    let pem = pem.replace("\\n", "\n");
    let (kind, rest) = pem
        .trim()
        .strip_prefix("-----BEGIN ")?
        .split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).ok()?;
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    if kind == "PRIVATE KEY" {
        return EcdsaKeyPair::from_pkcs8(algorithm, &der, &random).ok();
    }
    let rest = der.strip_prefix(&SEC1_HEAD)?;
    let (private, rest) = rest.split_at_checked(SEED_BYTES)?;
    let public = rest.strip_prefix(&SEC1_MIDDLE)?;
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public, &random).ok()
}

fn ed25519_key(secret: &str) -> Option<Ed25519KeyPair> {
    let bytes = STANDARD.decode(secret.trim()).ok()?;
    if bytes.len() != 2 * SEED_BYTES {
        return None;
    }
    let (seed, public) = bytes.split_at(SEED_BYTES);
    Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()
}

impl CdpKey {
    /// `secret` as the platform shows it: base64 of 64 bytes (Ed25519, seed and public key), or PEM (EC, P-256).
    ///
    /// # Errors
    /// It is something else.
    pub fn new(id: &str, secret: &str) -> anyhow::Result<Self> {
        let pair = if secret.contains("-----BEGIN ") {
            ec_key(secret).map(Pair::EcP256)
        } else {
            ed25519_key(secret).map(Pair::Ed25519)
        };
        let pair = pair.context(
            "write the secret of an API key: base64 of 64 bytes (Ed25519), or an EC P-256 key as PEM",
        )?;
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
        let algorithm = self.pair.expose().algorithm();
        let header =
            json!({"alg": algorithm, "kid": self.id, "typ": "JWT", "nonce": hex::encode(nonce)});
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
        let signature = self.pair.expose().sign(signed.as_bytes())?;
        Ok(Secret::new(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }
}
