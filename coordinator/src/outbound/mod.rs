//! Calls to URLs that come from outside or from the settings: webhooks, issuers, hosted providers. One client, so that
//! nobody can make the coordinator call what only the coordinator can reach.
//!
//! # Invariants
//! - A name is resolved once, every address that may not be called is left out, and the connection goes to one of the rest: there
//!   is no second look-up that could answer otherwise. No connection is kept for a later request.
//! - https, with the name checked against the certificate. http only to addresses that the operator lists in `outbound.allow_private`.
//! - No redirect is followed, no proxy of the environment is used, nothing is unpacked; time, body and headers are bounded.
//! - An error never tells an address: who asks learns nothing about the network inside.

pub mod address;
#[cfg(test)]
mod tests;

use std::{
    error::Error as StdError,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use axum::body::Bytes;
use http::{HeaderMap, Method, StatusCode};
use reqwest::{
    Certificate, Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use self::address::{IpRange, is_public};
use crate::config::OutboundConfig;

/// From the first byte sent to the last one read, name and connection included.
pub const TOTAL_MS_MAX: u64 = 5_000;
/// Most of a body that is read.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Most headers of an answer.
pub const HEADERS_MAX: usize = 100;
/// Longest URL that is called.
pub const URL_BYTES_MAX: usize = 2_048;

/// What to send.
#[derive(Debug, Clone)]
pub struct OutboundRequest {
    /// How.
    pub method: Method,
    /// Where to: `https://…`.
    pub url: String,
    /// With it. `Host` and `Content-Length` are set here.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct OutboundAnswer {
    /// Its status; a redirect is an answer like any other.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The URL can't be called at all.
    #[error("the URL can't be called: {0}; use one like https://host/path")]
    Url(&'static str),
    /// The name has no address.
    #[error("{host} has no address: check the name and its DNS records")]
    Unresolved {
        /// The name.
        host: String,
    },
    /// None of the addresses may be called.
    #[error(
        "{host} isn't on the public internet (or is called by http, which only listed addresses are): use a public \
         https address; the operator may list private ones in outbound.allow_private"
    )]
    NotPublic {
        /// The name or address.
        host: String,
    },
    /// No connection, or no TLS.
    #[error(
        "no connection to {host}: {cause}; check that it listens there and that its certificate is for this name"
    )]
    Unreachable {
        /// The name or address.
        host: String,
        /// What the attempt came to.
        cause: String,
    },
    /// It took too long.
    #[error("no whole answer within {TOTAL_MS_MAX} ms: answer first and work afterwards")]
    TimedOut,
    /// The answer is too large.
    #[error("the answer's body is larger than {BODY_BYTES_MAX} bytes: answer less")]
    TooLarge,
    /// The answer isn't HTTP, or broke off.
    #[error("the answer broke off or isn't HTTP: {0}")]
    Broken(String),
    /// Nothing can be called: no trusted roots here.
    #[error(
        "no request can be sent from here: {0}; install ca-certificates, or set outbound.extra_ca_file"
    )]
    Setup(String),
}

/// The client.
pub struct Outbound {
    policy: Arc<Addresses>,
    extra_roots: Vec<Certificate>,
    total: Duration,
    // made when first used: reading the system's roots takes long, and most tests call nothing
    secure: OnceLock<Result<Client, String>>,
    plain: OnceLock<Result<Client, String>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({:?})", self.policy.allow_private)
    }
}

impl Outbound {
    /// As the settings say; sends nothing.
    ///
    /// # Errors
    /// `outbound.extra_ca_file` can't be read or holds no certificate.
    pub fn new(config: &OutboundConfig) -> anyhow::Result<Self> {
        let total = Duration::from_millis(TOTAL_MS_MAX);
        Self::with(config, total, Arc::new(SystemNames))
    }

    fn with(
        config: &OutboundConfig,
        total: Duration,
        names: Arc<dyn Resolve>,
    ) -> anyhow::Result<Self> {
        let extra_roots = match &config.extra_ca_file {
            None => Vec::new(),
            Some(path) => {
                let roots = std::fs::read(path)
                    .map_err(anyhow::Error::from)
                    .and_then(|pem| Ok(Certificate::from_pem_bundle(&pem)?))
                    .with_context(|| format!("outbound.extra_ca_file {}", path.display()))?;
                anyhow::ensure!(
                    !roots.is_empty(),
                    "outbound.extra_ca_file {} holds no certificate in PEM form",
                    path.display()
                );
                roots
            }
        };
        Ok(Self {
            policy: Arc::new(Addresses {
                allow_private: config.allow_private.clone(),
                names,
            }),
            extra_roots,
            total,
            secure: OnceLock::new(),
            plain: OnceLock::new(),
        })
    }

