//! Whether the other end of a connection still says anything.
//!
//! # Invariants
//! - Any byte counts, not only an answer to what was asked: an answer may wait behind megabytes on a slow line.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// A connection of which is known when it was heard last.
#[derive(Debug)]
pub struct Heard<T> {
    inner: T,
    silence: Silence,
}

/// How long a connection has said nothing.
#[derive(Debug, Clone)]
pub struct Silence {
    since: Instant,
    /// Of the last byte, milliseconds after `since`.
    heard_ms: Arc<AtomicU64>,
}

/// Listens to a connection.
pub fn listen<T>(inner: T) -> (Heard<T>, Silence) {
    let silence = Silence {
        since: Instant::now(),
        heard_ms: Arc::default(),
    };
    let heard = Heard {
        inner,
        silence: silence.clone(),
    };
    (heard, silence)
}

impl Silence {
    /// Returns when nothing was heard for so long.
    pub async fn lasts(&self, long: Duration) {
        loop {
            let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
            let until = self.since + heard + long;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn note(&self) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(ms, Ordering::Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.silence.note();
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
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
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn any_byte_ends_a_silence() {
        let (mut far, near) = duplex(64);
        let (mut near, silence) = listen(near);
        sleep_until(Instant::now() + Duration::from_millis(30)).await;
        far.write_all(b"x").await.expect("written");
        let heard = Instant::now();
        near.read_u8().await.expect("read");
        silence.lasts(Duration::from_millis(50)).await;
        // counted in whole milliseconds
        assert!(heard.elapsed() >= Duration::from_millis(49));
    }
}
