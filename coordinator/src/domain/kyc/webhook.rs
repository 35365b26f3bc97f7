//! What a hosted provider tells us, as Standard Webhooks: who sent it, when, and what it says.
//!
//! # Invariants
//! - Nothing is read of a body before its signature holds: HMAC-SHA256 over `id.timestamp.body`, compared in constant time.
//! - A timestamp is believed for a few minutes only; within them, [`super::take_event`] takes an id once.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;
use serde::Deserialize;
use shared::{id::KycCaseId, time::Timestamp};

use super::{Decision, model::State};
use crate::error::{Error, Result};

const ID_BYTES_MAX: usize = 200;
const SIGNATURES_MAX: usize = 8;
const REASON_CHARS_MAX: usize = 300;

/// The three headers of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`, seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`: `v1,<base64>`, several parted by spaces.
    pub signature: &'a str,
}

/// What was said.
#[derive(Debug, Clone)]
pub struct Event {
    /// The event's own id.
    pub id: String,
    /// Of which case.
    pub case: KycCaseId,
    /// What was decided.
    pub decision: Decision,
}

#[derive(Deserialize)]
struct Body {
    r#type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    reference: KycCaseId,
    reason: Option<String>,
    expires_at: Option<Timestamp>,
}

fn refused() -> Error {
    Error::unauthenticated(
        "webhook_signature",
        "the webhook isn't signed by this provider's secret, or too old",
    )
}

/// Checks who sent it and when.
///
/// # Errors
/// 401: no signature holds, or its time is more than `tolerance_s` from `now`.
pub fn verify(
    key: &hmac::Key,
    headers: &Headers<'_>,
    body: &[u8],
    now: Timestamp,
    tolerance_s: u32,
) -> Result<()> {
    let sane_id = (1..=ID_BYTES_MAX).contains(&headers.id.len());
    let digits = headers.timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let sent: i64 = headers.timestamp.parse().map_err(|_| refused())?;
    let off_s = now.as_secs().abs_diff(sent);
    if !sane_id || !digits || off_s > u64::from(tolerance_s) {
        return Err(refused());
    }
    let mut message = format!("{}.{}.", headers.id, headers.timestamp).into_bytes();
    message.extend_from_slice(body);
    let signatures = headers.signature.split(' ').take(SIGNATURES_MAX);
    let mut tags = signatures.filter_map(|one| BASE64.decode(one.strip_prefix("v1,")?).ok());
    if tags.any(|tag| hmac::verify(key, &message, &tag).is_ok()) {
        Ok(())
    } else {
        Err(refused())
    }
}

/// Reads a body whose signature holds; nothing for a type that says nothing about a decision.
///
/// # Errors
/// 422 for one that lacks what its type needs.
pub fn read(id: &str, body: &[u8]) -> Result<Option<Event>> {
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| Error::invalid("", format!("not a webhook of this kind: {error}")))?;
    let to = match body.r#type.as_str() {
        "verification.approved" => State::Approved,
        "verification.rejected" => State::Rejected,
        _ => return Ok(None),
    };
    let reason = body
        .data
        .reason
        .unwrap_or_else(|| "by the provider".to_owned());
    Ok(Some(Event {
        id: id.to_owned(),
        case: body.data.reference,
        decision: Decision {
            to,
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
            expires_at: body.data.expires_at,
        },
    }))
}
