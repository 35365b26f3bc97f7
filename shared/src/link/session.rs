//! A connection that carries streams.
//!
//! # Invariants
//! - Nothing moves unless the driver is polled; who starts a session spawns it.
//! - The session ends when the connection does, or when every handle is dropped.
//! - A stream that the peer opens while [`ACCEPTED_MAX`] wait to be taken is reset.
//! - One stream too many is refused before it is opened: to the protocol it would be a violation, which ends the connection.
//! - A stream that is reset or whose connection broke is an error to whoever reads it, never an end: who has said everything shuts the
//!   stream down before dropping it.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, ConnectionError, Mode};

use super::frame;

/// Streams of one session that one end may open.
pub const STREAMS_MAX: usize = 512;
/// What the protocol ends the connection for: twice as many, since what one end dropped the other may still hold.
const PROTOCOL_STREAMS_MAX: usize = 2 * STREAMS_MAX;
/// Streams that the peer opened and nobody took yet.
pub const ACCEPTED_MAX: usize = 64;
/// Requests for a stream that wait.
const ASKS_MAX: usize = 64;
/// Shared by those streams of a session that are faster than a window of the protocol's 256 KiB for each round trip.
const WIDER_BYTES_MAX: usize = 16 << 20;
/// What all streams of a session may hold that wasn't read.
const WINDOWS_BYTES_MAX: usize = PROTOCOL_STREAMS_MAX * 256 * 1_024 + WIDER_BYTES_MAX;
/// Bytes of a frame: others get their turn after that. A whole frame of a program's fits, or each of those would be two of ours.
const FRAME_BYTES_MAX: usize = frame::FRAME_BYTES_MAX + frame::HEAD_BYTES;

/// A stream. Shutting it down ends one direction; dropping it before both ends did resets it.
#[derive(Debug)]
pub struct Stream {
    inner: Compat<yamux::Stream>,
    /// We ended our direction.
    shut: bool,
    connection_ended: Arc<AtomicBool>,
    /// Of streams that this end opened.
    _place: Option<OwnedSemaphorePermit>,
}

impl Stream {
    /// Whether an end that was read is that of the connection or a reset: the other end's own leaves our direction open.
    fn is_cut(&self) -> bool {
        (!self.shut && self.inner.get_ref().is_closed())
            || self.connection_ended.load(Ordering::Acquire)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if buffer.filled().len() == before && buffer.remaining() > 0 && self.is_cut() {
            let why = "the stream was cut before its end";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, why)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

type Ask = oneshot::Sender<io::Result<yamux::Stream>>;

/// Which end of the connection this is: who dialled is the client. Streams are opened by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Dialled.
    Client,
    /// Answered.
    Server,
}

/// Opens streams.
#[derive(Debug, Clone)]
pub struct Session {
    asks: mpsc::Sender<Ask>,
    places: Arc<Semaphore>,
    ended: Arc<AtomicBool>,
}

/// What [`Session::start`] makes.
#[derive(Debug)]
pub struct Started<D> {
    /// Opens streams.
    pub session: Session,
    /// Streams that the peer opened.
    pub accepted: mpsc::Receiver<Stream>,
    /// Moves everything; ends with the session, with an error if the connection broke.
    pub driver: D,
}

impl Session {
    /// A session over a connection.
    pub fn start<T>(
        connection: T,
        role: Role,
    ) -> Started<impl Future<Output = io::Result<()>> + Send>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut config = Config::default();
        config
            .set_max_num_streams(PROTOCOL_STREAMS_MAX)
            .set_max_connection_receive_window(Some(WINDOWS_BYTES_MAX))
            .set_split_send_size(FRAME_BYTES_MAX);
        let mode = match role {
            Role::Client => Mode::Client,
            Role::Server => Mode::Server,
        };
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (accept, accepted) = mpsc::channel(ACCEPTED_MAX);
        let ended = Arc::<AtomicBool>::default();
        let mut driver = Driver {
            ended: Ended(Arc::clone(&ended)),
            connection: Connection::new(connection.compat(), config, mode),
            asked,
            ask: None,
            accept,
            closing: false,
        };
        Started {
            session: Self {
                asks,
                places: Arc::new(Semaphore::new(STREAMS_MAX)),
                ended,
            },
            accepted,
            driver: poll_fn(move |cx| driver.poll(cx)),
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The session has ended, or has as many streams as it may.
    pub async fn stream(&self) -> io::Result<Stream> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| {
            let why = "as many streams as may be are open on this connection";
            io::Error::new(io::ErrorKind::QuotaExceeded, why)
        })?;
        let (ask, answer) = oneshot::channel();
        self.asks.send(ask).await.map_err(|_| ended())?;
        let stream = answer.await.map_err(|_| ended())??;
        Ok(Stream {
            inner: stream.compat(),
            shut: false,
            connection_ended: Arc::clone(&self.ended),
            _place: Some(place),
        })
    }

    /// Whether both are handles of one session.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ended, &other.ended)
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.asks.is_closed()
    }

    /// Returns when the session has ended.
    pub async fn ended(&self) {
        self.asks.closed().await;
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection has ended")
}

/// Tells streams that their connection ended, before they see it.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Driver<T> {
    // dropped first
    ended: Ended,
    connection: Connection<Compat<T>>,
    asked: mpsc::Receiver<Ask>,
    ask: Option<Ask>,
    accept: mpsc::Sender<Stream>,
    closing: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.closing {
                return self.connection.poll_close(cx).map_err(broken);
            }
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    let stream = Stream {
                        inner: stream.compat(),
                        shut: false,
                        connection_ended: Arc::clone(&self.ended.0),
                        _place: None,
                    };
                    // nobody takes it: dropping it resets it
                    drop(self.accept.try_send(stream));
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            if self.ask.is_none() {
                match self.asked.poll_recv(cx) {
                    Poll::Ready(Some(ask)) => self.ask = Some(ask),
                    Poll::Ready(None) => {
                        self.closing = true;
                        continue;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(opened) => {
                    if let Some(ask) = self.ask.take() {
                        // who asked may have gone: the stream is dropped with the answer
                        drop(ask.send(opened.map_err(broken)));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn broken(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
