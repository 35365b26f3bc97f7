//! A local certificate authority, made by openssl: certificates for names of tests, and clients that trust nothing else.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::wait;

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

/// An authority with its files in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// A new one; its own certificate is `ca.pem`.
    ///
    /// # Panics
    /// openssl is missing or fails.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let authority = Self {
            folder: folder.to_owned(),
        };
        let name = "/CN=authority of a test";
        authority.openssl(
            &["req", "-x509"],
            &NEW_KEY,
            &[
                "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", name,
            ],
        );
        authority
    }

    /// Its own certificate.
    #[must_use]
    pub fn pem(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A new key and a new certificate for `localhost`: `<name>.key` and `<name>.pem`, replaced if they were there.
    ///
    /// # Panics
    /// openssl fails.
    pub fn certify(&self, name: &str) {
        self.certify_for(name, "DNS:localhost");
    }

    /// As [`Authority::certify`] for other names, in openssl's words (`DNS:one,IP:192.0.2.1`).
    ///
    /// # Panics
    /// openssl fails.
    pub fn certify_for(&self, name: &str, names: &str) {
        let extensions = format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n");
        std::fs::write(self.folder.join("leaf.ext"), extensions).expect("written");
        let file = |ending: &str| format!("{name}.{ending}");
        let (key, request, certificate) = (file("key"), file("csr"), file("pem"));
        self.openssl(
            &["req"],
            &NEW_KEY,
            &["-keyout", &key, "-out", &request, "-subj", "/CN=localhost"],
        );
        self.openssl(
            &["x509", "-req"],
            &[],
            &[
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "leaf.ext",
                "-out",
                &certificate,
            ],
        );
    }

    fn openssl(&self, what: &[&str], key: &[&str], more: &[&str]) {
        let made = Command::new("openssl")
            .args(what)
            .args(key)
            .args(more)
            .current_dir(&self.folder)
            .output()
            .expect("openssl is installed");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
    }
}

/// A client that trusts the authority of this file and no other.
///
/// # Panics
/// The file holds no certificate.
pub fn trusting(pem: &Path) -> reqwest::ClientBuilder {
    shared::tls::init();
    let pem = std::fs::read(pem).expect("an authority");
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).expect("PEM")])
        .timeout(wait::PATIENCE)
}
