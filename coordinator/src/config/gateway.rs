//! Section `gateway`: streams into rentals.

use serde::{Deserialize, Serialize};

use super::{ConfigError, is_loopback_host, within};

/// How many streams there may be, and how coordinators reach each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Scheme, host and port under which other coordinators of this market reach this one; nothing where it is the only one.
    pub peer_url: Option<String>,
    /// Streams open at once.
    pub streams_max: u32,
    /// Of those, of one who rents.
    pub streams_per_renter_max: u32,
    /// Of those, of one rental.
    pub streams_per_rental_max: u32,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            peer_url: None,
            streams_max: 4_096,
            streams_per_renter_max: 256,
            streams_per_rental_max: 64,
        }
    }
}

impl GatewayConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("gateway.streams_max", self.streams_max, 1, 1_000_000)?;
        within(
            "gateway.streams_per_renter_max",
            self.streams_per_renter_max,
            1,
            1_000_000,
        )?;
        within(
            "gateway.streams_per_rental_max",
            self.streams_per_rental_max,
            1,
            512,
        )?;
        let Some(url) = &self.peer_url else {
            return Ok(());
        };
        let refused = |why: &str| ConfigError::invalid("gateway.peer_url", format!("{url}: {why}"));
        let (scheme, host) = super::http::parts(url).ok_or_else(|| {
            refused("write scheme and host only, such as https://one.market.example")
        })?;
        if scheme == "http" && !is_loopback_host(&host) {
            return Err(refused(
                "only coordinators on this machine are reached without TLS: use https://",
            ));
        }
        Ok(())
    }
}
