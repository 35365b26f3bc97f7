//! TLS of our own: a certificate and key from files, read again on SIGHUP, so that a renewed one needs no restart.
//!
//! # Invariants
//! - A pair that can't be used never replaces one that can.
//! - TLS 1.2 and 1.3 by rustls and ring; HTTP/2 and HTTP/1.1 are offered.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::HttpConfig;

/// The certificate in use and where it comes from.
#[derive(Debug)]
pub(super) struct Certificate {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the configured pair; nothing if none is configured.
    ///
    /// # Errors
    /// A file can't be read, or the two don't belong together.
    pub(super) fn open(config: &HttpConfig) -> anyhow::Result<Option<Arc<Self>>> {
        let (Some(cert_file), Some(key_file)) = (&config.tls_cert, &config.tls_key) else {
            return Ok(None);
        };
        let current = read(cert_file, key_file)?;
        Ok(Some(Arc::new(Self {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
            current: RwLock::new(Arc::new(current)),
        })))
    }

    /// What accepts connections with whatever certificate is current.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults.
    pub(super) fn acceptor(self: &Arc<Self>) -> anyhow::Result<TlsAcceptor> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again; a pair that can't be used changes nothing.
    fn reload(&self) {
        match read(&self.cert_file, &self.key_file) {
            Ok(fresh) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
                tracing::info!(file = %self.cert_file.display(), "certificate was read again");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "certificate can't be used, the old one stays");
            }
        }
    }
}

/// Reads the files again at each SIGHUP, until shutdown. Without files of ours the signal is heard too: unheard, it would end us.
///
/// # Errors
/// The signal can't be listened for.
pub(super) async fn follow_hangups(
    certificate: Option<Arc<Certificate>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut hangups = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    while shutdown.run_until_cancelled(hangups.recv()).await.is_some() {
        match &certificate {
            Some(certificate) => {
                let certificate = Arc::clone(certificate);
                tokio::task::spawn_blocking(move || certificate.reload()).await?;
            }
            None => tracing::info!("nothing to read again, TLS isn't ours"),
        }
    }
    Ok(())
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

fn read(cert_file: &Path, key_file: &Path) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("http.tls_cert: read {}", cert_file.display()))?;
    anyhow::ensure!(
        !chain.is_empty(),
        "http.tls_cert: there is no certificate in {}",
        cert_file.display()
    );
    let key = PrivateKeyDer::from_pem_file(key_file)
        .with_context(|| format!("http.tls_key: read {}", key_file.display()))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .context("http.tls_cert and http.tls_key don't belong together")
}
