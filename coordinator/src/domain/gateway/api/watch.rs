//! How long a stream may live: while somebody may be there, something goes on, and we don't stop.

use std::{
    future::pending,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use super::pass::Pass;

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was over.
    Ended,
    /// The client went.
    Gone,
    /// The client sent what isn't understood here.
    Violation,
    /// The client takes nothing.
    Stalled,
    /// The rental, or whoever is there, may be there no more.
    NoAccess,
    /// Nothing went on.
    Idle,
    /// The connection to the rental broke.
    Cut,
    /// We stop.
    Stopping,
}

impl End {
    /// As it is counted.
    const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Gone => "gone",
            Self::Violation => "violation",
            Self::Stalled => "stalled",
            Self::NoAccess => "no_access",
            Self::Idle => "idle",
            Self::Cut => "cut",
            Self::Stopping => "stopping",
        }
    }

    /// The close code of a WebSocket, and its reason.
    pub(super) const fn close(self) -> (u16, &'static str) {
        match self {
            Self::Ended | Self::Gone => (1000, ""),
            Self::Violation => (1003, "binary messages are understood here"),
            Self::Stalled => (1008, "nothing was taken for too long"),
            Self::NoAccess => (1008, "the rental has ended, or access to it"),
            Self::Idle => (4408, "nothing went either way for too long"),
            Self::Cut => (4502, "the connection to the rental's node broke"),
            Self::Stopping => (1012, "the coordinator restarts: connect again"),
        }
    }
}

/// A stream's life.
#[derive(Debug)]
pub(super) struct Watch {
    pass: Pass,
    last: Mutex<Instant>,
    idle: Option<Duration>,
}

impl Watch {
    /// Of a stream that may be silent only so long.
    pub(super) fn new(pass: Pass) -> Self {
        let idle = seconds(pass.app.config.gateway.idle_s);
        Self {
            idle: Some(idle),
            ..Self::patient(pass)
        }
    }

    /// Of a stream that may be silent.
    pub(super) fn patient(pass: Pass) -> Self {
        Self {
            pass,
            last: Mutex::new(Instant::now()),
            idle: None,
        }
    }

    /// Something went on.
    pub(super) fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A client takes what there is for it within this.
    pub(super) fn stall(&self) -> Duration {
        seconds(self.pass.app.config.gateway.stall_s)
    }

    /// Returns when nothing has gone on for so long.
    pub(super) async fn quiet(&self, time: Duration) {
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let until = last + time;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// Returns when the stream must end.
    pub(super) async fn over(&self) -> End {
        let every = seconds(self.pass.app.config.gateway.recheck_s);
        let mut check = Instant::now() + every;
        let mut idle = pin!(async {
            match self.idle {
                Some(idle) => self.quiet(idle).await,
                None => pending().await,
            }
        });
        loop {
            tokio::select! {
                () = self.pass.app.shutdown.cancelled() => return End::Stopping,
                () = &mut idle => return End::Idle,
                () = sleep_until(check) => match self.pass.holds().await {
                    Ok(true) => check = Instant::now() + every,
                    Ok(false) => return End::NoAccess,
                    Err(error) => {
                        tracing::warn!(%error, "a stream ended: whether it may go on can't be asked");
                        return End::NoAccess;
                    }
                },
            }
        }
    }

    /// Notes how a stream ended; `kind` is what it carried.
    pub(super) fn ended(&self, kind: &'static str, end: End) {
        metrics::counter!("gateway_streams_ended_total", "kind" => kind, "end" => end.name())
            .increment(1);
        let rental = self.pass.rental;
        if end == End::Stalled {
            tracing::info!(rental.id = %rental, stream.kind = kind, "a client took nothing for too long and was dropped");
        } else {
            tracing::debug!(rental.id = %rental, stream.kind = kind, reason = end.name(), "a stream into a rental ended");
        }
    }
}

/// A connection that tells its watch of whatever goes on.
#[derive(Debug)]
pub(super) struct Watched<T> {
    pub(super) inner: T,
    pub(super) watch: Arc<Watch>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.watch.touch();
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if outcome.is_ready() {
            self.watch.touch();
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

pub(super) fn seconds(value: u32) -> Duration {
    Duration::from_secs(u64::from(value))
}
