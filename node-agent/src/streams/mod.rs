//! Serves the streams that a coordinator opens about this node's rentals.
//!
//! | file | what |
//! |---|---|
//! | `room` | a rental's session with what serves within its container: begun when it is needed, ended when nobody uses it |
//! | `carry` | bytes of programs, files and connections, both ways |
//! | `lines` | what is told as lines of JSON |
//!
//! # Invariants
//! - A stream is about one rental that is here; programs, files and connections need it to run, and end with it.
//! - What a rental's side sends is carried and never read: it is a stranger's.
//! - How many streams a rental has is bounded, and one that is silent for [`IDLE_MAX`] is closed, but for a log that is followed.

mod carry;
mod lines;
mod room;

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shared::{
    id::RentalId,
    link::{
        open::{self, Open, Opened, code},
        session::Stream,
    },
    wire::observed::Phase,
};
use tokio::{io::AsyncWriteExt as _, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::room::Room;
use crate::{
    kept::KeptLogs, rental::LiveRental, report::samples::Samples, runtime::ContainerRuntime,
};

/// Streams of one rental at once.
pub const STREAMS_MAX: usize = 64;
/// A stream on which nothing moves for this long is closed.
pub const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// What streams are served from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The container engine.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// What rentals wrote that are over.
    pub kept: Arc<KeptLogs>,
    /// What rentals used.
    pub samples: Arc<Samples>,
    /// What runs here now.
    pub live: watch::Receiver<Vec<LiveRental>>,
}

/// Serves streams.
pub struct Streams {
    sources: Sources,
    rooms: Mutex<HashMap<RentalId, Arc<Room>>>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

/// What this node knows of a rental.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It isn't here.
    Unknown,
    /// It is here and has no container that runs; its container, if it has one.
    Resting(Option<String>),
    /// It runs, in this container.
    Running(String),
}

impl Streams {
    /// From these sources, until `shutdown`; sessions with rentals are tasks of `tracker`.
    #[must_use]
    pub fn new(sources: Sources, shutdown: CancellationToken, tracker: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            sources,
            rooms: Mutex::default(),
            shutdown,
            tracker,
        })
    }

    /// Serves a stream of the link whose `open` was read, until it ends.
    pub async fn serve(self: Arc<Self>, open: Open, mut stream: Stream) {
        let served = tokio::select! {
            served = Box::pin(self.admit(open, &mut stream)) => served,
            () = self.shutdown.cancelled() => return,
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a stream broke");
        }
    }

    async fn admit(&self, open: Open, stream: &mut Stream) -> io::Result<()> {
        let Some(rental_id) = open.rental_id() else {
            let refused =
                Opened::refused(code::NOT_SUPPORTED, "the link has such a stream already");
            return open::send(stream, &refused).await;
        };
        let room = self.room(rental_id);
        let Some(guest) = room.enter() else {
            let why = format!("{STREAMS_MAX} streams of this rental are open; close some first");
            return open::send(stream, &Opened::refused(code::TOO_MANY, why)).await;
        };
        tracing::debug!(rental.id = %rental_id, stream.kind = kind(&open), "a stream is opened");
        let served = match open {
            Open::Logs { query, .. } => self.logs(rental_id, query, stream).await,
            Open::Exec { .. } | Open::Sftp { .. } | Open::Dial { .. } => {
                self.within(&room, (rental_id, &open), stream).await
            }
            Open::Metrics { follow, .. } => self.metrics(rental_id, follow, stream).await,
            Open::Control {} => Ok(()),
        };
        drop(guest);
        served
    }

    /// The rental's room; those that nobody uses are forgotten.
    fn room(&self, rental_id: RentalId) -> Arc<Room> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|_, room| Arc::strong_count(room) > 1);
        Arc::clone(rooms.entry(rental_id).or_default())
    }

    /// Carries what is served within the rental's container.
    async fn within(
        &self,
        room: &Arc<Room>,
        (rental_id, open): (RentalId, &Open),
        stream: &mut Stream,
    ) -> io::Result<()> {
        let container_id = match known(&self.sources.live.borrow(), rental_id) {
            Known::Running(container_id) => Ok(container_id),
            Known::Resting(_) => Err(not_running()),
            Known::Unknown => Err(not_here()),
        };
        let container_id = match container_id {
            Ok(container_id) => container_id,
            Err(refused) => return open::send(stream, &refused).await,
        };
        let (first, mut inner) = match room.open(self, &container_id, open).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::info!(rental.id = %rental_id, %error, "a rental can't be entered");
                let why =
                    "the rental can't be entered now; try again, and tell its provider if it stays";
                return open::send(stream, &Opened::refused(code::UNAVAILABLE, why)).await;
            }
        };
        stream.write_all(&[first]).await?;
        tokio::select! {
            carried = carry::both_ways(stream, &mut inner, IDLE_MAX) => carried,
            () = self.ended(rental_id, &container_id) => Ok(()),
        }
    }

    /// Returns when the rental doesn't run in this container any more.
    async fn ended(&self, rental_id: RentalId, container_id: &str) {
        let mut live = self.sources.live.clone();
        let runs = |live: &Vec<LiveRental>| matches!(known(live, rental_id), Known::Running(id) if id == container_id);
        // without anybody who knows, nothing is known to run
        drop(live.wait_for(|live| !runs(live)).await);
    }
}

fn not_running() -> Opened {
    let why = "the rental hasn't started yet, or has ended; only its logs can be read";
    Opened::refused(code::NOT_RUNNING, why)
}

fn not_here() -> Opened {
    Opened::refused(code::UNKNOWN_RENTAL, "the rental isn't on this node")
}

fn known(live: &[LiveRental], rental_id: RentalId) -> Known {
    let mut same = live.iter().map(|rental| &rental.observed);
    let Some(observed) = same.find(|observed| observed.rental_id == rental_id) else {
        return Known::Unknown;
    };
    match (&observed.phase, &observed.container_id) {
        // one that is asked to end may be looked into until it has
        (Phase::Running | Phase::Stopping, Some(id)) if observed.started_at.is_some() => {
            Known::Running(id.clone())
        }
        (_, id) => Known::Resting(id.clone()),
    }
}

/// For log lines.
const fn kind(open: &Open) -> &'static str {
    match open {
        Open::Control {} => "control",
        Open::Logs { .. } => "logs",
        Open::Exec { .. } => "exec",
        Open::Sftp { .. } => "sftp",
        Open::Dial { .. } => "dial",
        Open::Metrics { .. } => "metrics",
    }
}

#[cfg(test)]
mod tests;
