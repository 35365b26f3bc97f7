//! Ed25519 keys and domain-separated signatures (ring, strict single verification).
//!
//! # Invariants
//! - A signature is always over `domain tag ‖ 0x00 ‖ message`, or over an RFC 9421 signature base: a signature made
//!   for one purpose never passes for another.
//! - Private keys can't be printed.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// What was wrong with a key or a signature.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SignError {
    /// The bytes aren't a private key in PKCS#8.
    #[error("the private key can't be read: not an Ed25519 key in PKCS#8")]
    BadPrivateKey,
    /// The bytes aren't a usable public key.
    #[error("the public key can't be used: not a valid Ed25519 key")]
    BadPublicKey,
    /// The signature doesn't belong to this message and key.
    #[error("the signature doesn't match")]
    BadSignature,
    /// The system's random source failed.
    #[error("the system has no random numbers")]
    NoRandom,
}

/// A private signing key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    /// A new key as PKCS#8 bytes, to be written to a file with mode 0600.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate_pkcs8() -> Result<Vec<u8>, SignError> {
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| SignError::NoRandom)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// The bytes aren't an Ed25519 key in PKCS#8.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, SignError> {
        Ed25519KeyPair::from_pkcs8(bytes)
            .map(|pair| Self { pair })
            .map_err(|_| SignError::BadPrivateKey)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs `message` for the purpose `domain`.
    #[must_use]
    pub fn sign(&self, domain: &str, message: &[u8]) -> Signature {
        self.sign_raw(&with_domain(domain, message))
    }

    /// Signs bytes that carry their own purpose (an RFC 9421 signature base).
    #[must_use]
    pub fn sign_raw(&self, bytes: &[u8]) -> Signature {
        let mut out = [0; SIGNATURE_BYTES];
        out.copy_from_slice(self.pair.sign(bytes).as_ref());
        Signature(out)
    }
}

/// A public key. Text form: base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// Encodings of the points of small order: a "key" for which signatures can be made without a secret.
/// Canonical encodings, and the non-canonical ones that decoders accept.
const SMALL_ORDER_KEYS: [[u8; 32]; 7] = [
    [0; 32],
    key_with(1, 0x00, 0x00),
    hex_key(*b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    hex_key(*b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    key_with(0xec, 0xff, 0x7f),
    key_with(0xed, 0xff, 0x7f),
    key_with(0xee, 0xff, 0x7f),
];

const fn key_with(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut key = [middle; 32];
    key[0] = first;
    key[31] = last;
    key
}

const fn hex_key(text: [u8; 64]) -> [u8; 32] {
    const fn digit(c: u8) -> u8 {
        if c.is_ascii_digit() {
            c - b'0'
        } else {
            c - b'a' + 10
        }
    }
    let mut key = [0; 32];
    let mut i = 0;
    while i < 32 {
        key[i] = digit(text[2 * i]) * 16 + digit(text[2 * i + 1]);
        i += 1;
    }
    key
}

impl PublicKey {
    /// From 32 bytes.
    ///
    /// # Errors
    /// Another length, or a point of small order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignError> {
        let key: [u8; 32] = bytes.try_into().map_err(|_| SignError::BadPublicKey)?;
        let mut unsigned = key;
        unsigned[31] &= 0x7f;
        if SMALL_ORDER_KEYS.contains(&unsigned) {
            return Err(SignError::BadPublicKey);
        }
        Ok(Self(key))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature over `message` for the purpose `domain`.
    ///
    /// # Errors
    /// It doesn't match.
    pub fn verify(
        &self,
        domain: &str,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), SignError> {
        self.verify_raw(&with_domain(domain, message), signature)
    }

    /// Checks a signature over bytes that carry their own purpose.
    ///
    /// # Errors
    /// It doesn't match.
    pub fn verify_raw(&self, bytes: &[u8], signature: &Signature) -> Result<(), SignError> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(bytes, &signature.0)
            .map_err(|_| SignError::BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = SignError;

    fn try_from(text: String) -> Result<Self, SignError> {
        BASE64
            .decode(text)
            .map_err(|_| SignError::BadPublicKey)
            .and_then(|bytes| Self::from_bytes(&bytes))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// An Ed25519 signature. Text form: base64.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; SIGNATURE_BYTES]);

impl Signature {
    /// From 64 bytes.
    ///
    /// # Errors
    /// Another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignError> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| SignError::BadSignature)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Signature {
    type Error = SignError;

    fn try_from(text: String) -> Result<Self, SignError> {
        BASE64
            .decode(text)
            .map_err(|_| SignError::BadSignature)
            .and_then(|bytes| Self::from_bytes(&bytes))
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}

fn with_domain(domain: &str, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(domain.len() + 1 + message.len());
    bytes.extend_from_slice(domain.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(message);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_domain_and_key_only() {
        let key =
            SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random")).expect("key");
        let other =
            SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random")).expect("key");
        let signature = key.sign("a", b"message");
        assert_eq!(key.public().verify("a", b"message", &signature), Ok(()));
        assert!(key.public().verify("b", b"message", &signature).is_err());
        assert!(key.public().verify("a", b"messagf", &signature).is_err());
        assert!(other.public().verify("a", b"message", &signature).is_err());
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(
            PublicKey::from_bytes(&identity),
            Err(SignError::BadPublicKey)
        );
        assert_eq!(
            PublicKey::from_bytes(&[0; 32]),
            Err(SignError::BadPublicKey)
        );
        identity[31] = 0x80;
        assert_eq!(
            PublicKey::from_bytes(&identity),
            Err(SignError::BadPublicKey)
        );
    }
}
