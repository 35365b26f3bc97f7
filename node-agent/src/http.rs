//! Requests to the coordinator: a client with time-outs, signatures, and answers read up to a bound.
//!
//! # Invariants
//! - Redirects are not followed: a signature is for one target, and a token is for one host.
//! - An `https` coordinator is never spoken to in plain text; to this machine itself no proxy is used.
//! - No answer is read beyond the size that its caller states.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{
    Client, Response, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use shared::{
    http_signature::{Params, Request, sign},
    wire::{heartbeat::Recover, problem::Problem},
};

use crate::{endpoint::BaseUrl, identity::Identity};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last byte of the answer.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest problem document.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;
/// Longest text of a problem that is logged.
const DETAIL_CHARS_MAX: usize = 300;

/// What agents call themselves.
pub const USER_AGENT: &str = concat!("ramarket-agent/", env!("CARGO_PKG_VERSION"));

/// Why a request brought no answer to use.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RequestError {
    /// No connection, or it broke, or it took too long.
    #[error("the coordinator can't be reached: {0}")]
    Unreachable(String),
    /// It answered with a problem.
    #[error("the coordinator refused ({status} {code}): {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's stable code; `unknown` if the answer wasn't a problem document.
        code: String,
        /// The problem in words.
        detail: String,
        /// How an honest agent recovers by itself.
        recover: Option<Recover>,
        /// `Retry-After`, seconds.
        retry_after_s: Option<i64>,
    },
    /// The answer isn't one of this protocol.
    #[error("the coordinator's answer can't be used: {0}")]
    BadAnswer(String),
}

impl RequestError {
    /// Short and stable: by it two failures count as the same.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused { code, .. } => code,
            Self::BadAnswer(_) => "bad_answer",
        }
    }
}

/// A client for the coordinator at `base`.
///
/// # Errors
/// TLS can't be set up.
pub fn client(base: &BaseUrl) -> anyhow::Result<Client> {
    builder(base)
        .timeout(TOTAL_TIMEOUT)
        .build()
        .context("the HTTP client can't be set up")
}

/// A client without a limit on the time that a connection lives, for the link.
///
/// # Errors
/// TLS can't be set up.
pub fn link_client(base: &BaseUrl) -> anyhow::Result<Client> {
    builder(base)
        .build()
        .context("the HTTP client can't be set up")
}

fn builder(base: &BaseUrl) -> reqwest::ClientBuilder {
    shared::tls::init();
    let builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(Policy::none())
        .http1_only()
        .pool_max_idle_per_host(1)
        .user_agent(USER_AGENT);
    if base.is_https() {
        builder.https_only(true)
    } else {
        // plain http is for this machine only: a proxy would carry it elsewhere
        builder.no_proxy()
    }
}

/// `bytes` random bytes as hex.
///
/// # Errors
/// The system has no random numbers.
pub fn random_hex(bytes: usize) -> anyhow::Result<String> {
    let mut random = vec![0; bytes];
    SystemRandom::new()
        .fill(&mut random)
        .context("the system has no random numbers")?;
    Ok(hex::encode(random))
}

/// The headers that sign a request as this node, with a new nonce. `created_s` is by the coordinator's clock.
///
/// # Errors
/// The system has no random numbers.
pub fn signature_headers(
    identity: &Identity,
    request: &Request<'_>,
    created_s: i64,
) -> anyhow::Result<HeaderMap> {
    let params = Params {
        created_s,
        nonce: random_hex(16)?,
        key_id: identity.node_id.to_string(),
    };
    let signed = sign(&identity.key, request, &params);
    let mut headers = HeaderMap::with_capacity(3);
    let mut put = |name: &'static str, value: &str| -> anyhow::Result<()> {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        Ok(())
    };
    if let Some(digest) = &signed.content_digest {
        put("content-digest", digest)?;
    }
    put("signature-input", &signed.signature_input)?;
    put("signature", &signed.signature)?;
    Ok(headers)
}

/// The body of a 2xx answer of at most `bytes_max`; anything else as the error that it is.
///
/// # Errors
/// See [`RequestError`].
pub async fn answer(response: Response, bytes_max: usize) -> Result<Vec<u8>, RequestError> {
    let status = response.status();
    if status.is_success() {
        return body(response, bytes_max).await;
    }
    let retry_after_s = response
        .headers()
        .get(reqwest::header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let text = body(response, PROBLEM_BYTES_MAX).await?;
    Err(refusal(status, &text, retry_after_s))
}

fn refusal(status: StatusCode, body: &[u8], retry_after_s: Option<i64>) -> RequestError {
    let short = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_control())
            .take(DETAIL_CHARS_MAX)
            .collect()
    };
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => RequestError::Refused {
            status: status.as_u16(),
            code: short(&problem.code),
            detail: short(&problem.detail),
            recover: problem.recover,
            retry_after_s,
        },
        Err(_) => RequestError::Refused {
            status: status.as_u16(),
            code: "unknown".to_owned(),
            detail: format!(
                "the answer was no problem document; is this the coordinator's URL? It begins: {}",
                short(&String::from_utf8_lossy(&body[..body.len().min(80)]))
            ),
            recover: None,
            retry_after_s,
        },
    }
}

async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, RequestError> {
    let too_long = || RequestError::BadAnswer(format!("it has more than {bytes_max} bytes"));
    let announced = response.content_length().unwrap_or_default();
    if announced > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or_default());
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unreachable(&error))?
    {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A failed connection in one line, with the cause at its root, which is what helps.
pub(crate) fn unreachable(error: &reqwest::Error) -> RequestError {
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        error.to_string()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        cause = inner.source();
        if cause.is_none() {
            text.push_str(": ");
            text.push_str(&inner.to_string());
        }
    }
    RequestError::Unreachable(text)
}
