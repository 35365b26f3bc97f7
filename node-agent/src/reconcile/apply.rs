//! Does the steps of a plan that take time, each as a task of its own.
//!
//! # Invariants
//! - A step is safe to repeat, and safe to be cut off: what it did shows in Docker or in the notes, and the next plan goes on from there.
//! - "Why it is stopped" is noted before it is stopped. "It was started" is noted when Docker has started it, since the two compete for the
//!   disk, and nobody is told that it runs before both are done. (An agent killed between the two finds the container and notes it
//!   then; only a container that someone removes by hand in just that gap would be started a second time.)
//! - An engine that doesn't answer is no failure of the rental.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use shared::{
    id::{LeaseId, RentalId},
    image::{Digest, rules::PinnedImage},
    wire::{
        desired::DesiredRental,
        observed::{ExitCause, Phase},
    },
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Message,
    notes::{Failure, NoteStore},
    plan::Key,
    secrets::Secrets,
};
use crate::{
    kept::KeptLogs,
    runtime::{ContainerRuntime, Created, Fetch, PullProgress, RuntimeError, code, profile},
};

/// Pulls that run at once; others wait.
pub(super) const PULLS_AT_ONCE: usize = 4;
/// Tries of a pull that fails for another reason than an absent image.
const PULL_TRIES: u32 = 3;
/// Pause before the second try; it doubles.
const PULL_PAUSE: Duration = Duration::from_secs(1);
/// At most this often is pull progress passed on.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What all work shares.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) runtime: Arc<dyn ContainerRuntime>,
    pub(super) kept: Arc<KeptLogs>,
    pub(super) notes: Arc<NoteStore>,
    pub(super) secrets: Arc<Secrets>,
    pub(super) pulls: Arc<Semaphore>,
    pub(super) messages: mpsc::Sender<Message>,
}

impl Worker {
    /// Brings a rental up. `Ok` means that there is nothing to retry: it was started, given up (and noted), or aborted.
    pub(super) async fn launch(
        self,
        rental: DesiredRental,
        abort: CancellationToken,
    ) -> Result<(), RuntimeError> {
        match self.bring_up(&rental, &abort).await {
            Err(RuntimeError::Refused { code, reason }) => {
                tracing::warn!(rental.id = %rental.rental_id, rental.code = code, rental.reason = reason, "a rental can't be started");
                let failure = Failure {
                    code: code.to_owned(),
                    reason,
                };
                let (rental_id, lease_id) = (rental.rental_id, rental.lease_id);
                self.notes
                    .change(move |notes| notes.failed(rental_id, lease_id, failure))
                    .await;
                Ok(())
            }
            other => other,
        }
    }

    async fn bring_up(
        &self,
        rental: &DesiredRental,
        abort: &CancellationToken,
    ) -> Result<(), RuntimeError> {
        profile::check_supported(rental)?;
        let Some(created) = self.create(rental, abort).await? else {
            return Ok(());
        };
        let (rental_id, lease_id) = (rental.rental_id, rental.lease_id);
        let (container_id, started) = match created {
            Created::Fresh(id) => (id, false),
            Created::Started(id) => (id, true),
            Created::NoImage => {
                let image = rental.spec.image();
                let why = format!("{image} was fetched but isn't there; try again");
                return Err(RuntimeError::refused(code::IMAGE_PULL_FAILED, why));
            }
        };
        if abort.is_cancelled() && !started {
            return Ok(());
        }
        if !started {
            self.runtime.start(&container_id).await?;
            tracing::info!(rental.id = %rental_id, container.id = container_id, "a rental was started");
        }
        self.notes
            .change(move |notes| notes.started(rental_id, lease_id, &container_id))
            .await;
        Ok(())
    }

    /// Creates the container, after a pull if its image isn't there; `None` when the launch was aborted meanwhile. Whether the image is
    /// there isn't asked first: it mostly is, and the question would make every launch wait.
    async fn create(
        &self,
        rental: &DesiredRental,
        abort: &CancellationToken,
    ) -> Result<Option<Created>, RuntimeError> {
        let created = self.runtime.create(rental).await?;
        if created != Created::NoImage {
            return Ok(Some(created));
        }
        let digest = tokio::select! {
            pulled = self.pull(rental) => pulled?,
            () = abort.cancelled() => return Ok(None),
        };
        let starting = Message::Progress(Key::Rental(rental.rental_id), Phase::Starting);
        if self.messages.send(starting).await.is_err() || abort.is_cancelled() {
            return Ok(None);
        }
        // what was fetched has no tag here: it is named by its digest
        let fetched = DesiredRental {
            image: Some(rental.image.clone().unwrap_or(PinnedImage {
                digest,
                layers: 0,
                bytes: 0,
            })),
            ..rental.clone()
        };
        self.runtime.create(&fetched).await.map(Some)
    }

    async fn pull(&self, rental: &DesiredRental) -> Result<Digest, RuntimeError> {
        let key = Key::Rental(rental.rental_id);
        let last = Mutex::new(None::<Instant>);
        let tell = |progress: PullProgress| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if last.is_none_or(|last| now.duration_since(last) >= PROGRESS_EVERY) {
                *last = Some(now);
                let phase = Phase::Pulling {
                    done_bytes: progress.done_bytes,
                    total_bytes: progress.total_bytes,
                };
                // progress that finds the queue full is old by the time there is room
                self.messages
                    .try_send(Message::Progress(key.clone(), phase))
                    .ok();
            }
        };
        tell(PullProgress::default());
        let Ok(_permit) = self.pulls.acquire().await else {
            return Err(RuntimeError::Unavailable("the agent is ending".to_owned()));
        };
        let mut pause = PULL_PAUSE;
        let mut tries = 1;
        loop {
            let auth = self.secrets.of(rental.rental_id);
            if rental.private_image && auth.is_none() {
                // after a restart of this program: the next reply brings it
                let why = "the market hasn't told yet what the image is fetched with";
                return Err(RuntimeError::Unavailable(why.to_owned()));
            }
            let wanted = Fetch {
                reference: rental.spec.image().to_owned(),
                pinned: rental.image.clone(),
                auth,
            };
            match self.runtime.pull(&wanted, &tell).await {
                Err(RuntimeError::Refused { code, reason })
                    if code == code::IMAGE_PULL_FAILED && tries < PULL_TRIES =>
                {
                    tracing::warn!(rental.id = %rental.rental_id, pull.tries = tries, pull.reason = reason, "a pull failed and is tried again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    /// Notes why, then stops: asks it to end, and kills it after `grace`.
    pub(super) async fn stop(
        self,
        (rental_id, lease_id): (RentalId, LeaseId),
        container_id: String,
        cause: ExitCause,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        tracing::info!(rental.id = %rental_id, container.id = container_id, stop.cause = ?cause, "stopping a rental");
        let noted = container_id.clone();
        self.notes
            .change(move |notes| {
                notes.started(rental_id, lease_id, &noted);
                notes.stopping(rental_id, lease_id, cause);
            })
            .await;
        self.runtime.stop(&container_id, grace).await
    }

    /// Removes, after what it wrote is kept.
    pub(super) async fn remove(self, key: Key, container_id: String) -> Result<(), RuntimeError> {
        if let Key::Rental(rental_id) = key {
            let runtime = self.runtime.as_ref();
            self.kept.keep(runtime, rental_id, &container_id).await?;
        }
        self.runtime.remove(&container_id).await
    }
}
