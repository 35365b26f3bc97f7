//! How long a stream may live: while somebody may be there, something goes on, and we don't stop.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

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

    /// Returns when the stream must end.
    pub(super) async fn over(&self) -> End {
        let config = &self.pass.app.config.gateway;
        let every = seconds(config.recheck_s);
        let mut check = Instant::now() + every;
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = self.idle.map(|idle| last + idle);
            if idle.is_some_and(|idle| idle <= Instant::now()) {
                return End::Idle;
            }
            tokio::select! {
                () = self.pass.app.shutdown.cancelled() => return End::Stopping,
                () = sleep_until(check) => match self.pass.holds().await {
                    Ok(true) => check = Instant::now() + every,
                    Ok(false) => return End::NoAccess,
                    Err(error) => {
                        tracing::warn!(%error, "a stream ended: whether it may go on can't be asked");
                        return End::NoAccess;
                    }
                },
                () = sleep_until(idle.unwrap_or(check)) => {}
            }
        }
    }
}

fn seconds(value: u32) -> Duration {
    Duration::from_secs(u64::from(value))
}
