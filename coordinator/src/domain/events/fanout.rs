//! From the table to listeners: a broadcast of what was just placed, and a feed that never misses nor repeats.

use std::sync::Arc;

use tokio::sync::{
    Semaphore,
    broadcast::{self, error::RecvError},
};

use super::{StoredEvent, store};
use crate::{error::Result, store::Db};

const BROADCAST_LENGTH: usize = 1024;
const PAGE_LENGTH: i64 = 200;

/// The live end of the stream.
#[derive(Debug)]
pub struct Events {
    live: broadcast::Sender<Arc<StoredEvent>>,
    /// Open streams to clients; each holds a permit.
    pub(super) streams: Arc<Semaphore>,
}

impl Events {
    /// With room for `streams_max` clients.
    #[must_use]
    pub fn new(streams_max: u32) -> Self {
        let streams_max = usize::try_from(streams_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            live: broadcast::Sender::new(BROADCAST_LENGTH),
            streams: Arc::new(Semaphore::new(streams_max.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Streams that clients may still open.
    #[must_use]
    pub fn places_free(&self) -> usize {
        self.streams.available_permits()
    }

    /// Events from now on, in order of their places. A receiver that lags has missed some: read the truth anew then,
    /// or use a [`Feed`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StoredEvent>> {
        self.live.subscribe()
    }

    /// Sends an event to those who listen now; only the relay calls this, in order.
    pub fn publish(&self, event: StoredEvent) {
        // an error means that nobody listens
        drop(self.live.send(Arc::new(event)));
    }
}

/// Places what was committed and publishes what was placed, here or by another coordinator.
#[derive(Debug, Default)]
pub struct Relay {
    /// The last place published; nothing until the first run, which begins at the end.
    published: Option<i64>,
}

impl Relay {
    /// Does what is due; returns how many events it placed and published. May be dropped and run again.
    ///
    /// # Errors
    /// What the database says.
    pub async fn run(&mut self, db: &Db, events: &Events) -> Result<(u64, u64)> {
        if self.published.is_none() {
            self.published = Some(db.read("events_head", store::head).await?);
        }
        let mut placed = 0;
        while db.read("events_waiting", store::any_waiting).await? {
            placed += db.write("events_place", super::place).await?;
            // publish before placing more: listeners shouldn't wait for a long backlog
            self.publish(db, events).await?;
        }
        let published = self.publish(db, events).await?;
        Ok((placed, published))
    }

    async fn publish(&mut self, db: &Db, events: &Events) -> Result<u64> {
        let mut count = 0;
        loop {
            let last = self.published.unwrap_or_default();
            let page = db
                .read("events_page", move |tx| store::after(tx, last, PAGE_LENGTH))
                .await?;
            if page.is_empty() {
                return Ok(count);
            }
            for event in page {
                self.published = Some(event.seq);
                count += 1;
                events.publish(event);
            }
        }
    }
}

/// The stream from one place on: first from the table, then live, then from the table again if it fell behind.
#[derive(Debug)]
pub struct Feed {
    db: Db,
    live: broadcast::Receiver<Arc<StoredEvent>>,
    /// The place of the last event returned.
    last: i64,
    /// The table may hold events after `last` that the live end won't bring.
    behind: bool,
    page: std::collections::VecDeque<StoredEvent>,
}

impl Feed {
    /// The feed after place `after`, or from now on.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(db: &Db, events: &Events, after: Option<i64>) -> Result<Self> {
        // listen first: what is placed from here on can't fall between the table and the live end
        let live = events.subscribe();
        let head = db.read("events_head", store::head).await?;
        // a place that was never given is another database's: begin at the end
        let last = after.map_or(head, |after| after.clamp(0, head));
        Ok(Self {
            db: db.clone(),
            live,
            last,
            behind: last < head,
            page: std::collections::VecDeque::new(),
        })
    }

    /// The next event; waits for it. Nothing when the coordinator stops. May be dropped and called again.
    ///
    /// # Errors
    /// What the database says.
    pub async fn next(&mut self) -> Result<Option<Arc<StoredEvent>>> {
        loop {
            if let Some(event) = self.page.pop_front() {
                self.last = event.seq;
                return Ok(Some(Arc::new(event)));
            }
            if self.behind {
                // seldom, and large: thousands of feeds wait below
                Box::pin(self.fill()).await?;
                continue;
            }
            match self.live.recv().await {
                Ok(event) if event.seq <= self.last => {}
                Ok(event) if event.seq == self.last.saturating_add(1) => {
                    self.last = event.seq;
                    return Ok(Some(event));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        let last = self.last;
        let page = self
            .db
            .read("events_page", move |tx| store::after(tx, last, PAGE_LENGTH))
            .await?;
        self.behind = !page.is_empty();
        self.page = page.into();
        Ok(())
    }
}
