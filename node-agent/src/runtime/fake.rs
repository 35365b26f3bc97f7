//! A container engine in memory, for tests: it keeps containers as Docker would, and breaks when told to.
//!
//! # Invariants
//! - Same contract as Docker: names are unique per rental, an ended container can't be started, what is gone is no error.
//! - Nothing succeeds by accident: an image must have been put somewhere before it can be used.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use shared::{
    clock::Clock,
    id::RentalId,
    image::Digest,
    journal::Exit,
    link::open::{Entry, LogsQuery},
    time::Timestamp,
    wire::desired::DesiredRental,
};
use tokio::{
    sync::{broadcast, watch},
    task::AbortHandle,
};

use super::{
    Container, ContainerRuntime, ContainerState, Created, DiskUse, EngineFacts, Event, Fetch,
    HeldLimits, OnProgress, Pipe, PullProgress, RuntimeError, code, profile, self_test::SelfTest,
};

mod calls;
mod looks;
mod said;
mod within;

pub use calls::Op;
use looks::Waiting;

/// Events that a slow listener may be behind.
const EVENTS_MAX: usize = 1_024;

#[derive(Debug)]
struct Image {
    has_volumes: bool,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<String, Container>,
    images: BTreeMap<String, Image>,
    fetched: Vec<Fetch>,
    limits: BTreeMap<String, HeldLimits>,
    written: BTreeMap<String, Vec<Entry>>,
    entered: Vec<AbortHandle>,
    registry: BTreeSet<String>,
    down: bool,
    failures: BTreeMap<Op, Vec<RuntimeError>>,
    held: BTreeSet<Op>,
    waiting: BTreeMap<Op, usize>,
    calls: Vec<(Op, String)>,
    graces: Vec<Duration>,
    minted: u32,
}

/// The engine. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct FakeRuntime {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<Event>,
    /// Counts changes that calls may wait for.
    turned: watch::Sender<u64>,
}

