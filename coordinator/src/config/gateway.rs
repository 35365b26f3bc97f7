//! Section `gateway`: streams into rentals.

use serde::{Deserialize, Serialize};

use super::{ConfigError, is_loopback_host, within};

/// How many streams there may be, and how coordinators reach each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Scheme, host and port under which other coordinators of this market reach this one; nothing where it is the only one.
    pub peer_url: Option<String>,
    /// The domain below which rentals have host names of their own: another one than that of `http.public_url`, with a wildcard record
    /// and certificate; nothing gives them none.
    pub tenant_domain: Option<String>,
    /// Streams open at once.
    pub streams_max: u32,
    /// Of those, of one who rents.
    pub streams_per_renter_max: u32,
    /// Of those, of one rental.
    pub streams_per_rental_max: u32,
    /// A stream on which nothing goes either way for so many seconds is ended.
    pub idle_s: u32,
    /// A client that takes nothing for so many seconds of what there is for it is dropped.
    pub stall_s: u32,
    /// Whether somebody may still be there is asked so often, seconds.
    pub recheck_s: u32,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            peer_url: None,
            tenant_domain: None,
            streams_max: 4_096,
            streams_per_renter_max: 256,
            streams_per_rental_max: 64,
            idle_s: 900,
            stall_s: 60,
            recheck_s: 60,
        }
    }
}

impl GatewayConfig {
    pub(super) fn validate(&self, public_url: &str) -> Result<(), ConfigError> {
        self.check_domain(public_url)?;
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
        within("gateway.idle_s", self.idle_s, 1, 86_400)?;
        within("gateway.stall_s", self.stall_s, 1, 3_600)?;
        within("gateway.recheck_s", self.recheck_s, 1, 3_600)?;
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

    /// Whatever a rental's page does, it does on another site than ours.
    fn check_domain(&self, public_url: &str) -> Result<(), ConfigError> {
        let Some(domain) = &self.tenant_domain else {
            return Ok(());
        };
        let refused =
            |why: &str| ConfigError::invalid("gateway.tenant_domain", format!("{domain}: {why}"));
        let is_label = |label: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        // the longest name below it is 5 + 1 + 36 + 1 longer
        if domain.len() > 200 || !domain.contains('.') || !domain.split('.').all(is_label) {
            return Err(refused(
                "write a domain in lower case, such as apps.example",
            ));
        }
        let own = super::http::parts(public_url).map_or_else(String::new, |(_, host)| host);
        let below = |one: &str, other: &str| one == other || one.ends_with(&format!(".{other}"));
        if below(domain, &own) || below(&own, domain) {
            return Err(refused(
                "pages of rentals would share a site with ours: use another domain than that of http.public_url",
            ));
        }
        Ok(())
    }
}
