//! The reconciler's loop. It alone reads the engine and decides; tasks that it spawns do the slow steps.
//!
//! # Invariants
//! - Reads happen here, one after another, and each finished step is followed by a read: what is seen last is what was so last.
//! - Plans are made only on a view that an engine's answer confirmed ([`Driver::view_holds`]).
//! - Each wait of the loop is cancel-safe: messages come from a channel, finished work from a join set, the wish from a watch.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use shared::{
    clock::Clock,
    id::{LeaseId, RentalId},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Backoff, MESSAGES_MAX, Message,
    apply::Worker,
    observe::{Seen, observe},
    plan::{Busy, Key, Step, View, plan},
    works::{Ended, Works},
};
use crate::{
    desired::Wish,
    lease::Now,
    rental::LiveRental,
    runtime::{Container, RuntimeError, profile},
};

/// Everything is looked at this often, even if no event came.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The longest sleep: the timer's clock stops while a machine sleeps and the leases' clock doesn't, so it is checked this often.
const SLEEP_MAX_MS: i64 = 1_000;
/// Plans made in one round; each but the last changed the notes.
const PLANS_PER_ROUND: usize = 4;
/// The loop's state.
#[derive(Debug)]
pub(super) struct Driver {
    worker: Worker,
    wish: watch::Receiver<Arc<Wish>>,
    clock: Arc<dyn Clock>,
    live: watch::Sender<Vec<LiveRental>>,
    shutdown: CancellationToken,
    /// As the engine said last; `None` before it ever answered.
    containers: Option<Vec<Container>>,
    /// Whether nothing happened since that may have made the view wrong.
    view_holds: bool,
    look_at: Instant,
    look_backoff: Backoff,
    works: Works,
}

