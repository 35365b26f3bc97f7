//! Connections: taken, counted, given their time, and said goodbye to.
//!
//! # Invariants
//! - Connections are bounded in all, by address and by rental; who isn't let in within [`HANDSHAKE_TIME_MAX`] is cut off.
//! - A connection's task ends with it, and everything that belongs to it ends with the task.

use std::{borrow::Cow, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, keys::Algorithm};
use shared::id::RentalId;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    Opens,
    client::Client,
    counts::{Counts, Place},
    flow::{Flow, Gate, WINDOW_BYTES_MAX},
    keeper::Connection,
};
use crate::{
    app::App,
    http::ClientIp,
    limits::{Action, Caller},
};

/// A client is let in within this.
pub(super) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a refusal takes at least, so that its time tells nothing.
const REFUSAL_TIME: Duration = Duration::from_millis(300);
/// Keys that a client may try.
const ATTEMPTS_MAX: usize = 12;
/// Connections of one rental.
const RENTAL_CONNECTIONS_MAX: u32 = 16;
const PACKET_BYTES: u32 = 32 * 1_024;
/// Whoever says nothing for so long is asked whether they are there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// After a failed accept (out of file descriptors), the next is tried after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long goodbyes may take at shutdown.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(6);

/// Everything that connections share.
#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) app: Arc<App>,
    pub(super) opens: Opens,
    /// Connections by rental.
    pub(super) rentals: Arc<Counts<RentalId>>,
    addresses: Arc<Counts<IpAddr>>,
    protocol: Arc<russh::server::Config>,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
}

impl Gateway {
    pub(super) fn new(app: &Arc<App>, opens: Opens) -> anyhow::Result<Self> {
        let settings = &app.config.ssh;
        Ok(Self {
            protocol: Arc::new(protocol(app)?),
            rentals: Counts::new(RENTAL_CONNECTIONS_MAX),
            addresses: Counts::new(settings.connections_per_address_max),
            slots: Arc::new(Semaphore::new(usize::try_from(settings.connections_max)?)),
            connections: TaskTracker::new(),
            app: Arc::clone(app),
            opens,
        })
    }

    pub(super) async fn run(self, listener: TcpListener) -> anyhow::Result<()> {
        let shutdown = self.app.shutdown.clone();
        while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "connection can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.connections.close();
        if timeout(GOODBYE_TIME_MAX, self.connections.wait())
            .await
            .is_err()
        {
            tracing::warn!("some SSH connections were cut off: they didn't end in time");
        }
        Ok(())
    }

    /// Serves a connection, if there is a place for it.
    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let address = ClientIp(peer.ip().to_canonical());
        let places = match self.places(address.group()) {
            Ok(places) => places,
            Err(why) => {
                metrics::counter!("ssh_connections_refused_total").increment(1);
                tracing::debug!(client = %peer, why, "connection refused");
                return;
            }
        };
        metrics::counter!("ssh_connections_total").increment(1);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection without nodelay");
        }
        let this = self.clone();
        self.connections.spawn(async move {
            this.serve(stream, address).await;
            drop(places);
        });
    }

    fn places(
        &self,
        address: IpAddr,
    ) -> Result<(OwnedSemaphorePermit, Place<IpAddr>), &'static str> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| "there are as many connections as may be")?;
        let place = self.addresses.take(address);
        let place = place.ok_or("this address has too many connections open")?;
        let now_ms = self.app.clock.boot_ms();
        self.app
            .limits
            .count(Action::SshConnect, Caller::Address(address), now_ms)
            .map_err(|_| "this address connects too often")?;
        Ok((slot, place))
    }

    async fn serve(self, stream: TcpStream, address: ClientIp) {
        let flow = Flow::new();
        let connection = Connection::new(&flow);
        let client = Client::new(self.clone(), address, &flow, &connection);
        let gate = Gate::new(stream, Arc::clone(&flow));
        let protocol = Arc::clone(&self.protocol);
        let began = timeout(
            HANDSHAKE_TIME_MAX,
            russh::server::run_stream(protocol, gate, client),
        );
        let session = match began.await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                tracing::debug!(%error, client = %address.0, "connection without a handshake");
                return;
            }
            Err(_) => {
                tracing::debug!(client = %address.0, "handshake took too long");
                return;
            }
        };
        let keeping = connection.keep(&self.app, session.handle());
        let ended = tokio::select! {
            ended = session => ended,
            never = keeping => match never {},
        };
        connection.end();
        if let Err(error) = ended {
            tracing::debug!(%error, client = %address.0, "connection ended early");
        }
    }
}

/// How we speak. No cipher but AES-GCM, which every OpenSSH of the last ten years has: a client chooses by its own order, and would
/// choose a slower one.
fn protocol(app: &App) -> anyhow::Result<russh::server::Config> {
    let face = app
        .ssh
        .as_ref()
        .context("SSH isn't offered: ssh.listen is empty")?;
    let preferred = Preferred {
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Borrowed(&[Algorithm::Ed25519]),
        cipher: Cow::Borrowed(&[cipher::AES_128_GCM, cipher::AES_256_GCM]),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    };
    Ok(russh::server::Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-ramarket")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REFUSAL_TIME,
        // asking which methods there are isn't an attempt
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![face.key.clone()],
        window_size: WINDOW_BYTES_MAX,
        maximum_packet_size: PACKET_BYTES,
        preferred,
        max_auth_attempts: ATTEMPTS_MAX,
        // the keeper says goodbye before that; this ends what can't be told any more
        inactivity_timeout: Some(Duration::from_secs(u64::from(app.config.ssh.idle_s) + 60)),
        keepalive_interval: Some(KEEPALIVE),
        ..russh::server::Config::default()
    })
}
