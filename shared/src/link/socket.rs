//! A WebSocket as a connection of bytes: what a session runs over.
//!
//! # Invariants
//! - Bytes travel in binary messages of at most [`MESSAGE_BYTES_MAX`]; where a message ends means nothing.
//! - Text is a violation and ends it; pings and pongs are the library's.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a message: both ends take no larger one.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1_024;

/// What a message brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// Bytes.
    Bytes(Bytes),
    /// Nothing for us.
    Nothing,
    /// The end.
    End,
    /// What must not come.
    Violation,
}

/// A WebSocket of some library.
pub struct ByteSocket<S, M> {
    socket: S,
    message: fn(Bytes) -> M,
    carried: fn(M) -> Carried,
    unread: Bytes,
    ended: bool,
}

impl<S, M> fmt::Debug for ByteSocket<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteSocket").finish_non_exhaustive()
    }
}

impl<S, M> ByteSocket<S, M> {
    /// Over a socket, by how its library makes a binary message and what one of its messages brings.
    pub const fn new(socket: S, message: fn(Bytes) -> M, carried: fn(M) -> Carried) -> Self {
        Self {
            socket,
            message,
            carried,
            unread: Bytes::new(),
            ended: false,
        }
    }
}

impl<S, M, E> AsyncRead for ByteSocket<S, M>
where
    S: Stream<Item = Result<M, E>> + Unpin,
    M: Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() && !self.ended {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => match (self.carried)(message) {
                    Carried::Bytes(bytes) => self.unread = bytes,
                    Carried::Nothing => {}
                    Carried::End => self.ended = true,
                    Carried::Violation => {
                        let why = "the other end doesn't keep to the protocol";
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                    }
                },
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => self.ended = true,
            }
        }
        let taken = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..taken]);
        self.unread.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S, M, E> AsyncWrite for ByteSocket<S, M>
where
    S: Sink<M, Error = E> + Unpin,
    M: Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
        let taken = bytes.len().min(MESSAGE_BYTES_MAX);
        let message = (self.message)(Bytes::copy_from_slice(&bytes[..taken]));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket)
            .poll_flush(cx)
            .map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket)
            .poll_close(cx)
            .map_err(io::Error::other)
    }
}
