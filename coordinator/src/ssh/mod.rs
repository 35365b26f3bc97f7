//! The SSH gateway: a stock OpenSSH client reaches a rental as `ssh rnt_…@host`, and nothing else.
//!
//! [`face`] (where it is and by which key it is known), `server` (connections, and how many), `admit` (who may come in), `client` and
//! `handler` (who it is and what it asks for), `wish` (what of that is passed on), `visit` (the record of
//! it), `program` and `bytes` (channels and streams), `flow` and `inbox` (what is held in memory),
//! `keeper` (how a connection ends).
//!
//! # Invariants
//! - The user name is a rental; only keys of the rental and of whoever rents it open it, and nothing tells an unknown rental from an
//!   unknown key.
//! - Everything happens in the rental: this end runs nothing and dials nothing but the stream that [`Opens`] gives.
//! - What is opened is in the audit log before it is.
//! - Authorization is asked again while a connection lives; a key that is gone ends it.
//! - Connections, channels, bytes held and time are bounded.

mod admit;
mod bytes;
mod client;
mod counts;
pub mod face;
mod flow;
mod handler;
mod inbox;
mod keeper;
mod program;
mod server;
#[cfg(test)]
mod tests;
mod visit;
mod wish;

use std::{pin::Pin, sync::Arc};

use anyhow::Context as _;
use shared::link::open::Open;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

pub use self::face::Face;
use crate::{
    app::App,
    config::Config,
    error::{Error, Result},
    lifecycle::Lifecycle,
};

/// What a stream can do: its reading fails where it broke, and ends where it was ended.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream into a rental, whose other end is ready.
pub type Stream = Box<dyn Duplex>;
/// Opens streams into rentals.
pub type Opens = Arc<dyn Fn(Open) -> Opening + Send + Sync>;
/// A stream that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = Result<Stream>> + Send>>;

/// Streams as the gateway opens them, wherever the rental's node is linked.
#[must_use]
pub fn through_the_gateway(app: &Arc<App>) -> Opens {
    let app = Arc::clone(app);
    Arc::new(move |open: Open| {
        let app = Arc::clone(&app);
        Box::pin(async move {
            let rental = open.rental_id();
            let rental = rental.ok_or_else(|| Error::internal("a stream of no rental"))?;
            let reached = app.gateway.open(rental, &open).await?;
            Ok(Box::new(reached) as Stream)
        })
    })
}

/// Listens where the settings say, if they do; with port 0 they are completed with the port that was free.
///
/// # Errors
/// The address can't be had.
pub async fn bind(mut config: Config) -> anyhow::Result<(Config, Option<TcpListener>)> {
    let Some(listen) = config.ssh.listen else {
        return Ok((config, None));
    };
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listen at {listen} for SSH"))?;
    config.ssh.listen = Some(listener.local_addr().context("own address")?);
    Ok((config, Some(listener)))
}

/// Serves connections until shutdown.
///
/// # Errors
/// There is no host key.
pub fn start(
    app: &Arc<App>,
    listener: TcpListener,
    opens: Opens,
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    let gateway = server::Gateway::new(app, opens)?;
    lifecycle.spawn("ssh", gateway.run(listener));
    Ok(())
}
