//! Section `http`: the address served, and the URL under which the world sees it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{ConfigError, is_loopback_host, within};

/// The address and the public face.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Scheme, host and port under which clients and agents reach us; without it `http://` and `listen`.
    pub public_url: Option<String>,
    /// Certificate chain (PEM), leaf first; with it and `tls_key` we speak TLS ourselves. Read again on SIGHUP.
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Connections open at once; more wait.
    pub connections_max: u32,
    /// Connections open at once from one client address (of IPv6 its /64); more are closed. Trusted proxies aren't counted.
    pub connections_per_address_max: u32,
    /// A client that takes nothing of an answer for so many seconds is cut off.
    pub stall_s: u32,
    /// `GET /events` streams open at once; more are refused with 503.
    pub event_streams_max: u32,
    /// The folder of Debian packages that `/install.sh` and `/packages` offer to providers; without it they answer 404.
    pub packages_dir: Option<PathBuf>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            tls_cert: None,
            tls_key: None,
            trusted_proxies: vec![
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ],
            connections_max: 4096,
            connections_per_address_max: 256,
            stall_s: 60,
            event_streams_max: 1024,
            packages_dir: None,
        }
    }
}

impl HttpConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("http.connections_max", self.connections_max, 16, 1_000_000)?;
        within(
            "http.connections_per_address_max",
            self.connections_per_address_max,
            1,
            1_000_000,
        )?;
        within("http.stall_s", self.stall_s, 1, 3_600)?;
        within(
            "http.event_streams_max",
            self.event_streams_max,
            1,
            1_000_000,
        )?;
        let url = self.public_url();
        let (scheme, host) = parts(&url).ok_or_else(|| {
            ConfigError::invalid(
                "http.public_url",
                format!("{url}: write scheme and host only, such as https://market.example"),
            )
        })?;
        self.check_tls(&url, &scheme, &host)
    }

    /// Nothing but this machine is served in plain text, and nobody is told an address that isn't served.
    fn check_tls(&self, url: &str, scheme: &str, host: &str) -> Result<(), ConfigError> {
        const KEY: &str = "http.public_url";
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(ConfigError::invalid(
                "http.tls_cert",
                "http.tls_cert and http.tls_key belong together: set both, or neither behind a reverse proxy",
            ));
        }
        if self.has_own_tls() {
            return if scheme == "https" {
                Ok(())
            } else {
                Err(ConfigError::invalid(
                    KEY,
                    format!("{url}: with a certificate of our own this is an https:// URL"),
                ))
            };
        }
        let listen = self.listen;
        if scheme == "http" && !(listen.ip().is_loopback() && is_loopback_host(host)) {
            return Err(ConfigError::invalid(
                KEY,
                format!(
                    "{url} at {listen}: only loopback is served without TLS; set http.tls_cert and http.tls_key, or put a \
                     reverse proxy with TLS in front and give its https:// URL",
                ),
            ));
        }
        self.check_plain("http.listen", listen)
    }

    /// Without TLS of our own nobody but this machine and trusted proxies connects.
    pub(super) fn check_plain(
        &self,
        key: &'static str,
        listen: SocketAddr,
    ) -> Result<(), ConfigError> {
        let has_proxy = self
            .trusted_proxies
            .iter()
            .any(|proxy| !proxy.is_loopback());
        if !self.has_own_tls() && !listen.ip().is_loopback() && !has_proxy {
            return Err(ConfigError::invalid(
                key,
                format!(
                    "{listen} without TLS: set http.tls_cert and http.tls_key, or name the reverse proxy in \
                     http.trusted_proxies, or listen on loopback for a proxy on this machine",
                ),
            ));
        }
        Ok(())
    }

    /// Whether we speak TLS ourselves.
    #[must_use]
    pub const fn has_own_tls(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Scheme, host and port without a trailing slash: the origin of our pages, the issuer of our tokens, the base
    /// of `@target-uri`.
    #[must_use]
    pub fn public_url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| {
            let scheme = if self.has_own_tls() { "https" } else { "http" };
            format!("{scheme}://{}", self.listen)
        })
    }

    /// Whether clients reach us by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.public_url().starts_with("https://")
    }
}

/// Scheme and host of a URL without path, query and user.
pub(super) fn parts(url: &str) -> Option<(String, String)> {
    let uri: http::Uri = url.parse().ok()?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| ["http", "https"].contains(scheme))?;
    let authority = uri.authority()?;
    let bare = format!("{scheme}://{authority}") == url && !authority.as_str().contains('@');
    bare.then(|| (scheme.to_owned(), authority.host().to_owned()))
}
