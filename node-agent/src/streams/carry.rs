//! Bytes both ways between two streams ([`both_ways()`]) until nothing moves any more.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep},
};

use crate::both_ways;

/// In hand for each direction.
const BUFFER_BYTES: usize = 64 * 1_024;

/// Carries until both directions have ended, one broke, or nothing moved for `idle`.
pub(super) async fn both_ways(
    outer: &mut (impl AsyncRead + AsyncWrite + Unpin),
    inner: &mut (impl AsyncRead + AsyncWrite + Unpin),
    idle: Duration,
) -> io::Result<()> {
    let moved = Moved {
        began: Instant::now(),
        last_ms: AtomicU64::new(0),
    };
    let mut watched = Watched {
        stream: inner,
        moved: &moved,
    };
    tokio::select! {
        carried = both_ways::carry(outer, &mut watched, BUFFER_BYTES) => carried,
        () = moved.stopped(idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// When bytes moved last.
struct Moved {
    began: Instant,
    last_ms: AtomicU64,
}

impl Moved {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    async fn stopped(&self, idle: Duration) {
        loop {
            let last_ms = self.last_ms.load(Ordering::Relaxed);
            let still = Duration::from_millis(self.now_ms().saturating_sub(last_ms));
            match idle.checked_sub(still) {
                Some(left) if !left.is_zero() => sleep(left).await,
                _ => return,
            }
        }
    }
}

struct Watched<'a, S> {
    stream: &'a mut S,
    moved: &'a Moved,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.moved.note();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.moved.note();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn silence_ends_it_and_bytes_put_that_off() {
        let idle = Duration::from_millis(500);
        let (mut user, mut outer) = duplex(64);
        let (mut inner, mut rental) = duplex(64);
        let began = Instant::now();
        let carrying = tokio::spawn(async move { both_ways(&mut outer, &mut inner, idle).await });
        sleep(idle / 2).await;
        user.write_all(b"x").await.expect("sent");
        assert_eq!(rental.read_u8().await.expect("carried"), b'x');
        let ended = carrying.await.expect("it ended").expect_err("by silence");
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= idle + idle / 2);
    }
}