    /// Whether `url` could be called, as far as its text says; names are resolved when it is.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, url: &str) -> Result<(), OutboundError> {
        self.target(url).map(drop)
    }

    /// Sends a request and reads its answer, within five seconds in all.
    ///
    /// # Errors
    /// There is no whole answer: see [`OutboundError`].
    pub async fn send(&self, request: OutboundRequest) -> Result<OutboundAnswer, OutboundError> {
        tokio::time::timeout(self.total, self.exchange(request))
            .await
            .unwrap_or(Err(OutboundError::TimedOut))
    }

    async fn exchange(&self, request: OutboundRequest) -> Result<OutboundAnswer, OutboundError> {
        let url = self.target(&request.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let client = match url.scheme() {
            "https" => self.secure.get_or_init(|| self.client(false)),
            _ => self.plain.get_or_init(|| self.client(true)),
        };
        let client = client
            .as_ref()
            .map_err(|cause| OutboundError::Setup(cause.clone()))?;
        let answer = client
            .request(request.method, url)
            .headers(request.headers)
            .body(request.body)
            .send()
            .await
            .map_err(|error| failure(&error, &host))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = read(answer).await?;
        Ok(OutboundAnswer {
            status,
            headers,
            body,
        })
    }

    fn target(&self, url: &str) -> Result<Url, OutboundError> {
        if url.len() > URL_BYTES_MAX {
            return Err(OutboundError::Url("it is longer than 2048 bytes"));
        }
        let url = Url::parse(url).map_err(|_| OutboundError::Url("it isn't a URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OutboundError::Url("it holds a user name or password"));
        }
        let plain = match url.scheme() {
            "https" => false,
            "http" if !self.policy.allow_private.is_empty() => true,
            _ => return Err(OutboundError::Url("its scheme isn't https")),
        };
        let host = url.host_str().ok_or(OutboundError::Url("it has no host"))?;
        // a name is judged when it is resolved; an address never is
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>()
            && !self.policy.allows(address, plain)
        {
            return Err(OutboundError::NotPublic {
                host: host.to_owned(),
            });
        }
        Ok(url)
    }

    fn client(&self, plain: bool) -> Result<Client, String> {
        shared::tls::init();
        let builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(self.total)
            .http1_only()
            .http1_max_headers(HEADERS_MAX)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("RAMarket/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(Guard {
                policy: Arc::clone(&self.policy),
                plain,
            }));
        let builder = if plain {
            // it never speaks TLS: don't read the system's roots for it
            builder.tls_certs_only([])
        } else {
            builder
                .https_only(true)
                .tls_certs_merge(self.extra_roots.clone())
        };
        builder.build().map_err(|error| deepest(&error))
    }
}

/// Reads a body piece by piece, so that what is too large is noticed before it is held.
async fn read(mut answer: Response) -> Result<Bytes, OutboundError> {
    let told = answer.content_length().unwrap_or_default();
    if usize::try_from(told).map_or(true, |told| told > BODY_BYTES_MAX) {
        return Err(OutboundError::TooLarge);
    }
    let mut body = Vec::new();
    loop {
        let piece = answer
            .chunk()
            .await
            .map_err(|error| OutboundError::Broken(deepest(&error)))?;
        let Some(piece) = piece else {
            return Ok(body.into());
        };
        if body.len().saturating_add(piece.len()) > BODY_BYTES_MAX {
            return Err(OutboundError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
}

fn failure(error: &reqwest::Error, host: &str) -> OutboundError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = cause {
        match inner.downcast_ref::<NameRefused>() {
            Some(NameRefused::NoAddress) => {
                return OutboundError::Unresolved {
                    host: host.to_owned(),
                };
            }
            Some(NameRefused::NotPublic) => {
                return OutboundError::NotPublic {
                    host: host.to_owned(),
                };
            }
            None => cause = inner.source(),
        }
    }
    if error.is_timeout() {
        OutboundError::TimedOut
    } else if error.is_connect() {
        OutboundError::Unreachable {
            host: host.to_owned(),
            cause: deepest(error),
        }
    } else {
        OutboundError::Broken(deepest(error))
    }
}

/// The text of the innermost cause: the outer ones repeat the URL.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Which addresses may be called, and how names become addresses.
struct Addresses {
    allow_private: Vec<IpRange>,
    names: Arc<dyn Resolve>,
}

impl Addresses {
    fn allows(&self, address: IpAddr, plain: bool) -> bool {
        let listed = self
            .allow_private
            .iter()
            .any(|range| range.contains(address));
        listed || (!plain && is_public(address))
    }
}

/// Why a name gives nothing to connect to.
#[derive(Debug, thiserror::Error)]
enum NameRefused {
    #[error("no address")]
    NoAddress,
    #[error("no public address")]
    NotPublic,
}

/// Resolves and leaves out what may not be called; what it returns is what is connected to.
struct Guard {
    policy: Arc<Addresses>,
    plain: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, plain) = (Arc::clone(&self.policy), self.plain);
        Box::pin(async move {
            let all = policy
                .names
                .resolve(name)
                .await
                .map_err(|_| NameRefused::NoAddress)?;
            let all: Vec<SocketAddr> = all.collect();
            let called: Vec<SocketAddr> = all
                .iter()
                .copied()
                .filter(|address| policy.allows(address.ip(), plain))
                .collect();
            match (all.is_empty(), called.is_empty()) {
                (true, _) => Err(NameRefused::NoAddress.into()),
                (false, true) => Err(NameRefused::NotPublic.into()),
                (false, false) => Ok(Box::new(called.into_iter()) as Addrs),
            }
        })
    }
}

/// The system's resolver.
struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // the port is put in by whoever connects
            let found: io::Result<Vec<SocketAddr>> = tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map(Iterator::collect);
            Ok(Box::new(found?.into_iter()) as Addrs)
        })
    }
}