impl Driver {
    pub(super) fn new(
        worker: Worker,
        wish: watch::Receiver<Arc<Wish>>,
        clock: Arc<dyn Clock>,
        live: watch::Sender<Vec<LiveRental>>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            worker,
            wish,
            clock,
            live,
            shutdown,
            containers: None,
            view_holds: false,
            look_at: Instant::now(),
            look_backoff: Backoff::default(),
            works: Works::default(),
        }
    }

    /// Runs until shutdown; `looked` is told after the engine's first answer was published.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        looked: oneshot::Sender<()>,
    ) {
        let mut looked = Some(looked);
        let mut batch = Vec::new();
        loop {
            if Instant::now() >= self.look_at {
                self.look().await;
            }
            self.round().await;
            if self.containers.is_some()
                && let Some(looked) = looked.take()
            {
                // whoever waited may have given up
                looked.send(()).ok();
            }
            let pause = self.pause();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                changed = self.wish.changed() => if changed.is_err() { break },
                Some(ended) = self.works.next_end() => self.finish(ended).await,
                taken = inbox.recv_many(&mut batch, MESSAGES_MAX) => {
                    if taken == 0 {
                        break;
                    }
                    self.take(&mut batch).await;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.works.finish().await;
    }

    /// How long to sleep if nothing happens.
    fn pause(&self) -> Duration {
        let now = Now::read(self.clock.as_ref());
        let lease_ms = self.wish.borrow().leases.next_end_in_ms(now);
        let sleep_ms = lease_ms.unwrap_or(SLEEP_MAX_MS).clamp(0, SLEEP_MAX_MS);
        let instant = Instant::now();
        [Some(self.look_at), self.works.next_try()]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(instant))
            .fold(
                Duration::from_millis(sleep_ms.unsigned_abs()),
                Duration::min,
            )
    }

    /// Reads all containers.
    async fn look(&mut self) {
        match self.worker.runtime.list().await {
            Ok(containers) => {
                if self.look_backoff.tries > 0 {
                    tracing::info!("the container engine answers again");
                }
                self.containers = Some(containers);
                self.view_holds = true;
                self.look_backoff = Backoff::default();
                self.look_at = Instant::now() + LOOK_EVERY;
            }
            Err(error) => self.lose_view(&error),
        }
    }

    /// The engine's state is uncertain: keep the last view for telling, but decide nothing on it, and look again soon.
    fn lose_view(&mut self, error: &RuntimeError) {
        if self.look_backoff.tries == 0 {
            tracing::warn!(%error, "the container engine can't be read; rentals are left as they are");
        }
        self.view_holds = false;
        self.look_at = Instant::now() + self.look_backoff.next();
    }

    /// Reads one container.
    async fn look_at_one(&mut self, container_id: &str) {
        let Some(containers) = &mut self.containers else {
            return;
        };
        match self.worker.runtime.inspect(container_id).await {
            Ok(found) => {
                containers.retain(|known| known.id != container_id);
                containers.extend(found);
            }
            Err(error) => self.lose_view(&error),
        }
    }

    async fn take(&mut self, batch: &mut Vec<Message>) {
        let mut touched = BTreeSet::new();
        let mut all = false;
        for message in batch.drain(..) {
            match message {
                Message::Resync => all = true,
                // a container that is worked on is looked at when the work is done; asking now would wait for Docker's start of it
                Message::Touched(event) if self.is_busy(event.rental_id) => {}
                Message::Touched(event) => {
                    touched.insert(event.container_id);
                }
                Message::Progress(key, phase) => {
                    self.works.progress(&key, phase);
                }
            }
        }
        if all {
            self.look().await;
            return;
        }
        for id in touched {
            self.look_at_one(&id).await;
        }
    }

    fn is_busy(&self, rental_id: Option<RentalId>) -> bool {
        rental_id.is_some_and(|id| self.works.is_under_way(&Key::Rental(id)))
    }

    /// Plans and does, until a plan changes no notes; then tells.
    async fn round(&mut self) {
        for _ in 0..PLANS_PER_ROUND {
            let steps = self.steps();
            let mut noted = false;
            for step in steps {
                noted |= self.execute(step).await;
            }
            if !noted {
                break;
            }
        }
        self.publish();
    }

    fn steps(&mut self) -> Vec<Step> {
        let wish = Arc::clone(&self.wish.borrow_and_update());
        let Some(containers) = self.containers.as_ref().filter(|_| self.view_holds) else {
            return Vec::new();
        };
        plan(&View {
            wish: &wish,
            containers,
            notes: &self.worker.notes.current(),
            busy: &self.works.busy(),
            now: Now::read(self.clock.as_ref()),
        })
    }

    /// Does a step, or starts it; returns whether it changed the notes.
    async fn execute(&mut self, step: Step) -> bool {
        let worker = self.worker.clone();
        match step {
            Step::Launch(rental) => {
                let key = Key::Rental(rental.rental_id);
                let abort = self.shutdown.child_token();
                let work = worker.launch(*rental, abort.clone());
                self.works.spawn(key, Busy::Launching, abort, work);
            }
            Step::Abort(rental_id) => self.works.abort(&Key::Rental(rental_id)),
            Step::Stop(rental_id, container_id, cause) => {
                if let Some(lease_id) = self.lease_of(rental_id) {
                    let grace = self.grace(rental_id, lease_id);
                    let work = worker.stop((rental_id, lease_id), container_id, cause, grace);
                    let never = CancellationToken::new();
                    self.works
                        .spawn(Key::Rental(rental_id), Busy::Ending, never, work);
                }
            }
            Step::Remove(key, container_id, why) => {
                tracing::info!(container.id = container_id, remove.why = ?why, "removing a container");
                let work = worker.remove(key.clone(), container_id);
                self.works
                    .spawn(key, Busy::Ending, CancellationToken::new(), work);
            }
            Step::Adopt(rental_id, container_id) => {
                if let Some(lease_id) = self.lease_of(rental_id) {
                    tracing::info!(rental.id = %rental_id, container.id = container_id, "adopting a container");
                    worker
                        .notes
                        .change(move |notes| notes.started(rental_id, lease_id, &container_id))
                        .await;
                    return true;
                }
            }
            Step::Fail(rental_id, failure) => {
                if let Some(lease_id) = self.lease_of(rental_id) {
                    tracing::warn!(rental.id = %rental_id, rental.code = failure.code, "a rental is given up");
                    worker
                        .notes
                        .change(move |notes| notes.failed(rental_id, lease_id, failure))
                        .await;
                    return true;
                }
            }
            Step::Forget(rental_id) => {
                worker
                    .notes
                    .change(move |notes| notes.forget(rental_id))
                    .await;
                return true;
            }
        }
        false
    }

    /// How long a process may take to end once asked: never beyond its lease, after which nothing is paid.
    fn grace(&self, rental_id: RentalId, lease_id: LeaseId) -> Duration {
        let now = Now::read(self.clock.as_ref());
        let left_ms = self.wish.borrow().leases.left_ms(rental_id, lease_id, now);
        let left = Duration::from_millis(left_ms.max(0).unsigned_abs());
        left.min(Duration::from_secs(profile::STOP_GRACE_S.unsigned_abs()))
    }

    /// The lease under which the market wants a rental.
    fn lease_of(&self, rental_id: RentalId) -> Option<LeaseId> {
        let wish = self.wish.borrow();
        let rentals = &wish.desired.as_ref()?.rentals;
        let rental = rentals
            .iter()
            .find(|rental| rental.rental_id == rental_id)?;
        Some(rental.lease_id)
    }

    /// Takes the end of a piece of work and looks at what it left.
    async fn finish(&mut self, ended: Ended) {
        let Some((key, to_its_end)) = self.works.end(ended) else {
            return;
        };
        if !to_its_end {
            // nobody knows what it did
            self.look().await;
        }
        self.look_after(&key).await;
    }

    /// Reads the containers that a finished piece of work may have changed.
    async fn look_after(&mut self, key: &Key) {
        let known = self.containers.iter().flatten();
        let mut ids: Vec<String> = known
            .filter(|container| Key::of(container) == *key)
            .map(|container| container.id.clone())
            .collect();
        if let Key::Rental(rental_id) = key
            && let Some(lease_id) = self.lease_of(*rental_id)
            && let Some(note) = self.worker.notes.current().get(*rental_id, lease_id)
            && let Some(noted) = &note.container_id
            && !ids.contains(noted)
        {
            ids.push(noted.clone());
        }
        for id in ids {
            self.look_at_one(&id).await;
        }
    }

    fn publish(&self) {
        let live = observe(&Seen {
            wish: &self.wish.borrow(),
            containers: self.containers.as_deref(),
            notes: &self.worker.notes.current(),
            phases: self.works.phases(),
        });
        self.live.send_if_modified(|known| {
            let changed = *known != live;
            *known = live;
            changed
        });
    }
}
