//! `sign-in-with-x`: a wallet says who it is by signing a text (EIP-4361) that names us and a nonce of ours.
//!
//! # Invariants
//! - Pure: the same challenge, claim and moment give the same answer. That a nonce is ours and is used once is asked elsewhere.
//! - The text that was signed is made anew from the claim's fields, none of which can hold a line break: a field can't pose as another.

use serde::{Deserialize, Serialize};

use super::{
    address::Address,
    eip712::keccak256,
    header::{self, HeaderError},
    signature::{PayerKey, PaymentSignature, SignatureError},
};
use crate::time::Timestamp;

/// The header in which a wallet says who it is.
pub const SIGN_IN_WITH_X: &str = "sign-in-with-x";
/// How long after its challenge a claim is believed, milliseconds.
pub const VALID_FOR_MS: i64 = 5 * 60 * 1_000;
/// The kind of signature that is understood: an Ethereum account's over a text (EIP-191).
pub const EIP191: &str = "eip191";
const VERSION: &str = "1";

/// What a wallet is asked to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// Host and port of who asks.
    pub domain: String,
    /// A URL of who asks.
    pub uri: String,
    /// What signing means, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// `1`.
    pub version: String,
    /// Letters and digits, used once.
    pub nonce: String,
    /// RFC 3339.
    pub issued_at: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<String>,
}

/// A challenge, signed: what the header holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// What was signed.
    #[serde(flatten)]
    pub challenge: Challenge,
    /// Whose wallet it is, as the signed text writes it.
    pub address: String,
    /// CAIP-2.
    pub chain_id: String,
    /// [`EIP191`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Not before this time; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// The client's own name for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What the client wants to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    /// `0x` and 130 hexadecimal digits.
    pub signature: String,
}

/// Why a claim isn't believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum Doubt {
    /// The header can't be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A field isn't what it must be.
    #[error("`{0}` isn't what was asked for")]
    Field(&'static str),
    /// It was made for another site.
    #[error("it was signed for another site: `{0}` isn't ours")]
    Elsewhere(&'static str),
    /// Signed too long ago, in the future, or over.
    #[error("it isn't valid now: ask for a new challenge, and look at the clock")]
    Time,
    /// The signature isn't the wallet's.
    #[error("the signature isn't the wallet's: {0}")]
    Signature(String),
}

/// Who asks: what a claim must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// `https://market.example`, without a slash at its end.
    pub origin: String,
}

impl Site {
    /// Host and port.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.origin
            .split_once("://")
            .map_or(self.origin.as_str(), |(_, rest)| rest)
    }

    /// A challenge under `nonce`.
    #[must_use]
    pub fn challenge(&self, nonce: String, path: &str, now: Timestamp) -> Challenge {
        Challenge {
            domain: self.domain().to_owned(),
            uri: format!("{}{path}", self.origin),
            statement: Some("Come back to the rentals that this wallet paid for.".to_owned()),
            version: VERSION.to_owned(),
            nonce,
            issued_at: now.to_string(),
            expiration_time: Some(now.plus_ms(VALID_FOR_MS).to_string()),
        }
    }

    /// Whose wallet made a claim. Its nonce is left to the caller.
    ///
    /// # Errors
    /// The first thing that doesn't hold.
    pub fn check(&self, claim: &Claim, now: Timestamp) -> Result<Address, Doubt> {
        let asked = &claim.challenge;
        if asked.domain != self.domain() {
            return Err(Doubt::Elsewhere("domain"));
        }
        let path = asked.uri.strip_prefix(&self.origin);
        if !path.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
            return Err(Doubt::Elsewhere("uri"));
        }
        if asked.version != VERSION {
            return Err(Doubt::Field("version"));
        }
        if claim.kind != EIP191 {
            return Err(Doubt::Field("type"));
        }
        check_times(claim, now)?;
        claim.signer()
    }
}

