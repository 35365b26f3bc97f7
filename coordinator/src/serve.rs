//! The server: opens what is needed, listens, runs the timers, hands over to the lifecycle.
//!
//! # Invariants
//! - Connections are bounded in number, in all and by address; their heads in size and time, before any handler sees them.
//! - A connection that doesn't go on is cut off.
//! - The schema is brought up to date before the first request is taken.

mod guarded;
mod guests;
#[cfg(test)]
mod tests;
mod tls;

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, body::Body, extract::ConnectInfo};
use futures_util::future::BoxFuture;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use shared::{clock::SystemClock, id::Ids};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use self::{
    guarded::{Guarded, HELLO_TIME_MAX},
    guests::{Guest, Guests},
    tls::Certificate,
};
use crate::{
    app::App,
    books::watch,
    config::Config,
    domain::audit,
    lifecycle::{Lifecycle, STOP_TIME_MAX},
    router::{self, router},
    ssh,
    store::{DatabaseUrl, Db},
    tasks, telemetry,
};

/// A request's head arrives within this.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Beyond what `http::intake` refuses in words; heads between the two are told what is wrong with them.
const HEADERS_MAX: usize = 128;
const HEAD_BYTES_MAX: usize = 32 * 1024;
const H2_RESETS_MAX: usize = 20;
const H2_STREAMS_MAX: u32 = 100;
/// Part of [`STOP_TIME_MAX`] that open requests get.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(8);
/// After a failed accept (out of file descriptors), the next is tried after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs the coordinator until it is told to stop.
///
/// # Errors
/// It can't start, or a part of it failed.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    telemetry::metrics::init();
    let (config, listener) = bind(config).await?;
    let (config, rentals) = bind_rentals(config).await?;
    let (config, ssh_listener) = ssh::bind(config).await?;
    let db = open_database(&config).await?;
    db.migrate().await.context("migrate the database")?;
    let app = App::new(config, db, Arc::new(SystemClock), Arc::new(Ids::System))?;
    let (settings, ctx) = (app.config.clone(), app.task_context("start"));
    app.db
        .write("audit.settings", move |tx| {
            audit::settings::note(tx, &ctx, &settings)
        })
        .await?;
    // what broke while we were away must not be built upon: a break halts, it doesn't keep us from serving what runs
    let passed = watch::pass_and_act(&app)
        .await
        .context("look at the books")?;
    tracing::info!(
        ledger.pages = passed.pages,
        ledger.holds = passed.findings.is_empty(),
        "the books were looked at"
    );
    let lifecycle = Lifecycle::new(app.shutdown.clone());
    start(&app, (listener, rentals), &lifecycle)?;
    if let (Some(listener), Some(face)) = (ssh_listener, &app.ssh) {
        tracing::info!(listen = ?app.config.ssh.listen, fingerprint = face.fingerprint, "rentals are reached by SSH");
        ssh::start(&app, listener, ssh::through_the_gateway(&app), &lifecycle)?;
    }
    let url = app.config.http.public_url();
    if app.config.gateway.may_share_site(&url) {
        tracing::warn!(
            url,
            gateway.tenant_domain = app.config.gateway.tenant_domain,
            "rentals' pages may share a site, and so cookies, with ours: take a registered domain of its own for gateway.tenant_domain unless it is one"
        );
    }
    tracing::info!(url, listen = %app.config.http.listen, "coordinator is ready");
    lifecycle.run(app.db.fatal()).await
}

/// Opens the configured database; its schema isn't looked at. A missing folder of a SQLite file is made.
///
/// # Errors
/// The URL is wrong, or the database can't be opened.
pub async fn open_database(config: &Config) -> anyhow::Result<Db> {
    let url: DatabaseUrl = config.database_url().expose().parse()?;
    if let DatabaseUrl::Sqlite(path) = &url
        && let Some(folder) = path.parent()
    {
        tokio::fs::create_dir_all(folder)
            .await
            .with_context(|| format!("make the folder {}", folder.display()))?;
    }
    Db::open(&url).await.context("open the database")
}

/// Listens at the configured address; with port 0 the settings are completed with the port that was free.
///
/// # Errors
/// The address can't be had.
pub async fn bind(mut config: Config) -> anyhow::Result<(Config, TcpListener)> {
    let listener = TcpListener::bind(config.http.listen)
        .await
        .with_context(|| format!("listen at {}", config.http.listen))?;
    config.http.listen = listener.local_addr().context("own address")?;
    Ok((config, listener))
}

/// Listens where rentals' host names are served apart from everything else, if they are.
///
/// # Errors
/// The address can't be had.
async fn bind_rentals(mut config: Config) -> anyhow::Result<(Config, Option<TcpListener>)> {
    let Some(listen) = config.gateway.tenant_listen else {
        return Ok((config, None));
    };
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listen at {listen} for rentals"))?;
    config.gateway.tenant_listen = Some(listener.local_addr().context("own address")?);
    Ok((config, Some(listener)))
}

/// Starts the timers and the server in this runtime; the second listener, where there is one, is for rentals' host names.
///
/// # Errors
/// A timer can't be started.
pub fn start(
    app: &Arc<App>,
    (listener, rentals): (TcpListener, Option<TcpListener>),
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    tasks::start(app, lifecycle)?;
    let certificate = Certificate::open(&app.config.http)?;
    let server = Server {
        app: Arc::clone(app),
        guests: Guests::new(&app.config.http),
        tls: certificate
            .as_ref()
            .map(Certificate::acceptor)
            .transpose()?,
        router: router(app),
        builder: builder(),
        http1: http1_builder(),
        slots: Arc::new(Semaphore::new(usize::try_from(
            app.config.http.connections_max,
        )?)),
    };
    if let Some(listener) = rentals {
        let server = Server {
            router: router::rentals(app),
            ..server.clone()
        };
        lifecycle.spawn("rentals", server.run(listener));
    }
    lifecycle.spawn("http", server.run(listener));
    let hangups = tls::follow_hangups(certificate, app.shutdown.clone());
    lifecycle.spawn("hangups", hangups);
    Ok(())
}

