//! Section `rates`: what one currency costs in another, from a table here or from a source that signs it.

use serde::{Deserialize, Serialize};
use shared::sign::PublicKey;

use super::{ConfigError, is_callable, within};
use crate::domain::rates::model::Pair;

const FIXED_MAX: usize = 64;

/// Exchange rates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RatesConfig {
    /// `EURC/USDC=1.08`: what one of the first costs in the second.
    pub fixed: Vec<String>,
    /// A source of rates instead of the table.
    pub url: Option<String>,
    /// The source's Ed25519 key, base64.
    pub public_key: Option<String>,
    /// Rates older than this aren't used, seconds.
    pub max_age_s: u32,
    /// How often the source is asked, seconds.
    pub refresh_s: u32,
    /// What is put on a rate for the risk of exchanging, basis points.
    pub spread_bps: u32,
}

impl Default for RatesConfig {
    fn default() -> Self {
        Self {
            fixed: Vec::new(),
            url: None,
            public_key: None,
            max_age_s: 600,
            refresh_s: 60,
            spread_bps: 50,
        }
    }
}

impl RatesConfig {
    /// The table.
    ///
    /// # Errors
    /// A line of it isn't a rate, or a pair is there twice.
    pub fn pairs(&self) -> Result<Vec<Pair>, ConfigError> {
        let mut pairs: Vec<Pair> = Vec::new();
        for line in &self.fixed {
            let refuse = |why: &str| ConfigError::invalid("rates.fixed", format!("{line}: {why}"));
            let pair: Pair = line
                .parse()
                .map_err(|_| refuse("write it as EURC/USDC=1.08, at most 8 decimals"))?;
            if pairs.iter().any(|other| other.is_about_the_same(&pair)) {
                return Err(refuse("these two currencies have a rate already"));
            }
            pairs.push(pair);
        }
        Ok(pairs)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.fixed.len() > FIXED_MAX {
            return Err(ConfigError::invalid(
                "rates.fixed",
                format!("set at most {FIXED_MAX}"),
            ));
        }
        self.pairs()?;
        if self.url.as_deref().is_some_and(|url| !is_callable(url)) {
            return Err(ConfigError::invalid(
                "rates.url",
                "write https://host/path without query; plain http only to this machine",
            ));
        }
        if self.url.is_some() && !self.fixed.is_empty() {
            return Err(ConfigError::invalid(
                "rates.url",
                "set it or rates.fixed, not both: one source decides",
            ));
        }
        let key = self.public_key.clone().map(PublicKey::try_from);
        if key.is_some_and(|key| key.is_err()) || (self.url.is_some() != self.public_key.is_some())
        {
            return Err(ConfigError::invalid(
                "rates.public_key",
                "set it together with rates.url: the base64 of 32 bytes, an Ed25519 key",
            ));
        }
        within("rates.max_age_s", self.max_age_s, 10, 86_400)?;
        within("rates.refresh_s", self.refresh_s, 5, 3_600)?;
        within("rates.spread_bps", self.spread_bps, 0, 1_000)
    }
}
