//! HTTP Message Signatures (RFC 9421) as agents use them: Ed25519 over exactly
//! `"@method" "@target-uri" "content-digest"`, label `sig1`; without a body, no `content-digest`.
//!
//! # Invariants
//! - Signer and verifier build the signature base with the same function.
//! - The parameters are accepted in any order, but each exactly once, and the covered components must be the full set.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::digest;

use crate::sign::{PublicKey, SignError, Signature, SigningKey};

/// The `tag` parameter: what these signatures are for.
pub const TAG: &str = "ramarket-agent";
/// Longest `Signature-Input` that is parsed.
const INPUT_BYTES_MAX: usize = 512;
/// Longest nonce.
const NONCE_BYTES_MAX: usize = 64;

/// The parameters of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// When it was made, by the signer's corrected clock: whole seconds since the Unix epoch.
    pub created_s: i64,
    /// Random text, never used twice by one key.
    pub nonce: String,
    /// Whose key: the node id.
    pub key_id: String,
}

/// The request that is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `POST`, `GET`, …
    pub method: &'a str,
    /// The absolute URL as the client sees it.
    pub target_uri: &'a str,
    /// The body; `None` for a request without one.
    pub body: Option<&'a [u8]>,
}

/// The three headers of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Digest`, if there is a body.
    pub content_digest: Option<String>,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

/// Why a signed request is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum VerifyError {
    /// One of the three headers is missing or unreadable.
    #[error("the signature headers are missing or malformed")]
    Malformed,
    /// Other components or parameters than the protocol's.
    #[error("the signature doesn't cover what it must")]
    WrongCoverage,
    /// `Content-Digest` isn't that of the body.
    #[error("the content digest doesn't match the body")]
    WrongDigest,
    /// The signature doesn't match.
    #[error("the signature doesn't match")]
    BadSignature,
}

/// `Content-Digest` of a body: `sha-256=:…:` (RFC 9530).
#[must_use]
pub fn content_digest(body: &[u8]) -> String {
    format!(
        "sha-256=:{}:",
        BASE64.encode(digest::digest(&digest::SHA256, body))
    )
}

/// Signs a request.
#[must_use]
pub fn sign(key: &SigningKey, request: &Request<'_>, params: &Params) -> Headers {
    let content_digest = request.body.map(content_digest);
    let inner = inner_list(content_digest.is_some(), params);
    let base = signature_base(request, content_digest.as_deref(), &inner);
    Headers {
        signature: format!(
            "sig1=:{}:",
            BASE64.encode(key.sign_raw(base.as_bytes()).as_bytes())
        ),
        signature_input: format!("sig1={inner}"),
        content_digest,
    }
}

/// A parsed but not yet verified signature: the caller looks up the key by [`Unverified::params`].
#[derive(Debug)]
pub struct Unverified {
    /// What the signer claims.
    pub params: Params,
    inner: String,
    signature: Signature,
}

/// Reads the headers of a signed request and checks the digest of its body; the signature is checked by [`Unverified::verify`].
///
/// # Errors
/// Malformed headers, wrong coverage, or a digest that isn't the body's.
pub fn parse(
    body: Option<&[u8]>,
    digest_header: Option<&str>,
    input: &str,
    signature: &str,
) -> Result<Unverified, VerifyError> {
    if input.len() > INPUT_BYTES_MAX {
        return Err(VerifyError::Malformed);
    }
    match (body, digest_header) {
        (Some(body), Some(header)) if header == content_digest(body) => {}
        (Some(_), Some(_)) => return Err(VerifyError::WrongDigest),
        (Some(_), None) => return Err(VerifyError::Malformed),
        (None, None) => {}
        (None, Some(_)) => return Err(VerifyError::WrongCoverage),
    }
    let inner = input.strip_prefix("sig1=").ok_or(VerifyError::Malformed)?;
    let params = parse_inner(inner, body.is_some())?;
    let signature = signature
        .strip_prefix("sig1=:")
        .and_then(|rest| rest.strip_suffix(':'))
        .and_then(|text| BASE64.decode(text).ok())
        .and_then(|bytes| Signature::from_bytes(&bytes).ok())
        .ok_or(VerifyError::Malformed)?;
    Ok(Unverified {
        params,
        inner: inner.to_owned(),
        signature,
    })
}

impl Unverified {
    /// Checks the signature. `request` must be the one whose headers were parsed.
    ///
    /// # Errors
    /// It doesn't match.
    pub fn verify(&self, key: &PublicKey, request: &Request<'_>) -> Result<(), VerifyError> {
        let digest = request.body.map(content_digest);
        let base = signature_base(request, digest.as_deref(), &self.inner);
        key.verify_raw(base.as_bytes(), &self.signature)
            .map_err(|_: SignError| VerifyError::BadSignature)
    }
}

fn covered(has_body: bool) -> &'static str {
    if has_body {
        r#"("@method" "@target-uri" "content-digest")"#
    } else {
        r#"("@method" "@target-uri")"#
    }
}

fn inner_list(has_body: bool, params: &Params) -> String {
    format!(
        r#"{};created={};nonce="{}";keyid="{}";alg="ed25519";tag="{TAG}""#,
        covered(has_body),
        params.created_s,
        params.nonce,
        params.key_id
    )
}