type Builder = auto::Builder<TokioExecutor>;

fn builder() -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(32 * 1024)
        .max_pending_accept_reset_streams(H2_RESETS_MAX)
        .max_local_error_reset_streams(H2_RESETS_MAX);
    builder
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
}

#[derive(Clone)]
struct Server {
    app: Arc<App>,
    router: Router,
    /// Finds out what a connection speaks.
    builder: Builder,
    /// For connections that are known to speak HTTP/1.1: finding it out leaves a buffer twice as large, which counts by thousands.
    http1: http1::Builder,
    slots: Arc<Semaphore>,
    guests: Arc<Guests>,
    tls: Option<TlsAcceptor>,
}

/// What a connection holds while it is open.
type Place = (OwnedSemaphorePermit, Guest);

impl Server {
    async fn run(self, listener: TcpListener) -> anyhow::Result<()> {
        let connections = GracefulShutdown::new();
        let shutdown = self.app.shutdown.clone();
        while let Some(accepted) = shutdown.run_until_cancelled(self.accept(&listener)).await {
            let (stream, peer, slot) = accepted?;
            match self.guests.admit(peer.ip()) {
                Ok(guest) => self.take(stream, peer, (slot, guest), &connections),
                Err(why) => {
                    metrics::counter!("http_connections_refused_total").increment(1);
                    tracing::debug!(client = %peer, why, "connection refused");
                }
            }
        }
        drop(listener);
        debug_assert!(DRAIN_TIME_MAX < STOP_TIME_MAX);
        // payments that outlive their request come last: a request may still begin one
        let drained = timeout(DRAIN_TIME_MAX, async {
            connections.shutdown().await;
            self.app.background.close();
            self.app.background.wait().await;
        });
        if drained.await.is_err() {
            tracing::warn!("some requests were cut off: they didn't end in time");
        }
        Ok(())
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> anyhow::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return Ok((stream, peer, slot)),
                Err(error) => {
                    tracing::warn!(%error, "connection can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection, after its TLS handshake if we have TLS of our own.
    fn take(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        connections: &GracefulShutdown,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection without nodelay");
        }
        let (this, watcher) = (self.clone(), connections.watcher());
        let stop = self.app.shutdown.clone();
        let hello = async move {
            match this.tls.clone() {
                Some(acceptor) => match timeout(HELLO_TIME_MAX, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let spoken = Spoken::agreed(stream.get_ref().1.alpn_protocol());
                        this.serve((stream, spoken), peer, place, watcher);
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(%error, client = %peer, "connection without a TLS handshake");
                    }
                    Err(_) => tracing::debug!(client = %peer, "handshake took too long"),
                },
                None => match timeout(HELLO_TIME_MAX, Spoken::heard(&stream)).await {
                    Ok(Ok(spoken)) => this.serve((stream, spoken), peer, place, watcher),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, client = %peer, "connection without a request");
                    }
                    Err(_) => tracing::debug!(client = %peer, "nothing was asked in time"),
                },
            }
        };
        tokio::spawn(stop.run_until_cancelled_owned(hello));
    }

    fn serve<S>(
        &self,
        (stream, spoken): (S, Spoken),
        peer: SocketAddr,
        place: Place,
        watcher: Watcher,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = router.clone();
            async move { router.oneshot(request).await as Result<_, Infallible> }
        });
        let stall = Duration::from_secs(u64::from(self.app.config.http.stall_s));
        let stream = TokioIo::new(Guarded::new(stream, stall));
        let stop = self.app.shutdown.clone();
        let until_end: BoxFuture<'static, Result<(), String>> = match spoken {
            Spoken::Http1 => {
                let connection = self.http1.serve_connection(stream, service);
                Box::pin(async move {
                    let mut connection = pin!(connection.with_upgrades());
                    let ended = tokio::select! {
                        ended = connection.as_mut() => ended,
                        () = stop.cancelled() => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    };
                    // until now it is waited for
                    drop(watcher);
                    ended.map_err(|error| error.to_string())
                })
            }
            Spoken::Unknown => {
                let connection = self.builder.serve_connection_with_upgrades(stream, service);
                let connection = watcher.watch(connection.into_owned());
                Box::pin(async move { connection.await.map_err(|error| error.to_string()) })
            }
        };
        tokio::spawn(async move {
            if let Err(error) = until_end.await {
                tracing::debug!(error, client = %peer, "connection ended early");
            }
            drop(place);
        });
    }
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, or what can't be told yet.
    Unknown,
}

impl Spoken {
    /// As it was agreed in the TLS handshake.
    fn agreed(protocol: Option<&[u8]>) -> Self {
        if protocol == Some(b"http/1.1") {
            Self::Http1
        } else {
            Self::Unknown
        }
    }

    /// As its first bytes say, which stay to be read.
    async fn heard(stream: &TcpStream) -> std::io::Result<Self> {
        let mut first = [0; 2];
        let count = stream.peek(&mut first).await?;
        // HTTP/2 begins with PRI; no method that is served begins with PR
        let is_other = first[..count].starts_with(b"PR") || first[..count] == *b"P";
        Ok(if is_other { Self::Unknown } else { Self::Http1 })
    }
}
