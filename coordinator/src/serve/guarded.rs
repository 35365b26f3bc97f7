//! A connection that has to go on: whoever connects and says nothing, or reads nothing of what is written, is cut off.
//! hyper bounds the time of a request's head; this bounds what comes before it (telling HTTP/1 from HTTP/2 by the first
//! bytes) and after it (an answer that nobody takes).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// The first bytes arrive within this.
pub(super) const HELLO_TIME_MAX: Duration = Duration::from_secs(10);
/// As many as tell HTTP/2 from HTTP/1.
const HELLO_BYTES: usize = 24;

/// A connection under both bounds.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    inner: T,
    /// Until when the first bytes must be here, and how many are.
    hello: Option<(Pin<Box<Sleep>>, usize)>,
    /// Since something is to be written and isn't taken.
    stall: Option<Pin<Box<Sleep>>>,
    stall_max: Duration,
}

impl<T> Guarded<T> {
    /// A written byte is taken within `stall_max`.
    pub(super) fn new(inner: T, stall_max: Duration) -> Self {
        Self::within(inner, HELLO_TIME_MAX, stall_max)
    }

    fn within(inner: T, hello_max: Duration, stall_max: Duration) -> Self {
        let deadline = Box::pin(sleep_until(Instant::now() + hello_max));
        Self {
            inner,
            hello: Some((deadline, 0)),
            stall: None,
            stall_max,
        }
    }

    /// What writing came to: progress ends a stall, waiting begins one, and a long one is an error.
    fn judge<R>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stall = None;
            return outcome;
        }
        let until = Instant::now() + self.stall_max;
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(stall.as_mut().poll(cx));
        metrics::counter!("http_connections_stalled_total").increment(1);
        tracing::info!("a client took nothing of its answer for too long and was cut off");
        Poll::Ready(Err(timed_out("nothing of the answer is taken")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let Some((deadline, seen)) = &mut self.hello else {
            return outcome;
        };
        if outcome.is_ready() {
            *seen += buffer.filled().len() - before;
            if *seen >= HELLO_BYTES {
                self.hello = None;
            }
            return outcome;
        }
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(timed_out("no request")))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        self.judge(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.judge(cx, outcome)
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn silence_is_cut_off() {
        let (mut client, server) = duplex(64);
        let mut server = Guarded::within(server, SOON, NEVER);
        client.write_all(b"PRI").await.expect("sent");
        let mut buffer = [0; 64];
        assert_eq!(server.read(&mut buffer).await.expect("three"), 3);
        let cut = server.read(&mut buffer).await.expect_err("silence");
        assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn after_the_first_bytes_silence_is_for_others_to_judge() {
        let (mut client, server) = duplex(64);
        let mut server = Guarded::within(server, SOON, NEVER);
        client.write_all(&[b'x'; HELLO_BYTES]).await.expect("sent");
        let mut buffer = [0; 64];
        assert_eq!(server.read(&mut buffer).await.expect("all"), HELLO_BYTES);
        let quiet = tokio::time::timeout(SOON * 5, server.read(&mut buffer)).await;
        assert!(quiet.is_err(), "an idle connection is hyper's to close");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_given_up() {
        let (mut client, server) = duplex(16);
        let mut server = Guarded::within(server, NEVER, SOON);
        server.write_all(&[0; 16]).await.expect("room");
        let cut = server.write_all(&[0; 16]).await.expect_err("full");
        assert_eq!(cut.kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 16];
        client.read_exact(&mut taken).await.expect("taken");
        server.write_all(&[0; 8]).await.expect("room again");
    }
}