impl FakeRuntime {
    /// An engine without containers and images; container times come from `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Arc::default(),
            clock,
            events: broadcast::Sender::new(EVENTS_MAX),
            turned: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) {
        self.turned.send_modify(|turns| *turns += 1);
    }

    /// Puts an image on this machine.
    pub fn add_image(&self, reference: &str, has_volumes: bool) {
        let image = Image { has_volumes };
        self.lock().images.insert(reference.to_owned(), image);
    }

    /// Puts an image where a pull finds it.
    pub fn add_to_registry(&self, reference: &str) {
        self.lock().registry.insert(reference.to_owned());
    }

    /// Makes every call fail (and events end) as if the engine were gone, or lets it come back with the containers that it had.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
        self.turn();
    }

    /// Makes the next call of `op` fail; several are used up in order.
    pub fn fail_next(&self, op: Op, error: RuntimeError) {
        self.lock().failures.entry(op).or_default().push(error);
    }

    /// Lets calls of `op` wait until [`FakeRuntime::release`].
    pub fn hold(&self, op: Op) {
        self.lock().held.insert(op);
    }

    /// Lets waiting calls of `op` go on.
    pub fn release(&self, op: Op) {
        self.lock().held.remove(&op);
        self.turn();
    }

    /// Ends a rental's running container as its process would.
    pub fn exit(&self, rental_id: RentalId, exit: Exit) {
        let now = self.clock.now();
        let ended = {
            let mut state = self.lock();
            let containers = state.containers.values_mut();
            containers
                .filter(|c| c.rental_id == Some(rental_id))
                .find(|c| c.state == ContainerState::Running)
                .map(|container| {
                    end(container, exit, now);
                    container.clone()
                })
        };
        self.tell(ended.as_ref());
    }

    /// Removes a container behind the agent's back.
    pub fn vanish(&self, container_id: &str) {
        let gone = self.lock().containers.remove(container_id);
        self.tell(gone.as_ref());
    }

    /// Puts a container there, as an earlier agent or a stranger would have left it.
    pub fn put(&self, container: &Container) {
        let id = container.id.clone();
        self.lock().containers.insert(id, container.clone());
        self.tell(Some(container));
    }

    /// All containers.
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        self.lock().containers.values().cloned().collect()
    }

    fn tell(&self, container: Option<&Container>) {
        let event = container.map(|container| Event {
            container_id: container.id.clone(),
            rental_id: container.rental_id,
        });
        if let Some(event) = event {
            // nobody listens: nobody needs to know
            self.events.send(event).ok();
            self.turn();
        }
    }

    /// What every call begins with.
    async fn call(&self, op: Op, about: &str) -> Result<(), RuntimeError> {
        let mut turned = self.turned.subscribe();
        self.lock().calls.push((op, about.to_owned()));
        let _waiting = Waiting::new(self, op);
        loop {
            {
                let mut state = self.lock();
                if state.down {
                    return Err(RuntimeError::Unavailable("it is down".to_owned()));
                }
                let failures = state.failures.get_mut(&op).filter(|f| !f.is_empty());
                if let Some(failures) = failures {
                    return Err(failures.remove(0));
                }
                if !state.held.contains(&op) {
                    return Ok(());
                }
            }
            if turned.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

fn end(container: &mut Container, exit: Exit, now: Timestamp) {
    container.state = ContainerState::Exited(exit);
    container.pid = None;
    container.finished_at = Some(now);
}

#[async_trait]
impl ContainerRuntime for FakeRuntime {
    async fn facts(&self) -> Result<EngineFacts, RuntimeError> {
        self.call(Op::Facts, "").await?;
        Ok(said::facts())
    }

    async fn self_test(&self) -> Result<SelfTest, RuntimeError> {
        self.call(Op::SelfTest, "").await?;
        Ok(SelfTest::default())
    }

    async fn disk_use(&self) -> Result<Vec<DiskUse>, RuntimeError> {
        Ok(Vec::new())
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.call(Op::List, "").await?;
        Ok(self.containers())
    }

    async fn inspect(&self, container_id: &str) -> Result<Option<Container>, RuntimeError> {
        self.call(Op::Inspect, container_id).await?;
        Ok(self.lock().containers.get(container_id).cloned())
    }

    async fn pull(
        &self,
        wanted: &Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<Digest, RuntimeError> {
        let reference = wanted.reference.as_str();
        on_progress(PullProgress {
            done_bytes: 1,
            total_bytes: 2,
        });
        self.call(Op::Pull, reference).await?;
        let mut state = self.lock();
        if !state.registry.contains(reference) {
            let why = "the registry doesn't have it";
            return Err(RuntimeError::refused(code::IMAGE_NOT_FOUND, why));
        }
        let image = Image { has_volumes: false };
        state.images.insert(reference.to_owned(), image);
        state.fetched.push(wanted.clone());
        let pinned = wanted.pinned.as_ref();
        Ok(pinned.map_or_else(|| Digest::of(b"an image"), |pinned| pinned.digest.clone()))
    }

    async fn create(&self, rental: &DesiredRental) -> Result<Created, RuntimeError> {
        profile::check_supported(rental)?;
        self.call(Op::Create, &rental.rental_id.to_string()).await?;
        let created = {
            let mut state = self.lock();
            let known = state.containers.values();
            let mut same = known.filter(|c| c.rental_id == Some(rental.rental_id));
            if let Some(known) = same.next() {
                if known.lease_id != Some(rental.lease_id) {
                    let why = "its name is taken by an earlier lease".to_owned();
                    return Err(RuntimeError::Unavailable(why));
                }
                let id = known.id.clone();
                return Ok(match known.state {
                    ContainerState::Created => Created::Fresh(id),
                    _ => Created::Started(id),
                });
            }
            let Some(image) = state.images.get(rental.spec.image()) else {
                return Ok(Created::NoImage);
            };
            if image.has_volumes {
                let why = "the image declares volumes";
                return Err(RuntimeError::refused(code::IMAGE_NOT_SUPPORTED, why));
            }
            state.minted += 1;
            let container = Container {
                id: format!("{:064x}", state.minted),
                rental_id: Some(rental.rental_id),
                lease_id: Some(rental.lease_id),
                spec_sha256: rental.spec.sha256_hex(),
                gpus: rental.gpus.clone(),
                state: ContainerState::Created,
                pid: None,
                started_at: None,
                finished_at: None,
                image_digest: Some(format!("sha256:{}", "1".repeat(64))),
                over_disk: None,
            };
            let limits = HeldLimits {
                ram_bytes: rental.resources.ram_bytes,
                cpu_millis: rental.resources.cpu_millis,
            };
            state.limits.insert(container.id.clone(), limits);
            state
                .containers
                .insert(container.id.clone(), container.clone());
            container
        };
        self.tell(Some(&created));
        Ok(Created::Fresh(created.id))
    }

    async fn start(&self, container_id: &str) -> Result<(), RuntimeError> {
        self.call(Op::Start, container_id).await?;
        let now = self.clock.now();
        let started = {
            let mut state = self.lock();
            state.minted += 1;
            let pid = i32::try_from(state.minted).unwrap_or(i32::MAX);
            let container = state.containers.get_mut(container_id);
            let container = container
                .filter(|c| c.state == ContainerState::Created)
                .ok_or_else(|| RuntimeError::refused(code::START_FAILED, "it can't be started"))?;
            container.state = ContainerState::Running;
            container.pid = Some(pid);
            container.started_at = Some(now);
            container.clone()
        };
        self.tell(Some(&started));
        Ok(())
    }

    async fn stop(&self, container_id: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.lock().graces.push(grace);
        self.call(Op::Stop, container_id).await?;
        let now = self.clock.now();
        let exit = Exit {
            code: 143,
            oom_killed: false,
        };
        let stopped = {
            let mut state = self.lock();
            let container = state.containers.get_mut(container_id);
            container
                .filter(|c| c.state == ContainerState::Running)
                .map(|container| {
                    end(container, exit, now);
                    container.clone()
                })
        };
        self.tell(stopped.as_ref());
        Ok(())
    }

    async fn remove(&self, container_id: &str) -> Result<(), RuntimeError> {
        self.call(Op::Remove, container_id).await?;
        self.vanish(container_id);
        Ok(())
    }

    fn events(&self, _since: Timestamp) -> BoxStream<'static, Result<Event, RuntimeError>> {
        let (engine, events) = (self.clone(), self.events.subscribe());
        let turned = self.turned.subscribe();
        stream::unfold(
            (engine, events, turned),
            |(engine, mut events, mut turned)| async {
                loop {
                    if engine.lock().down {
                        return None;
                    }
                    tokio::select! {
                        event = events.recv() => {
                            let event = event.map_err(|e| RuntimeError::Unavailable(e.to_string()));
                            return Some((event, (engine, events, turned)));
                        }
                        _ = turned.changed() => {}
                    }
                }
            },
        )
        .boxed()
    }

    async fn enter(&self, container_id: &str) -> Result<Pipe, RuntimeError> {
        self.entered(container_id).await
    }

    fn logs(
        &self,
        container_id: &str,
        query: LogsQuery,
    ) -> BoxStream<'static, Result<Entry, RuntimeError>> {
        self.written(container_id, query)
    }
}
