//! A coordinator in a test that others can connect to, and several on one database.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use shared::id::Ids;
use tokio::net::TcpListener;

use super::TestApp;
use crate::{app::App, config::Config, router::router, store::testing::TempDir};

/// Listens on a free port of this machine; with the URL of it.
///
/// # Panics
/// If there is none.
pub async fn listen() -> (TcpListener, String) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, format!("http://{address}"))
}

impl TestApp {
    /// Serves connections until the app's `shutdown` is cancelled.
    pub fn serve(&self, listener: TcpListener) {
        let service = self
            .router
            .clone()
            .into_make_service_with_connect_info::<SocketAddr>();
        let shutdown = self.app.shutdown.clone();
        tokio::spawn(async move {
            let served = axum::serve(listener, service);
            if let Some(Err(error)) = shutdown.run_until_cancelled(served.into_future()).await {
                tracing::error!(%error, "a test's coordinator stopped serving");
            }
        });
    }

    /// Another coordinator on the same database, keys and clock, as a second process is, with settings of its own.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn beside_with(&self, change: impl FnOnce(&mut Config)) -> Self {
        let (mut config, db) = (self.app.config.clone(), self.app.db.clone());
        change(&mut config);
        let clock = Arc::new(self.clock.clone());
        let app = App::new(config, db, clock, Arc::new(Ids::System)).expect("it starts");
        Self {
            router: router(&app),
            app,
            clock: self.clock.clone(),
            folder: TempDir::new(),
        }
    }
}
