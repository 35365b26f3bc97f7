//! Streams over links that other coordinators hold: one connection to each of them, made when it is needed, carries them all.
//!
//! # Invariants
//! - Who connects proves that it knows the coordinators' secret, for this address and this moment; a proof counts once.
//! - A stream is relayed once: who is asked looks at its own links only.
//! - Whether a relayed stream was taken is said before its node is asked: to the protocol a stream on which nothing came back is one that
//!   waits, and with 256 of those no more are opened. Nodes that don't answer stop streams to themselves only.
//! - A coordinator that doesn't answer is not asked again for [`RETRY_AFTER`]: who wants something of it hears so at once.

mod peer;
mod proof;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use reqwest::{
    Client, StatusCode,
    header::{CONNECTION, UPGRADE},
    redirect::Policy,
};
use serde::{Deserialize, Serialize};
use shared::{
    clock::Clock,
    id::NodeId,
    link::{
        PING_EVERY, SILENCE_MAX, alive,
        open::{self, Open, Opened, code},
        session::{Role, STREAMS_MAX, Session, Started, Stream},
    },
};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes,
    },
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use self::{
    peer::{Peer, begin, full},
    proof::Proofs,
};
use super::{links::Links, refusal, store::Holder};
use crate::{error::Result, keys::TokenSecret};

/// Where other coordinators connect.
pub const PATH: &str = "/internal/streams";
/// What their connections are upgraded to.
pub const PROTOCOL: &str = "ramarket-streams-2";
/// The header of their proof.
pub const PROOF: &str = "ramarket-peer";
/// The answer of a coordinator that doesn't hold the link.
pub(super) const NOT_LINKED: &str = "node_not_linked";
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
const DIAL_TIME_MAX: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Connections to one coordinator: each carries [`STREAMS_MAX`] streams.
const SESSIONS_MAX: usize = 8;
/// Says that a stream was taken: neither the beginning of an answer's length nor text.
const TAKEN: u8 = 0xA5;
/// Of each direction of a stream that is passed on.
const BUFFER_BYTES: usize = 32 * 1_024;

/// What another coordinator's stream is for. [`TAKEN`] is the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Asked {
    /// Bytes come back as they went, so that both know that the other is there.
    Echo {},
    /// An [`Open`] for this node follows.
    Node { node_id: NodeId },
}

/// The other coordinators.
#[derive(Debug)]
pub struct Relay {
    own: Holder,
    proofs: Proofs,
    client: Client,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

impl Relay {
    /// As the coordinator that others reach at `url`.
    ///
    /// # Errors
    /// The system has no random numbers, or no HTTP client can be made.
    pub fn new(url: &str, clock: &Arc<dyn Clock>, secret: &TokenSecret) -> anyhow::Result<Self> {
        shared::tls::init();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .tcp_keepalive(Some(PING_EVERY))
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .build()
            .context("make a client for other coordinators")?;
        Ok(Self {
            own: Holder {
                peer_url: url.to_owned(),
                instance: hex::encode(&crate::keys::random_32()?[..16]),
            },
            proofs: Proofs::new(clock, secret),
            client,
            peers: Mutex::default(),
        })
    }

    /// This run.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.own.instance
    }

    pub(super) fn own(&self) -> Holder {
        self.own.clone()
    }

    /// Checks the proof of who connects.
    ///
    /// # Errors
    /// 401.
    pub fn admit(&self, proof: Option<&str>) -> Result<()> {
        self.proofs.check(&self.own.peer_url, proof)
    }

    /// Opens a stream over another coordinator.
    pub(super) async fn reach(&self, url: &str, node: NodeId, open: &Open) -> Result<Stream> {
        let answer = async {
            let mut stream = self.stream(url).await?;
            open::send(&mut stream, &Asked::Node { node_id: node }).await?;
            open::send(&mut stream, open).await?;
            taken(&mut stream).await?;
            let opened: Opened = open::receive(&mut stream).await?;
            io::Result::Ok((opened, stream))
        };
        match answer.await {
            Ok((opened, stream)) => refusal::unless_refused(opened).map(|()| stream),
            Err(error) => Err(refusal::not_opened(&error)),
        }
    }

    async fn stream(&self, url: &str) -> io::Result<Stream> {
        let peer = {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(peers.entry(url.to_owned()).or_default())
        };
        let mut tried = Vec::new();
        loop {
            while let Some(session) = peer.untried(&tried) {
                match begin(&session).await {
                    Ok(stream) => return Ok(stream),
                    Err(_) => peer.put_last(&session),
                }
                tried.push(session);
            }
            // who comes meanwhile waits for the connection that is being made
            let mut failed_at = peer.failed_at.lock().await;
            if peer.untried(&tried).is_some() {
                continue;
            }
            if peer.sessions().len() >= SESSIONS_MAX {
                return Err(full());
            }
            let session = self.dial_again(url, &mut failed_at).await?;
            peer.sessions().push(session.clone());
            drop(failed_at);
            return begin(&session).await;
        }
    }