fn check_times(claim: &Claim, now: Timestamp) -> Result<(), Doubt> {
    let moment = |text: &str, field| {
        let parsed = Timestamp::parse_rfc3339(text);
        parsed.map_err(|_| Doubt::Field(field))
    };
    let asked = &claim.challenge;
    let age_ms = now.ms_since(moment(&asked.issued_at, "issuedAt")?);
    if !(0..=VALID_FOR_MS).contains(&age_ms) {
        return Err(Doubt::Time);
    }
    if let Some(until) = &asked.expiration_time
        && moment(until, "expirationTime")? <= now
    {
        return Err(Doubt::Time);
    }
    if let Some(from) = &claim.not_before
        && moment(from, "notBefore")? > now
    {
        return Err(Doubt::Time);
    }
    Ok(())
}

impl Claim {
    /// Reads the header's value.
    ///
    /// # Errors
    /// It isn't one.
    pub fn from_header(value: &[u8]) -> Result<Self, Doubt> {
        Ok(header::decode(value)?)
    }

    /// The header's value.
    #[must_use]
    pub fn to_header(&self) -> String {
        header::encode(self)
    }

    /// Signs a challenge, as a wallet does.
    ///
    /// # Errors
    /// The key can't sign it.
    pub fn sign(
        challenge: Challenge,
        chain_id: &str,
        key: &PayerKey,
    ) -> Result<Self, SignatureError> {
        let mut claim = Self {
            challenge,
            address: key.address().to_string(),
            chain_id: chain_id.to_owned(),
            kind: EIP191.to_owned(),
            not_before: None,
            request_id: None,
            resources: None,
            signature: String::new(),
        };
        let text = claim.text().map_err(|_| SignatureError::Malformed)?;
        claim.signature = key.sign(&personal_digest(&text))?.to_string();
        Ok(claim)
    }

    /// The text that is signed (EIP-4361).
    ///
    /// # Errors
    /// A field holds a line break or another control character, or the chain isn't an EVM one.
    pub fn text(&self) -> Result<String, Doubt> {
        let asked = &self.challenge;
        let chain = self
            .chain_id
            .strip_prefix("eip155:")
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
            .ok_or(Doubt::Field("chainId"))?;
        let mut lines = vec![
            format!(
                "{} wants you to sign in with your Ethereum account:",
                asked.domain
            ),
            self.address.clone(),
            String::new(),
        ];
        if let Some(statement) = &asked.statement {
            lines.push(statement.clone());
        }
        lines.push(String::new());
        lines.push(format!("URI: {}", asked.uri));
        lines.push(format!("Version: {}", asked.version));
        lines.push(format!("Chain ID: {chain}"));
        lines.push(format!("Nonce: {}", asked.nonce));
        lines.push(format!("Issued At: {}", asked.issued_at));
        let optional = [
            ("Expiration Time", &asked.expiration_time),
            ("Not Before", &self.not_before),
            ("Request ID", &self.request_id),
        ];
        for (name, value) in optional {
            lines.extend(value.iter().map(|value| format!("{name}: {value}")));
        }
        if let Some(resources) = self.resources.as_ref().filter(|all| !all.is_empty()) {
            lines.push("Resources:".to_owned());
            lines.extend(resources.iter().map(|resource| format!("- {resource}")));
        }
        if lines.iter().any(|line| line.chars().any(char::is_control)) {
            return Err(Doubt::Field("a field with a line break"));
        }
        Ok(lines.join("\n"))
    }

    fn signer(&self) -> Result<Address, Doubt> {
        let claimed: Address = self.address.parse().map_err(|_| Doubt::Field("address"))?;
        let doubt = |error: SignatureError| Doubt::Signature(error.to_string());
        let signature: PaymentSignature =
            self.signature.to_ascii_lowercase().parse().map_err(doubt)?;
        let signer = signature
            .recover(&personal_digest(&self.text()?))
            .map_err(doubt)?;
        if signer == claimed {
            Ok(signer)
        } else {
            Err(Doubt::Signature(
                "another key made it, or over another text".to_owned(),
            ))
        }
    }
}

/// What an Ethereum account signs of a text (EIP-191).
#[must_use]
pub fn personal_digest(text: &str) -> [u8; 32] {
    let mut bytes = format!("\u{19}Ethereum Signed Message:\n{}", text.len()).into_bytes();
    bytes.extend_from_slice(text.as_bytes());
    keccak256(&bytes)
}

#[cfg(test)]
mod tests;
