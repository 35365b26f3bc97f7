//! A provider's keys (RFC 7517) and signatures by them (RFC 7518, RFC 8037): RS256, ES256 and EdDSA, nothing else.
//!
//! # Invariants
//! - A key serves one family of algorithms: a public key is never taken for a shared secret, whatever a token says.
//! - At most [`KEYS_MAX`] keys are kept; what isn't a usable signature key is passed over.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

/// Keys that are kept of one provider.
pub const KEYS_MAX: usize = 32;
const RSA_BYTES_MAX: usize = 512;
const EXPONENT_BYTES_MAX: usize = 4;

/// The algorithms that we believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alg {
    /// RSA with SHA-256, PKCS #1 1.5.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// The algorithm of a name; nothing for any that we don't believe.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A public key for signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    kid: Option<String>,
    alg: Alg,
    material: Material,
}

impl Jwk {
    /// Whether `signature` of `message` is by this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Material::P256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
        };
        verified.is_ok()
    }

    fn of(raw: RawKey) -> Option<Self> {
        let signs = raw.usage.as_deref().is_none_or(|usage| usage == "sig")
            && raw
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs {
            return None;
        }
        let (alg, material) = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => (Alg::Rs256, rsa(&raw.n?, &raw.e?)?),
            ("EC", Some("P-256")) => {
                let mut point = vec![4];
                point.extend(fixed_32(&raw.x?)?);
                point.extend(fixed_32(&raw.y?)?);
                (Alg::Es256, Material::P256(point))
            }
            ("OKP", Some("Ed25519")) => (Alg::EdDsa, Material::Ed25519(fixed_32(&raw.x?)?)),
            _ => return None,
        };
        let told = raw.alg.as_deref();
        told.is_none_or(|told| Alg::from_name(told) == Some(alg))
            .then_some(Self {
                kid: raw.kid,
                alg,
                material,
            })
    }
}

fn rsa(n: &str, e: &str) -> Option<Material> {
    let number = |text: &str, most: usize| {
        let bytes = BASE64URL.decode(text).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let number = bytes.get(zeros..)?.to_vec();
        (1..=most).contains(&number.len()).then_some(number)
    };
    Some(Material::Rsa {
        n: number(n, RSA_BYTES_MAX)?,
        e: number(e, EXPONENT_BYTES_MAX)?,
    })
}

fn fixed_32(text: &str) -> Option<Vec<u8>> {
    BASE64URL
        .decode(text)
        .ok()
        .filter(|bytes| bytes.len() == 32)
}

/// A provider's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jwks(Vec<Jwk>);

impl Jwks {
    /// The usable keys of a set; nothing when it isn't a set or has none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let set: RawSet = serde_json::from_slice(bytes).ok()?;
        let keys: Vec<Jwk> = set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .filter_map(Jwk::of)
            .take(KEYS_MAX)
            .collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The key of a token that names `kid`, or, when it names none, the only key of its algorithm.
    #[must_use]
    pub fn find(&self, kid: Option<&str>, alg: Alg) -> Option<&Jwk> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.alg == alg && (kid.is_none() || key.kid.as_deref() == kid));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key),
            // none, or no saying which
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(keys: &serde_json::Value) -> Option<Jwks> {
        Jwks::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn only_usable_signature_keys_are_kept() {
        let ed =
            json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64URL.encode([7; 32]), "kid": "a"});
        let with = |key: &str, value: serde_json::Value| {
            let mut other = ed.clone();
            other[key] = value;
            set(&json!([other]))
        };
        assert!(set(&json!([ed])).is_some());
        assert!(
            with("use", json!("sig")).is_some() && with("key_ops", json!(["verify"])).is_some()
        );
        assert!(with("use", json!("enc")).is_none() && with("key_ops", json!(["sign"])).is_none());
        assert!(with("alg", json!("HS256")).is_none() && with("alg", json!("ES256")).is_none());
        assert!(with("crv", json!("X25519")).is_none() && with("x", json!("AA")).is_none());
        // a shared secret is no public key
        assert!(set(&json!([{"kty": "oct", "k": "AAAA", "kid": "a"}])).is_none());
        assert!(set(&json!([])).is_none() && Jwks::parse(b"[]").is_none());
        // one that can't be read doesn't spoil the others
        assert!(set(&json!([{"kty": 1}, "x", ed])).is_some());
        let many = vec![ed.clone(); KEYS_MAX + 5];
        assert_eq!(set(&json!(many)).expect("a set").0.len(), KEYS_MAX);
    }

    #[test]
    fn a_key_is_found_by_name_and_algorithm_or_is_the_only_one() {
        let ed = |kid: &str| json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64URL.encode([7; 32]), "kid": kid});
        let two = set(&json!([ed("a"), ed("b")])).expect("a set");
        assert!(two.find(Some("a"), Alg::EdDsa).is_some());
        assert_eq!(two.find(Some("a"), Alg::Rs256), None);
        assert_eq!(two.find(Some("c"), Alg::EdDsa), None);
        assert_eq!(two.find(None, Alg::EdDsa), None);
        let one = set(&json!([ed("a")])).expect("a set");
        assert!(one.find(None, Alg::EdDsa).is_some());
        let twins = set(&json!([ed("a"), ed("a")])).expect("a set");
        assert_eq!(twins.find(Some("a"), Alg::EdDsa), None);
    }
}
