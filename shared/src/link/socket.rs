//! A WebSocket as a connection of bytes: what a session runs over.
//!
//! # Invariants
//! - Bytes travel in binary messages of at most [`MESSAGE_BYTES_MAX`]; where a message ends means nothing. What is written goes out when it
//!   is flushed, or when it fills a message.
//! - Text is a violation and ends it; pings and pongs are the library's.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
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
    unsent: BytesMut,
    ended: bool,
}

impl<S, M> fmt::Debug for ByteSocket<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteSocket").finish_non_exhaustive()
    }
}

impl<S, M> ByteSocket<S, M> {
    /// Over a socket, by how its library makes a binary message and what one of its messages brings.
    pub fn new(socket: S, message: fn(Bytes) -> M, carried: fn(M) -> Carried) -> Self {
        Self {
            socket,
            message,
            carried,
            unread: Bytes::new(),
            unsent: BytesMut::new(),
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

impl<S, M, E> ByteSocket<S, M>
where
    S: Sink<M, Error = E> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    /// Hands what was written to the socket.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unsent.is_empty() {
            let mut socket = Pin::new(&mut self.socket);
            ready!(socket.as_mut().poll_ready(cx)).map_err(io::Error::other)?;
            let message = (self.message)(self.unsent.split().freeze());
            socket.start_send(message).map_err(io::Error::other)?;
        }
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
        if self.unsent.len() == MESSAGE_BYTES_MAX {
            ready!(self.poll_send(cx))?;
        }
        let taken = bytes.len().min(MESSAGE_BYTES_MAX - self.unsent.len());
        self.unsent.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket)
            .poll_flush(cx)
            .map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket)
            .poll_close(cx)
            .map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A socket whose messages are bytes, and come back.
    #[derive(Default)]
    struct Loop(Vec<Bytes>);

    impl Sink<Bytes> for Loop {
        type Error = Infallible;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(mut self: Pin<&mut Self>, item: Bytes) -> Result<(), Infallible> {
            self.0.push(item);
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Stream for Loop {
        type Item = Result<Bytes, Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            let next = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(next.map(Ok))
        }
    }

    #[tokio::test]
    async fn small_writes_share_a_message_and_large_ones_are_cut_up() {
        let carried = |bytes: Bytes| match &bytes[..] {
            b"end" => Carried::End,
            b"bad" => Carried::Violation,
            _ => Carried::Bytes(bytes),
        };
        let mut socket = ByteSocket::new(Loop::default(), |bytes| bytes, carried);
        socket.write_all(b"one").await.expect("taken");
        socket.write_all(b"two").await.expect("taken");
        socket.flush().await.expect("sent");
        let large = vec![7; 2 * MESSAGE_BYTES_MAX + 1];
        socket.write_all(&large).await.expect("taken");
        socket.flush().await.expect("sent");
        let lengths: Vec<usize> = socket.socket.0.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [6, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, 1]);
        let mut said = vec![0; 6 + large.len()];
        socket.read_exact(&mut said).await.expect("all of it");
        assert!(said.starts_with(b"onetwo") && said[6..] == large);
        for (last, ends) in [(b"end", true), (b"bad", false)] {
            socket.socket.0.push(Bytes::from_static(last));
            let read = socket.read(&mut [0; 1]).await;
            assert_eq!(read.is_ok_and(|length| length == 0), ends);
            socket.ended = false;
        }
    }
}
