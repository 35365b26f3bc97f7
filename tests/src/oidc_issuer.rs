//! A real OpenID Connect server as a process: `oidc-issuer/server.mjs`, the npm package `oidc-provider` with its own pages.

use std::process::{Child, Command, Stdio};

use crate::{api, npm, wait};

/// Its name for us.
pub const CLIENT_ID: &str = "ramarket";
/// What only it and we know; odd on purpose.
pub const CLIENT_SECRET: &str = "a secret of the tests / with : odd + characters";

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct OidcIssuer {
    url: String,
    child: Child,
}

impl OidcIssuer {
    /// On `127.0.0.2`, another site than the market for a browser; signs with `alg` and sends people back to `redirects` only.
    ///
    /// # Panics
    /// If Node or npm is missing, or it doesn't start.
    pub async fn start(port: u32, alg: &str, redirects: &[String]) -> Self {
        let folder = npm::installed("oidc-issuer").await.expect("npm ci");
        let child = Command::new("node")
            .args(["server.mjs", &port.to_string(), alg])
            .args(redirects)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("node starts: apt-get install nodejs");
        let mut issuer = Self {
            url: url(port),
            child,
        };
        let (http, document) = (
            api::http_client(),
            format!("{}/.well-known/openid-configuration", issuer.url),
        );
        let child = std::sync::Mutex::new(&mut issuer.child);
        wait::until("the issuer answers", || {
            let ended = child.lock().expect("one thread").try_wait();
            let asked = http.get(&document).send();
            async move {
                assert!(
                    matches!(ended, Ok(None)),
                    "the issuer ended while it started"
                );
                asked.await.ok().filter(|it| it.status().is_success())
            }
        })
        .await;
        issuer
    }

    /// Its issuer URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The issuer URL of a port.
#[must_use]
pub fn url(port: u32) -> String {
    format!("http://127.0.0.2:{port}")
}

impl Drop for OidcIssuer {
    fn drop(&mut self) {
        // an error means that it has ended already
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
