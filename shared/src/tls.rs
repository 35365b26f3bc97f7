//! One TLS provider (ring) for every program and test.

use std::sync::OnceLock;

/// Installs ring as the process's TLS provider. May be called any number of times.
pub fn init() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        // an error means that another caller installed one first: there is only ring in this tree
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}
