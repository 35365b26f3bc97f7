//! `[[payments.assets]]`, `[[payments.facilitators]]` and `[[payments.networks]]`: more than the one way to be paid that the simple
//! settings describe. Lists of the file, since their order counts.
//!
//! # Invariants
//! - Counts and texts are bounded; a secret is a [`SecretText`].

use serde::{Deserialize, Serialize};
use shared::money::Asset;

use super::{super::within, ConfigError, SecretText, address, is_callable};

/// One 402 lists at most so many ways to pay.
const ASSETS_MAX: usize = 8;
const NETWORKS_MAX: usize = 16;
const TEXT_CHARS_MAX: usize = 64;

/// A currency that is accepted on a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetConfig {
    /// Its code in our books.
    pub currency: Asset,
    /// CAIP-2; `payments.network` unless set.
    pub network: Option<String>,
    /// The token's contract; needed unless it is built in.
    pub token: Option<String>,
    /// The name in its EIP-712 domain; needed with `token`.
    pub eip712_name: Option<String>,
    /// The version in its EIP-712 domain; needed with `token`.
    pub eip712_version: Option<String>,
    /// Who is paid; `payments.pay_to` unless set.
    pub pay_to: Option<String>,
}

impl AssetConfig {
    /// A built-in token on the first network.
    #[must_use]
    pub const fn of(currency: Asset) -> Self {
        Self {
            currency,
            network: None,
            token: None,
            eip712_name: None,
            eip712_version: None,
            pay_to: None,
        }
    }
}

/// A facilitator of some networks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FacilitatorConfig {
    /// Its base URL.
    pub url: String,
    /// The networks that it settles on, CAIP-2.
    pub networks: Vec<String>,
    /// Id of the API key, if it is Coinbase's.
    pub cdp_key_id: Option<String>,
    /// Its secret.
    pub cdp_key_secret: Option<SecretText>,
}

/// A chain: what isn't built in, and how to look at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// `eip155:` and its number.
    pub caip2: String,
    /// Its name in x402 version 1; needed unless the network is built in.
    pub v1_name: Option<String>,
    /// Whether its money is play money. Ignored for built-in networks.
    #[serde(default)]
    pub testnet: bool,
    /// A node of it by JSON-RPC.
    pub rpc_url: Option<SecretText>,
    /// Blocks that must lie on a transaction before it counts.
    #[serde(default)]
    pub confirmations: u32,
}

pub(super) fn chain_id(key: &'static str, caip2: &str) -> Result<u64, ConfigError> {
    caip2
        .strip_prefix("eip155:")
        .filter(|id| id.bytes().all(|b| b.is_ascii_digit()) && !id.starts_with('0'))
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| ConfigError::invalid(key, "write it as CAIP-2, such as eip155:84532"))
}

fn short(key: &'static str, text: Option<&String>) -> Result<(), ConfigError> {
    let fits = |text: &&String| !text.is_empty() && text.len() <= TEXT_CHARS_MAX;
    if text.is_some() && text.as_ref().filter(|text| fits(text)).is_none() {
        return Err(ConfigError::invalid(
            key,
            format!("write 1 to {TEXT_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

fn bounded(key: &'static str, count: usize, most: usize) -> Result<(), ConfigError> {
    if count > most {
        return Err(ConfigError::invalid(key, format!("set at most {most}")));
    }
    Ok(())
}

pub(super) fn assets(assets: &[AssetConfig]) -> Result<(), ConfigError> {
    bounded("payments.assets", assets.len(), ASSETS_MAX)?;
    for asset in assets {
        if let Some(network) = &asset.network {
            chain_id("payments.assets.network", network)?;
        }
        if let Some(token) = &asset.token {
            address("payments.assets.token", token)?;
        }
        if let Some(pay_to) = &asset.pay_to {
            address("payments.assets.pay_to", pay_to)?;
        }
        short("payments.assets.eip712_name", asset.eip712_name.as_ref())?;
        short(
            "payments.assets.eip712_version",
            asset.eip712_version.as_ref(),
        )?;
        let own = [&asset.token, &asset.eip712_name, &asset.eip712_version];
        let set = own.iter().filter(|value| value.is_some()).count();
        if set != 0 && set != own.len() {
            return Err(ConfigError::invalid(
                "payments.assets.token",
                "set token, eip712_name and eip712_version together, or none of them for a built-in token",
            ));
        }
    }
    Ok(())
}

pub(super) fn facilitators(facilitators: &[FacilitatorConfig]) -> Result<(), ConfigError> {
    bounded("payments.facilitators", facilitators.len(), NETWORKS_MAX)?;
    let mut named = Vec::new();
    for facilitator in facilitators {
        if !is_callable(&facilitator.url) {
            return Err(ConfigError::invalid(
                "payments.facilitators.url",
                "write https://host/path without query; plain http only to this machine",
            ));
        }
        if facilitator.cdp_key_id.is_some() != facilitator.cdp_key_secret.is_some() {
            return Err(ConfigError::invalid(
                "payments.facilitators.cdp_key_secret",
                "set it together with cdp_key_id, or neither",
            ));
        }
        if facilitator.networks.is_empty() {
            return Err(ConfigError::invalid(
                "payments.facilitators.networks",
                "name the networks that it settles on",
            ));
        }
        for network in &facilitator.networks {
            chain_id("payments.facilitators.networks", network)?;
            if named.contains(&network) {
                return Err(ConfigError::invalid(
                    "payments.facilitators.networks",
                    format!("{network} has two facilitators: leave one"),
                ));
            }
            named.push(network);
        }
    }
    Ok(())
}

pub(super) fn networks(networks: &[NetworkConfig]) -> Result<(), ConfigError> {
    bounded("payments.networks", networks.len(), NETWORKS_MAX)?;
    for (place, network) in networks.iter().enumerate() {
        chain_id("payments.networks.caip2", &network.caip2)?;
        let before = networks.iter().take(place);
        if before.clone().any(|other| other.caip2 == network.caip2) {
            return Err(ConfigError::invalid(
                "payments.networks.caip2",
                format!("{} is there twice", network.caip2),
            ));
        }
        short("payments.networks.v1_name", network.v1_name.as_ref())?;
        let url = network.rpc_url.as_ref();
        if url.is_some_and(|url| !is_callable(url.expose())) {
            return Err(ConfigError::invalid(
                "payments.networks.rpc_url",
                "write https://host/path without query; plain http only to this machine",
            ));
        }
        within(
            "payments.networks.confirmations",
            network.confirmations,
            0,
            1_000,
        )?;
    }
    Ok(())
}
