//! A connection that carries streams.
//!
//! # Invariants
//! - Nothing moves unless the driver is polled; who starts a session spawns it.
//! - The session ends when the connection does, or when every handle is dropped.
//! - A stream that the peer opens while [`ACCEPTED_MAX`] wait to be taken is reset.

use std::{
    future::{Future, poll_fn},
    io,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, ConnectionError, Mode};

/// Streams of one session, both directions together.
pub const STREAMS_MAX: usize = 512;
/// Streams that the peer opened and nobody took yet.
pub const ACCEPTED_MAX: usize = 64;
/// Requests for a stream that wait.
const ASKS_MAX: usize = 64;
/// What all streams of a session may hold that wasn't read: the protocol's 256 KiB for each.
const WINDOWS_BYTES_MAX: usize = STREAMS_MAX * 256 * 1_024;
/// Bytes of a frame: others get their turn after that.
const FRAME_BYTES_MAX: usize = 32 * 1_024;

/// A stream. Shutting it down ends one direction; dropping it, both.
pub type Stream = Compat<yamux::Stream>;

type Ask = oneshot::Sender<io::Result<Stream>>;

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
            .set_max_num_streams(STREAMS_MAX)
            .set_max_connection_receive_window(Some(WINDOWS_BYTES_MAX))
            .set_split_send_size(FRAME_BYTES_MAX);
        let mode = match role {
            Role::Client => Mode::Client,
            Role::Server => Mode::Server,
        };
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (accept, accepted) = mpsc::channel(ACCEPTED_MAX);
        let mut driver = Driver {
            connection: Connection::new(connection.compat(), config, mode),
            asked,
            ask: None,
            accept,
            closing: false,
        };
        Started {
            session: Self { asks },
            accepted,
            driver: poll_fn(move |cx| driver.poll(cx)),
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The session has ended, or has as many streams as it may.
    pub async fn stream(&self) -> io::Result<Stream> {
        let (ask, answer) = oneshot::channel();
        self.asks.send(ask).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
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

struct Driver<T> {
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
                    // nobody takes it: dropping it resets it
                    drop(self.accept.try_send(stream.compat()));
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
                        let opened = opened.map(yamux::Stream::compat);
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
        assert_eq!(stream.read(&mut [0; 1]).await.expect("an end"), 0);
        assert!(accepted.recv().await.is_none());
    }
}
