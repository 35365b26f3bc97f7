//! Signatures of Standard Webhooks: HMAC-SHA256 over id, time and body, by every secret that is valid.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;
use shared::{id::EventId, secret::Secret, time::Timestamp};

/// What the text of a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// A secret as both sides have it.
#[derive(Debug, Clone)]
pub struct SigningSecret(Secret<Vec<u8>>);

impl SigningSecret {
    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Secret::new(bytes))
    }

    /// Its bytes, to seal them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.expose()
    }

    /// `whsec_…`: shown to the owner once.
    #[must_use]
    pub fn text(&self) -> Secret<String> {
        Secret::new(format!("{PREFIX}{}", BASE64.encode(self.0.expose())))
    }
}

/// The value of `webhook-signature`: one signature for each secret, so that a receiver may have any of them.
#[must_use]
pub fn sign(secrets: &[SigningSecret], id: EventId, at: Timestamp, body: &str) -> String {
    let signed = format!("{id}.{}.{body}", at.as_secs());
    let one = |secret: &SigningSecret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
        format!("v1,{}", BASE64.encode(hmac::sign(&key, signed.as_bytes())))
    };
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the Python package `standardwebhooks` with the secret of the specification.
    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const VECTORS: [(&str, i64, &str, &str); 2] = [
        (
            "evt_0198a5b2c3d47e8f9012345678abcdef",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,1ept9ECr6qxiRf7I8MFgwqdnan1fQnyVIStgaOG2TCQ=",
        ),
        (
            "evt_00000000000000000000000000000001",
            1_800_000_000,
            r#"{"type":"rental.started","data":{"name":"Zoë"}}"#,
            "v1,W6bkPF5qPEcA8xgjyev2mr7oNRlmlTBEBbPe5NYqUP0=",
        ),
    ];

    #[test]
    fn signatures_are_those_of_another_implementation() {
        let secret = SigningSecret::from_bytes(BASE64.decode(SECRET).expect("base64"));
        assert_eq!(*secret.text().expose(), format!("whsec_{SECRET}"));
        for (id, at, body, expected) in VECTORS {
            let id = id.parse().expect("an id");
            let at = Timestamp::from_secs(at);
            assert_eq!(sign(std::slice::from_ref(&secret), id, at, body), expected);
        }
        let other = SigningSecret::from_bytes(vec![7; SECRET_BYTES]);
        let (id, at, body, expected) = VECTORS[0];
        let both = sign(
            &[other, secret],
            id.parse().expect("an id"),
            Timestamp::from_secs(at),
            body,
        );
        let parts: Vec<&str> = both.split(' ').collect();
        assert_eq!((parts.len(), parts[1]), (2, expected));
        assert_ne!(parts[0], expected);
    }
}