    /// Dials, unless it failed just now.
    async fn dial_again(&self, url: &str, failed_at: &mut Option<Instant>) -> io::Result<Session> {
        if failed_at.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let dialled = timeout(DIAL_TIME_MAX, self.dial(url)).await;
        *failed_at = None;
        if !matches!(dialled, Ok(Ok(_))) {
            *failed_at = Some(Instant::now());
        }
        match dialled {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => {
                tracing::warn!(
                    peer.url = url,
                    error = format!("{error:#}"),
                    "another coordinator can't be reached"
                );
                Err(io::Error::other(error))
            }
            Err(_) => {
                tracing::warn!(peer.url = url, "another coordinator doesn't answer");
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    async fn dial(&self, url: &str) -> anyhow::Result<Session> {
        let response = self
            .client
            .get(format!("{url}{PATH}"))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, PROTOCOL)
            .header(PROOF, self.proofs.make(url)?)
            .send()
            .await?;
        anyhow::ensure!(
            response.status() == StatusCode::SWITCHING_PROTOCOLS,
            "it answered {} instead of {PROTOCOL}",
            response.status()
        );
        let (connection, silence) = alive::listen(response.upgrade().await?);
        let Started {
            session,
            accepted,
            driver,
        } = Session::start(connection, Role::Client);
        // it opens none
        drop(accepted);
        let own = session.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                ended = driver => ended.err(),
                () = silence.lasts(SILENCE_MAX) => Some(io::ErrorKind::TimedOut.into()),
                error = Box::pin(keep_awake(own)) => Some(error),
            };
            tracing::debug!(error = ?end, "a connection to another coordinator ended");
        });
        Ok(session)
    }
}

/// Hears that a stream was taken.
async fn taken(stream: &mut Stream) -> io::Result<()> {
    let said = timeout(open::OPEN_WITHIN, stream.read_u8()).await;
    match said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
        TAKEN => Ok(()),
        _ => {
            let why = "the other coordinator says something else than that it took a stream: is it of another version?";
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

/// Sends a byte and hears it again, now and then: a connection on which nothing else happens is no dead one.
async fn keep_awake(session: Session) -> io::Error {
    let awake = async {
        let mut stream = session.stream().await?;
        open::send(&mut stream, &Asked::Echo {}).await?;
        taken(&mut stream).await?;
        let mut every = interval(PING_EVERY);
        loop {
            every.tick().await;
            stream.write_all(&[0]).await?;
            stream.flush().await?;
            stream.read_u8().await?;
        }
    };
    let ended: io::Result<std::convert::Infallible> = awake.await;
    match ended {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

/// Serves another coordinator's connection until it ends.
pub async fn serve<T>(links: Arc<Links>, connection: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, silence) = alive::listen(connection);
    let Started {
        session,
        mut accepted,
        driver,
    } = Session::start(connection, Role::Server);
    let take_in = async {
        let mut served = JoinSet::new();
        loop {
            tokio::select! {
                stream = accepted.recv() => match stream {
                    Some(stream) if served.len() < STREAMS_MAX => {
                        served.spawn(pass_on(Arc::clone(&links), stream));
                    }
                    // as many as may be: dropping it resets it
                    Some(_) => {}
                    None => return,
                },
                Some(ended) = served.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the task of a relayed stream failed");
                    }
                }
            }
        }
    };
    tokio::select! {
        ended = driver => if let Err(error) = ended {
            tracing::debug!(%error, "another coordinator's connection broke");
        },
        () = silence.lasts(SILENCE_MAX) => tracing::debug!("another coordinator fell silent"),
        () = Box::pin(take_in) => {}
    }
    drop(session);
}

async fn pass_on(links: Arc<Links>, mut from: Stream) {
    let passed = async {
        let asked = open::receive(&mut from).await?;
        from.write_u8(TAKEN).await?;
        from.flush().await?;
        match asked {
            Asked::Node { node_id } => relay(&links, node_id, from).await,
            Asked::Echo {} => loop {
                let byte = from.read_u8().await?;
                from.write_all(&[byte]).await?;
                from.flush().await?;
            },
        }
    };
    let passed: io::Result<()> = passed.await;
    if let Err(error) = passed {
        tracing::debug!(%error, "a relayed stream broke");
    }
}

async fn relay(links: &Links, node: NodeId, mut from: Stream) -> io::Result<()> {
    let open: Open = open::receive(&mut from).await?;
    let Some(session) = links.session(node) else {
        return refuse(from, Opened::refused(NOT_LINKED, "")).await;
    };
    // a node that takes no streams holds none of ours
    let mut to = match begin(&session).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
            return refuse(from, Opened::refused(code::TOO_MANY, error.to_string())).await;
        }
        Err(_) => return refuse(from, Opened::refused(NOT_LINKED, "")).await,
    };
    // it keeps no session alive
    drop(session);
    open::send(&mut to, &open).await?;
    let opened: Opened = open::receive(&mut to).await?;
    if opened != (Opened::Ready {}) {
        return refuse(from, opened).await;
    }
    open::send(&mut from, &opened).await?;
    copy_bidirectional_with_sizes(&mut from, &mut to, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

async fn refuse(mut stream: Stream, refusal: Opened) -> io::Result<()> {
    open::send(&mut stream, &refusal).await?;
    stream.shutdown().await
}
