//! Connections to another coordinator, and whether they have room.
//!
//! # Invariants
//! - Nothing is held while room is waited for: a full connection keeps nobody from another.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared::link::session::{Session, Stream};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

/// A connection on which no stream begins within this is full.
const ROOM_TIME_MAX: Duration = Duration::from_secs(1);

/// Connections to another coordinator.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Those that were full are asked last.
    sessions: Mutex<Vec<Session>>,
    /// When dialling failed; held by whoever dials.
    pub(super) failed_at: AsyncMutex<Option<Instant>>,
}

impl Peer {
    /// Connections that live.
    pub(super) fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| !session.has_ended());
        sessions
    }

    pub(super) fn untried(&self, tried: &[Session]) -> Option<Session> {
        let sessions = self.sessions();
        let is_new = |session: &&Session| !tried.iter().any(|other| other.is(session));
        sessions.iter().find(is_new).cloned()
    }

    pub(super) fn put_last(&self, full: &Session) {
        let mut sessions = self.sessions();
        if let Some(place) = sessions.iter().position(|session| session.is(full)) {
            sessions[place..].rotate_left(1);
        }
    }
}

/// Begins a stream on a connection, if there is room.
pub(super) async fn begin(session: &Session) -> io::Result<Stream> {
    let begun = timeout(ROOM_TIME_MAX, session.stream()).await;
    begun.unwrap_or_else(|_| Err(full()))
}

pub(super) fn full() -> io::Error {
    let why = "the connection to its node has no room for another stream: try again";
    io::Error::new(io::ErrorKind::QuotaExceeded, why)
}
