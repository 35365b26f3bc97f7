//! Section `gateway`: streams into rentals.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, HttpConfig, is_loopback_host, within};

/// How many streams there may be, and how coordinators reach each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Scheme, host and port under which other coordinators of this market reach this one; nothing where it is the only one.
    pub peer_url: Option<String>,
    /// The domain below which rentals have host names of their own: another one than that of `http.public_url`, with a wildcard record
    /// and certificate; nothing gives them none.
    pub tenant_domain: Option<String>,
    /// Where rentals' host names are served, apart from everything else: the listener of `http.listen` has none of them then, and this
    /// one has nothing else. Nothing serves both at `http.listen`.
    pub tenant_listen: Option<SocketAddr>,
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
    /// A rental's program begins its answer to a web request within so many seconds of the last byte that moved.
    pub answer_s: u32,
    /// Whether somebody may still be there is asked so often, seconds.
    pub recheck_s: u32,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            peer_url: None,
            tenant_domain: None,
            tenant_listen: None,
            streams_max: 4_096,
            streams_per_renter_max: 256,
            streams_per_rental_max: 64,
            idle_s: 900,
            stall_s: 60,
            answer_s: 60,
            recheck_s: 60,
        }
    }
}

impl GatewayConfig {
    pub(super) fn validate(&self, http: &HttpConfig) -> Result<(), ConfigError> {
        self.check_domain(&http.public_url())?;
        self.check_listen(http)?;
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
        within("gateway.answer_s", self.answer_s, 1, 3_600)?;
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

    /// What is true of `http.listen` is true of it.
    fn check_listen(&self, http: &HttpConfig) -> Result<(), ConfigError> {
        const KEY: &str = "gateway.tenant_listen";
        let Some(listen) = self.tenant_listen else {
            return Ok(());
        };
        if self.tenant_domain.is_none() {
            return Err(ConfigError::invalid(
                KEY,
                "set gateway.tenant_domain as well: it is what is served there",
            ));
        }
        if listen == http.listen && listen.port() != 0 {
            return Err(ConfigError::invalid(
                KEY,
                format!("{listen} is http.listen: use another port or address, or leave it out"),
            ));
        }
        http.check_plain(KEY, listen)
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

    /// Whether the tenants' domain and ours end in the same two labels. Both may be of one registered domain then; only the Public Suffix
    /// List knows, since `market.co.uk` and `apps.co.uk` are not.
    #[must_use]
    pub fn may_share_site(&self, public_url: &str) -> bool {
        let Some(domain) = &self.tenant_domain else {
            return false;
        };
        let own = super::http::parts(public_url).map_or_else(String::new, |(_, host)| host);
        let end = |name: &str| {
            let mut labels = name.rsplit('.').map(str::to_ascii_lowercase);
            Some((labels.next()?, labels.next()?))
        };
        end(domain).is_some() && end(domain) == end(&own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_that_end_alike_may_be_one_site() {
        for (tenants, own, wanted) in [
            (
                Some("apps.market.example"),
                "https://www.market.example",
                true,
            ),
            (
                Some("apps.market.example"),
                "https://WWW.Market.Example:8443",
                true,
            ),
            (Some("apps.co.uk"), "https://market.co.uk", true),
            (Some("apps.example"), "https://market.example", false),
            (Some("apps.test"), "http://127.0.0.1:8080", false),
            (Some("apps.test"), "http://localhost:8080", false),
            (None, "https://market.example", false),
        ] {
            let config = GatewayConfig {
                tenant_domain: tenants.map(str::to_owned),
                ..GatewayConfig::default()
            };
            assert_eq!(config.may_share_site(own), wanted, "{tenants:?} {own}");
        }
    }
}
