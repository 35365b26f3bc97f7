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

/// Streams of one session that one end may open.
pub const STREAMS_MAX: usize = 512;
/// What the protocol ends the connection for: twice as many, since what one end dropped the other may still hold.
const PROTOCOL_STREAMS_MAX: usize = 2 * STREAMS_MAX;
/// Streams that the peer opened and nobody took yet.
pub const ACCEPTED_MAX: usize = 64;
/// Requests for a stream that wait.
const ASKS_MAX: usize = 64;
/// What all streams of a session may hold that wasn't read: the protocol's 256 KiB for each.
const WINDOWS_BYTES_MAX: usize = PROTOCOL_STREAMS_MAX * 256 * 1_024;
/// Bytes of a frame: others get their turn after that.
const FRAME_BYTES_MAX: usize = 32 * 1_024;

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
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn pair() -> (Session, mpsc::Receiver<Stream>, Session) {
        let (one, two) = duplex(64 * 1_024);
        let client = Session::start(one, Role::Client);
        let server = Session::start(two, Role::Server);
        tokio::spawn(client.driver);
        tokio::spawn(server.driver);
        (server.session, client.accepted, client.session)
    }

    #[tokio::test]
    async fn streams_carry_both_ways_and_end_one_way_at_a_time() {
        let (server, mut accepted, _client) = pair();
        let mut asked = server.stream().await.expect("a stream");
        asked.write_all(b"question").await.expect("written");
        asked.shutdown().await.expect("half closed");
        let mut answering = accepted.recv().await.expect("it came");
        let mut said = String::new();
        answering.read_to_string(&mut said).await.expect("read");
        assert_eq!(said, "question");
        answering.write_all(b"answer").await.expect("written");
        answering.shutdown().await.expect("ended");
        drop(answering);
        said.clear();
        asked.read_to_string(&mut said).await.expect("read");
        assert_eq!(said, "answer");
    }

    #[tokio::test]
    async fn a_reader_that_never_reads_stops_its_own_stream_only() {
        let (server, mut accepted, _client) = pair();
        let mut full = server.stream().await.expect("a stream");
        let flood = tokio::spawn(async move {
            let chunk = vec![7; 64 * 1_024];
            let mut written = 0_usize;
            let stuck = tokio::time::timeout(std::time::Duration::from_millis(300), async {
                while full.write_all(&chunk).await.is_ok() {
                    written += chunk.len();
                }
            });
            assert!(stuck.await.is_err(), "it was taken without being read");
            (full, written)
        });
        let unread = accepted.recv().await.expect("it came");
        let mut other = server.stream().await.expect("a stream");
        other.write_all(b"x").await.expect("written");
        let mut heard = accepted.recv().await.expect("it came");
        assert_eq!(heard.read_u8().await.expect("read"), b'x');
        let (_full, written) = flood.await.expect("it ended");
        assert!(written < 4 << 20, "{written} bytes went nowhere");
        drop(unread);
    }

    #[tokio::test]
    async fn a_session_ends_with_its_connection_and_with_its_handles() {
        let (server, mut accepted, client) = pair();
        let mut stream = server.stream().await.expect("a stream");
        stream.write_all(b"x").await.expect("written");
        let mut peer = accepted.recv().await.expect("it came");
        assert_eq!(peer.read_u8().await.expect("read"), b'x');
        drop(client);
        server.ended().await;
        assert!(server.has_ended() && server.stream().await.is_err());
        let cut = stream.read(&mut [0; 1]).await.expect_err("not an end");
        assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset);
        assert!(accepted.recv().await.is_none());
    }

    #[tokio::test]
    async fn what_is_dropped_in_the_middle_is_cut_and_what_was_shut_down_has_ended() {
        let (server, mut accepted, _client) = pair();
        for whole in [true, false] {
            let mut stream = server.stream().await.expect("a stream");
            stream.write_all(b"x").await.expect("written");
            let mut peer = accepted.recv().await.expect("it came");
            peer.write_all(b"y").await.expect("written");
            if whole {
                peer.shutdown().await.expect("ended");
            }
            drop(peer);
            let mut said = Vec::new();
            let read = stream.read_to_end(&mut said).await;
            assert_eq!((read.is_ok(), said), (whole, b"y".to_vec()));
        }
    }

    #[tokio::test]
    async fn one_stream_too_many_is_refused_and_the_others_go_on() {
        let (server, mut accepted, _client) = pair();
        let mut streams = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..STREAMS_MAX {
            let mut stream = server.stream().await.expect("a stream");
            stream.write_all(b"x").await.expect("written");
            let mut peer = accepted.recv().await.expect("it came");
            // acknowledges it
            peer.write_all(b"y").await.expect("written");
            stream.read_u8().await.expect("read");
            streams.push(stream);
            peers.push(peer);
        }
        let refused = server.stream().await.expect_err("one too many");
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);
        // the other end still holds what this one dropped
        drop(streams.split_off(STREAMS_MAX / 2));
        let mut again = server.stream().await.expect("room again");
        again.write_all(b"z").await.expect("written");
        let mut peer = accepted.recv().await.expect("it came");
        assert_eq!(peer.read_u8().await.expect("read"), b'z');
        assert!(!server.has_ended());
    }
}
