//! Section `payments`: who settles, and the terms that payers see. Its simple keys are the short form for one network; the lists add to them.

mod ways;

use serde::{Deserialize, Serialize};
use shared::money::{Amount, Asset};

pub use self::ways::{AssetConfig, FacilitatorConfig, NetworkConfig};
use super::{ConfigError, SecretText, is_callable, within};

/// Who verifies and settles payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentsMode {
    /// The embedded facilitator with play balances: no chain, no real money, real signatures.
    Sandbox,
    /// An x402 facilitator elsewhere: a chain, real money or a test network's.
    Facilitator,
}

/// How rentals are paid.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaymentsConfig {
    /// Who verifies and settles.
    pub mode: PaymentsMode,
    /// The facilitator's base URL, for mode `facilitator`: `/verify`, `/settle` and `/supported` are below it.
    pub facilitator_url: Option<String>,
    /// Id of the API key, if the facilitator is Coinbase's.
    pub cdp_key_id: Option<String>,
    /// Its secret: base64 of 64 bytes, or an EC key as PEM.
    pub cdp_key_secret: Option<SecretText>,
    /// A node of the chain by JSON-RPC, which settles what the facilitator leaves open; its URL may hold a key.
    pub chain_rpc_url: Option<SecretText>,
    /// Blocks that must lie on a transaction before it counts.
    pub chain_confirmations: u32,
    /// The address that is paid: `0x` and 40 hex digits; without it that of the market's own wallet (`payouts.key_file`).
    pub pay_to: Option<String>,
    /// The network as CAIP-2: `eip155:84532` is Base Sepolia.
    pub network: String,
    /// Play money that an address or account gets in the sandbox.
    pub sandbox_grant: Amount,
    /// Quotes, answers with 402 included, that a client's address may ask for in a minute: each is a row.
    pub quotes_per_minute_ip: u32,
    /// What is accepted, the market's first currency first; USDC on `network` unless set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<AssetConfig>,
    /// Facilitators of single networks; `facilitator_url` is that of all others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facilitators: Vec<FacilitatorConfig>,
    /// Networks that aren't built in, and nodes of networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkConfig>,
}

impl Default for PaymentsConfig {
    fn default() -> Self {
        Self {
            mode: PaymentsMode::Sandbox,
            facilitator_url: None,
            cdp_key_id: None,
            cdp_key_secret: None,
            chain_rpc_url: None,
            chain_confirmations: 0,
            pay_to: None,
            network: "eip155:84532".to_owned(),
            sandbox_grant: Amount::from_atomic(100_000_000).unwrap_or_default(),
            quotes_per_minute_ip: 120,
            assets: Vec::new(),
            facilitators: Vec::new(),
            networks: Vec::new(),
        }
    }
}

impl PaymentsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.validate_facilitator()?;
        if let Some(pay_to) = &self.pay_to {
            address("payments.pay_to", pay_to)?;
        }
        ways::chain_id("payments.network", &self.network)?;
        ways::assets(&self.assets)?;
        ways::facilitators(&self.facilitators)?;
        ways::networks(&self.networks)?;
        within(
            "payments.chain_confirmations",
            self.chain_confirmations,
            0,
            1_000,
        )?;
        within(
            "payments.quotes_per_minute_ip",
            self.quotes_per_minute_ip,
            1,
            60_000,
        )
    }
}

impl PaymentsConfig {
    /// What is accepted, in order.
    #[must_use]
    pub fn accepted(&self) -> Vec<AssetConfig> {
        if self.assets.is_empty() {
            vec![AssetConfig::of(Asset::USDC)]
        } else {
            self.assets.clone()
        }
    }

    /// Every setting here whose value must not be shown, for those that name a file.
    pub(super) fn secrets(&mut self) -> impl Iterator<Item = &mut SecretText> {
        let facilitators = self.facilitators.iter_mut();
        let own = facilitators.filter_map(|facilitator| facilitator.cdp_key_secret.as_mut());
        let nodes = self.networks.iter_mut();
        own.chain(nodes.filter_map(|network| network.rpc_url.as_mut()))
            .chain(self.cdp_key_secret.as_mut())
            .chain(self.chain_rpc_url.as_mut())
    }

    fn validate_facilitator(&self) -> Result<(), ConfigError> {
        let url = self.facilitator_url.as_deref();
        let is_elsewhere = self.mode == PaymentsMode::Facilitator;
        if url.is_none() && is_elsewhere && self.facilitators.is_empty() {
            return Err(ConfigError::invalid(
                "payments.facilitator_url",
                "payments.mode = \"facilitator\" needs it: write the facilitator's base URL",
            ));
        }
        if url.is_some_and(|url| !is_callable(url)) {
            return Err(ConfigError::invalid(
                "payments.facilitator_url",
                "write https://host/path without query; plain http only to this machine",
            ));
        }
        let node = self.chain_rpc_url.as_ref();
        if node.is_some_and(|url| !is_callable(url.expose())) {
            return Err(ConfigError::invalid(
                "payments.chain_rpc_url",
                "write https://host/path without query; plain http only to this machine",
            ));
        }
        if self.cdp_key_id.is_some() != self.cdp_key_secret.is_some() {
            return Err(ConfigError::invalid(
                "payments.cdp_key_secret",
                "set it together with payments.cdp_key_id, or neither",
            ));
        }
        Ok(())
    }
}

fn address(key: &'static str, text: &str) -> Result<(), ConfigError> {
    let hex = text.strip_prefix("0x").unwrap_or_default();
    if hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(())
    } else {
        Err(ConfigError::invalid(key, "write 0x and 40 hex digits"))
    }
}
