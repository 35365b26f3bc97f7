//! Section `kyc`: what needs proof of identity, who decides, how long things are kept.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::{ConfigError, SecretText, within};

/// What may need proof of identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KycGate {
    /// Money out.
    Payouts,
    /// Making an offer.
    Offers,
}

impl KycGate {
    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Payouts => "payouts",
            Self::Offers => "offers",
        }
    }
}

/// Proof of identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KycConfig {
    /// What needs it.
    pub gates: Vec<KycGate>,
    /// Name of the hosted provider that may decide besides administrators.
    pub provider: Option<String>,
    /// Where people go on with the hosted provider; `?reference=` and the case are added.
    pub provider_url: Option<String>,
    /// The secret by which the hosted provider signs its webhooks: `whsec_` and base64.
    pub webhook_secret: Option<SecretText>,
    /// How far a webhook's time may be from ours, seconds.
    pub webhook_tolerance_s: u32,
    /// 32 random bytes that seal documents; without it `data_dir/keys/kyc.bin`, made at the first start.
    pub key_file: Option<PathBuf>,
    /// An approval holds for so many days at most.
    pub valid_days: u32,
    /// Documents are deleted so many days after the decision.
    pub documents_days: u32,
}

impl Default for KycConfig {
    fn default() -> Self {
        Self {
            gates: Vec::new(),
            provider: None,
            provider_url: None,
            webhook_secret: None,
            webhook_tolerance_s: 300,
            key_file: None,
            valid_days: 365,
            documents_days: 90,
        }
    }
}

impl KycConfig {
    /// The key of the hosted provider's webhooks, if there is one.
    ///
    /// # Errors
    /// The secret isn't base64, or shorter than 24 bytes.
    pub fn webhook_key(&self) -> Result<Option<hmac::Key>, ConfigError> {
        let Some(secret) = &self.webhook_secret else {
            return Ok(None);
        };
        let text = secret.expose();
        let bytes = BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text));
        match bytes {
            Ok(bytes) if bytes.len() >= 24 => Ok(Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
            _ => Err(ConfigError::invalid(
                "kyc.webhook_secret",
                "write whsec_ and at least 24 random bytes in base64",
            )),
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let plain = |name: &str| {
            (1..=40).contains(&name.len())
                && name != "manual"
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if self.provider.as_deref().is_some_and(|name| !plain(name)) {
            return Err(ConfigError::invalid(
                "kyc.provider",
                "use lower-case letters, digits and -, and not manual",
            ));
        }
        if self.provider.is_some() != self.webhook_secret.is_some() {
            return Err(ConfigError::invalid(
                "kyc.webhook_secret",
                "set it together with kyc.provider: without it nobody could tell the provider's word",
            ));
        }
        self.webhook_key()?;
        if self
            .provider_url
            .as_deref()
            .is_some_and(|url| !url.starts_with("https://") || url.contains('?'))
        {
            return Err(ConfigError::invalid(
                "kyc.provider_url",
                "write an https:// URL without a query",
            ));
        }
        within(
            "kyc.webhook_tolerance_s",
            self.webhook_tolerance_s,
            10,
            3_600,
        )?;
        within("kyc.valid_days", self.valid_days, 1, 3_660)?;
        within("kyc.documents_days", self.documents_days, 0, 3_660)
    }
}