fn signature_base(request: &Request<'_>, content_digest: Option<&str>, inner: &str) -> String {
    let mut base = format!(
        "\"@method\": {}\n\"@target-uri\": {}\n",
        request.method, request.target_uri
    );
    if let Some(digest) = content_digest {
        base.push_str("\"content-digest\": ");
        base.push_str(digest);
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(inner);
    base
}

fn parse_inner(inner: &str, has_body: bool) -> Result<Params, VerifyError> {
    let rest = inner
        .strip_prefix(covered(has_body))
        .ok_or(VerifyError::WrongCoverage)?;
    let (mut created, mut nonce, mut key_id, mut alg, mut tag) = (None, None, None, None, None);
    for part in rest
        .strip_prefix(';')
        .ok_or(VerifyError::Malformed)?
        .split(';')
    {
        let (name, value) = part.split_once('=').ok_or(VerifyError::Malformed)?;
        let slot = match name {
            "created" => &mut created,
            "nonce" => &mut nonce,
            "keyid" => &mut key_id,
            "alg" => &mut alg,
            "tag" => &mut tag,
            _ => return Err(VerifyError::WrongCoverage),
        };
        if slot.replace(value).is_some() {
            return Err(VerifyError::Malformed);
        }
    }
    if unquote(alg)? != "ed25519" || unquote(tag)? != TAG {
        return Err(VerifyError::WrongCoverage);
    }
    let created_s = created
        // an integer of RFC 8941 has no plus sign
        .filter(|text| !text.starts_with('+'))
        .and_then(|text| text.parse().ok())
        .ok_or(VerifyError::Malformed)?;
    let nonce = unquote(nonce)?.to_owned();
    if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX {
        return Err(VerifyError::Malformed);
    }
    Ok(Params {
        created_s,
        nonce,
        key_id: unquote(key_id)?.to_owned(),
    })
}

fn unquote(value: Option<&str>) -> Result<&str, VerifyError> {
    value
        .and_then(|text| text.strip_prefix('"'))
        .and_then(|text| text.strip_suffix('"'))
        .filter(|text| {
            text.bytes()
                .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\' && b != b';')
        })
        .ok_or(VerifyError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random")).expect("key")
    }

    fn check(
        key: &PublicKey,
        request: &Request<'_>,
        headers: &Headers,
    ) -> Result<Params, VerifyError> {
        let unverified = parse(
            request.body,
            headers.content_digest.as_deref(),
            &headers.signature_input,
            &headers.signature,
        )?;
        unverified.verify(key, request)?;
        Ok(unverified.params)
    }

    #[test]
    fn a_signed_request_verifies_and_every_flipped_byte_is_noticed() {
        let key = key();
        let body = br#"{"seq": 1}"#;
        let request = Request {
            method: "POST",
            target_uri: "https://market/x?y=1",
            body: Some(body),
        };
        let params = Params {
            created_s: 1_700_000_000,
            nonce: "abc".into(),
            key_id: "nod_1".into(),
        };
        let headers = sign(&key, &request, &params);
        assert_eq!(check(&key.public(), &request, &headers), Ok(params));

        for i in 0..body.len() {
            let mut changed = body.to_vec();
            changed[i] ^= 1;
            let request = Request {
                body: Some(&changed),
                ..request
            };
            assert_eq!(
                check(&key.public(), &request, &headers),
                Err(VerifyError::WrongDigest)
            );
        }
        let flip = |text: &str, i: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[i] ^= 1;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        for i in 0..headers.signature_input.len() {
            let headers = Headers {
                signature_input: flip(&headers.signature_input, i),
                ..headers.clone()
            };
            assert!(
                check(&key.public(), &request, &headers).is_err(),
                "byte {i} of the input"
            );
        }
        for i in 0..headers.signature.len() {
            let headers = Headers {
                signature: flip(&headers.signature, i),
                ..headers.clone()
            };
            assert!(
                check(&key.public(), &request, &headers).is_err(),
                "byte {i} of the signature"
            );
        }
    }

    #[test]
    fn method_and_target_are_covered() {
        let key = key();
        let request = Request {
            method: "GET",
            target_uri: "https://market/x",
            body: None,
        };
        let params = Params {
            created_s: 1,
            nonce: "n".into(),
            key_id: "k".into(),
        };
        let headers = sign(&key, &request, &params);
        assert!(check(&key.public(), &request, &headers).is_ok());
        let other = Request {
            method: "POST",
            ..request
        };
        assert_eq!(
            check(&key.public(), &other, &headers),
            Err(VerifyError::BadSignature)
        );
        let other = Request {
            target_uri: "https://market/y",
            ..request
        };
        assert_eq!(
            check(&key.public(), &other, &headers),
            Err(VerifyError::BadSignature)
        );
    }

    #[test]
    fn less_coverage_is_refused() {
        let input =
            r#"sig1=("@method");created=1;nonce="n";keyid="k";alg="ed25519";tag="ramarket-agent""#;
        assert_eq!(
            parse(None, None, input, "sig1=::").expect_err("refused"),
            VerifyError::WrongCoverage
        );
    }
}
