//! A rental's streams, and the session that they share.
//!
//! # Invariants
//! - There is one session with a container at a time; it goes away when it breaks, when nobody has used it for [`UNUSED_MAX`], and at the
//!   agent's end. With it goes the program that serves it.

use std::{io, sync::Arc, time::Duration};

use shared::link::{
    open::{self, Open},
    session::{Role, Session, Started, Stream},
};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

use super::{STREAMS_MAX, Streams};

/// How long a session is kept without streams.
const UNUSED_MAX: Duration = Duration::from_secs(60);
/// Longer than what serves a rental takes for any answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What a rental's streams share.
#[derive(Debug, Default)]
pub(super) struct Room {
    guests: watch::Sender<usize>,
    inner: Mutex<Option<Inner>>,
}

#[derive(Debug)]
struct Inner {
    container_id: String,
    session: Session,
}

/// A stream that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Guest(Arc<Room>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.guests.send_modify(|guests| *guests -= 1);
    }
}

impl Room {
    /// Counts a stream; `None` if there are as many as may be.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Guest> {
        let entered = self.guests.send_if_modified(|guests| {
            let room = *guests < STREAMS_MAX;
            *guests += usize::from(room);
            room
        });
        entered.then(|| Guest(Arc::clone(self)))
    }

    /// Asks within the container for what `open` says, and returns the stream with the answer's first byte.
    pub(super) async fn open(
        self: &Arc<Self>,
        streams: &Streams,
        container_id: &str,
        open: &Open,
    ) -> io::Result<(u8, Stream)> {
        // a session that is just about to end, or whose program was killed, doesn't answer: it is replaced
        let mut broken = io::Error::from(io::ErrorKind::ConnectionReset);
        for _ in 0..2 {
            let mut stream = self.stream(streams, container_id).await?;
            match timeout(ANSWER_WITHIN, asked(&mut stream, open)).await {
                Ok(Ok(first)) => return Ok((first, stream)),
                Ok(Err(error)) => broken = error,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(broken)
    }

    async fn stream(self: &Arc<Self>, streams: &Streams, container_id: &str) -> io::Result<Stream> {
        let mut inner = self.inner.lock().await;
        if let Some(known) = inner.as_ref().filter(|known| known.serves(container_id))
            && let Ok(stream) = known.session.stream().await
        {
            return Ok(stream);
        }
        *inner = None;
        let entered = streams.sources.runtime.enter(container_id).await;
        let pipe = entered.map_err(io::Error::other)?;
        let Started {
            session, driver, ..
        } = Session::start(pipe, Role::Client);
        let (room, shutdown) = (Arc::clone(self), streams.shutdown.clone());
        streams.tracker.spawn(async move {
            tokio::select! {
                _broken = driver => {}
                () = room.unused() => {}
                () = shutdown.cancelled() => {}
            }
        });
        let known = inner.insert(Inner {
            container_id: container_id.to_owned(),
            session,
        });
        known.session.stream().await
    }

    /// Returns when there was no stream for [`UNUSED_MAX`].
    async fn unused(&self) {
        let mut guests = self.guests.subscribe();
        loop {
            if guests.wait_for(|guests| *guests == 0).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(UNUSED_MAX) => return,
                _changed = guests.changed() => {}
            }
        }
    }
}

async fn asked(stream: &mut Stream, open: &Open) -> io::Result<u8> {
    open::send(stream, open).await?;
    stream.read_u8().await
}

impl Inner {
    fn serves(&self, container_id: &str) -> bool {
        self.container_id == container_id && !self.session.has_ended()
    }
}
