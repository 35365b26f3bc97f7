//! Exchange rates by HTTP, signed by their source: `{"at": "2026-01-31T12:00:00Z", "rates": {"EURC/USDC": "1.08"}}`, and in the header
//! `X-Rates-Signature` the base64 of an Ed25519 signature over the body's bytes.
//!
//! # Invariants
//! - Nothing of a body is read before its signature holds: whoever else answers at this URL changes no price.
//! - No redirects, no proxy of the environment, bounded time and size. How old the rates may be is asked by whoever uses them.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Url, redirect::Policy};
use serde::Deserialize;
use shared::{
    money::Asset,
    sign::{PublicKey, Signature},
    time::Timestamp,
};

use super::body;
use crate::domain::rates::{
    model::{Pair, RateTable},
    ports::RateSource,
};

const CALL_TIME_MAX: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 64 * 1024;
const SIGNATURE: &str = "x-rates-signature";

/// A source somewhere else.
#[derive(Debug)]
pub struct HttpRates {
    url: Url,
    host: String,
    key: PublicKey,
    client: Client,
}

#[derive(Deserialize)]
struct Told {
    at: String,
    rates: BTreeMap<String, String>,
}

impl HttpRates {
    /// The source at `url`, believed if it signs with `key`.
    ///
    /// # Errors
    /// The URL can't be called, or there is no TLS.
    pub fn new(url: &str, key: PublicKey) -> anyhow::Result<Self> {
        shared::tls::init();
        let url: Url = url.parse().context("it is no URL")?;
        let host = url.host_str().context("it names no host")?.to_owned();
        let client = Client::builder()
            .no_proxy()
            .timeout(CALL_TIME_MAX)
            .redirect(Policy::none())
            .https_only(url.scheme() == "https")
            .user_agent(concat!("ramarket/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            url,
            host,
            key,
            client,
        })
    }

    fn read(&self, bytes: &[u8], signature: &[u8]) -> anyhow::Result<RateTable> {
        let signature = STANDARD.decode(signature).ok();
        let signature = signature.and_then(|bytes| Signature::from_bytes(&bytes).ok());
        let signature = signature.context("its signature can't be read")?;
        self.key
            .verify_raw(bytes, &signature)
            .ok()
            .context("it isn't signed by the source's key")?;
        let told: Told = serde_json::from_slice(bytes).context("it isn't understood")?;
        let pairs = told.rates.iter().map(|(currencies, rate)| {
            let (base, quote) = currencies.split_once('/').context("not a pair")?;
            let asset = |code| Asset::from_code(code).context("not a currency");
            Ok(Pair::new(asset(base)?, asset(quote)?, rate)?)
        });
        let pairs: anyhow::Result<Vec<Pair>> = pairs.collect();
        Ok(RateTable {
            source: self.host.clone(),
            at: Timestamp::parse_rfc3339(&told.at)
                .ok()
                .context("at isn't a time")?,
            pairs: pairs.context("a rate isn't understood")?,
        })
    }
}

#[async_trait]
impl RateSource for HttpRates {
    async fn fetch(&self) -> anyhow::Result<RateTable> {
        let response = self.client.get(self.url.clone()).send().await;
        let response = response.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        ensure!(status.is_success(), "status {status}");
        let signature = response.headers().get(SIGNATURE).cloned();
        let signature = signature.context("it isn't signed")?;
        let bytes = body::read(response, BODY_BYTES_MAX).await?;
        self.read(&bytes, signature.as_bytes())
    }

    fn name(&self) -> &str {
        &self.host
    }
}
