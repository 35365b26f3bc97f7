//! Any x402 facilitator by its base URL: `POST /verify`, `POST /settle`, `GET /supported`, as x402-foundation's specification and the
//! facilitators in use answer them.
//!
//! # Invariants
//! - What can't be relied on is `Unknown`: time-outs, broken connections, answers that aren't understood, answers about another payment.
//!   The judgement itself is pure, in [`judge`].
//! - The same payment is always sent as the same bytes of payload: facilitators tell a repeat by its signature.
//! - https, or http to this machine. No proxy of the environment, at most three redirects, bounded time and size.

mod cdp;
mod judge;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use reqwest::{Client, Method, Url, redirect::Policy};
use serde_json::Value;
use shared::{
    clock::Clock,
    x402::wire_v2::{self, FacilitatorRequest},
};

pub use self::cdp::CdpKey;
use self::judge::Answer;
use super::body;
use crate::domain::payments::ports::{
    Facilitator, SettleOutcome, SettleRequest, Support, VerifyOutcome,
};

/// A connection is made within this.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Verifying touches a chain's node, no more.
const VERIFY_TIME_MAX: Duration = Duration::from_secs(20);
/// Settling waits for a transaction. What takes longer is asked for again.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Asking what it can.
const SUPPORTED_TIME_MAX: Duration = Duration::from_secs(10);
/// Most of an answer that is read.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// A facilitator somewhere else.
#[derive(Debug)]
pub struct HttpFacilitator {
    base: Url,
    host: String,
    client: Client,
    cdp: Option<CdpKey>,
    clock: Arc<dyn Clock>,
}

impl HttpFacilitator {
    /// `base` without its last segment's slash or with it; `cdp` signs each call if the facilitator is Coinbase's.
    ///
    /// # Errors
    /// The URL can't be called, or there is no TLS.
    pub fn new(base: &str, cdp: Option<CdpKey>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let base: Url = format!("{}/", base.trim_end_matches('/'))
            .parse()
            .with_context(|| format!("{base} is no URL"))?;
        let host = base.host_str().context("it names no host")?.to_owned();
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIME_MAX)
            .redirect(Policy::limited(3))
            .https_only(base.scheme() == "https")
            .user_agent(concat!("ramarket/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            base,
            host,
            client,
            cdp,
            clock,
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Answer {
        match tokio::time::timeout(patience, self.exchange(method, path, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::None(format!("{error:#}")),
            Err(_) => Answer::None(format!("no answer within {} s", patience.as_secs())),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let url = self.base.join(path)?;
        let mut request = self.client.request(method.clone(), url.clone());
        if let Some(key) = &self.cdp {
            request = request.bearer_auth(key.token(&method, &url, self.clock.now())?.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let bytes = body::read(response, BODY_BYTES_MAX).await?;
        Ok(Answer::Http {
            status,
            json: serde_json::from_slice(&bytes).ok(),
        })
    }
}

/// The body of `/verify` and `/settle`: terms from our own records, in the version that the client speaks.
fn wire(request: &SettleRequest) -> Result<Value, serde_json::Error> {
    let terms = if request.version == wire_v2::VERSION {
        serde_json::to_value(request.terms.requirements_v2())?
    } else {
        serde_json::to_value(request.terms.requirements_v1())?
    };
    serde_json::to_value(FacilitatorRequest {
        x402_version: request.version,
        payment_payload: request.payload.clone(),
        payment_requirements: terms,
    })
}

#[async_trait]
impl Facilitator for HttpFacilitator {
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome {
        let answer = match wire(request) {
            Ok(body) => {
                self.call(Method::POST, "verify", Some(&body), VERIFY_TIME_MAX)
                    .await
            }
            Err(error) => Answer::None(error.to_string()),
        };
        judge::verified(request, &answer)
    }

    async fn settle(&self, request: &SettleRequest) -> SettleOutcome {
        let answer = match wire(request) {
            Ok(body) => {
                self.call(Method::POST, "settle", Some(&body), SETTLE_TIME_MAX)
                    .await
            }
            Err(error) => Answer::None(error.to_string()),
        };
        judge::settled(request, &answer)
    }

    async fn supports(&self, network: &'static shared::x402::network::Network) -> Support {
        let answer = self
            .call(Method::GET, "supported", None, SUPPORTED_TIME_MAX)
            .await;
        judge::supported(network, &answer)
    }

    fn name(&self) -> &str {
        &self.host
    }
}
