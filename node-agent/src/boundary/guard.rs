//! What the helper checks although the agent has checked it: an agent that was taken over gets no further than this.
//!
//! # Invariants
//! - A container is touched only if the engine says that it carries this node's label: ids come from the engine or are asked for.
//! - The limits of all live containers, and of those being created, together stay within the machine less its reserve. The count is
//!   kept in memory and never lacks a live container; before it refuses, it is made good by asking the engine.
//! - No two live containers have the same GPU.
//! - What a container was counted with stays until it ended: to ask for it again, with less, changes nothing.
//! - A container that ended isn't started again: it would run outside of that count.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use shared::{
    container,
    id::RentalId,
    image::Digest,
    resources::{Resources, host_reserve_bytes},
    time::Timestamp,
    wire::desired::DesiredRental,
};

use tokio::sync::Semaphore;

use self::counted::{Asked, Counted};
use super::limits;
use crate::{
    probe,
    runtime::{
        Container, ContainerRuntime, ContainerState, Created, Event, Fetch, HeldLimits, OnProgress,
        RuntimeError, code,
    },
};

/// An engine as a helper needs it: what an agent asks of one, and which limits a container has.
#[async_trait]
pub trait Engine: ContainerRuntime {
    /// The limits in force on one of this node's containers; `None` when it isn't there or isn't this node's.
    async fn limits(&self, container_id: &str) -> Result<Option<HeldLimits>, RuntimeError>;
}

/// What all rentals together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Memory.
    pub ram_bytes: i64,
    /// Thousandths of a CPU.
    pub cpu_millis: i64,
}

impl Room {
    /// This machine's memory less `reserve_bytes` (0: the share that the market leaves a machine as well), and all of its processors.
    ///
    /// # Errors
    /// The kernel doesn't say how much it has.
    pub fn of_this_machine(reserve_bytes: i64) -> anyhow::Result<Self> {
        let size = probe::size()?;
        let reserve = match reserve_bytes {
            0 => host_reserve_bytes(size.ram_bytes),
            given => given,
        };
        Ok(Self {
            ram_bytes: size.ram_bytes.saturating_sub(reserve).max(0),
            cpu_millis: size.cpu_count.saturating_mul(1_000),
        })
    }
}

/// An engine behind checks.
#[derive(Debug)]
pub(super) struct Guard {
    engine: Arc<dyn Engine>,
    room: Room,
    counted: Mutex<Counted>,
    /// Pulls that run at once, whatever the agent asks for.
    pulls: Semaphore,
}

impl Guard {
    pub(super) fn new(engine: Arc<dyn Engine>, room: Room) -> Self {
        Self {
            engine,
            room,
            counted: Mutex::default(),
            pulls: Semaphore::new(limits::PULLS_MAX),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    pub(super) async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        // what is created while the engine answers may be missing in its answer
        let before: Vec<String> = self.lock().containers.keys().cloned().collect();
        let found = self.engine.list().await?;
        let mut counted = self.lock();
        for id in before {
            if !found.iter().any(|container| container.id == id) {
                counted.containers.remove(&id);
            }
        }
        found.iter().for_each(|container| counted.see(container));
        counted.looked = true;
        drop(counted);
        Ok(found)
    }

    pub(super) async fn inspect(&self, id: &str) -> Result<Option<Container>, RuntimeError> {
        check_id(id)?;
        let found = self.engine.inspect(id).await?;
        let mut counted = self.lock();
        match &found {
            Some(container) => counted.see(container),
            None => drop(counted.containers.remove(id)),
        }
        drop(counted);
        Ok(found)
    }

    pub(super) async fn pull(
        &self,
        wanted: &Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<Digest, RuntimeError> {
        container::check_image(&wanted.reference)
            .map_err(|error| RuntimeError::refused(code::IMAGE_NOT_FOUND, error.message))?;
        let _turn = self
            .pulls
            .acquire()
            .await
            .map_err(|error| RuntimeError::Unavailable(error.to_string()))?;
        self.engine.pull(wanted, on_progress).await
    }

    pub(super) async fn create(&self, rental: &DesiredRental) -> Result<Created, RuntimeError> {
        let limits = self.check_alone(&rental.resources)?;
        let asked = Asked {
            limits,
            gpus: rental.gpus.clone(),
        };
        let pending = self.admit(rental.rental_id, &asked).await?;
        let created = self.engine.create(rental).await?;
        match &created {
            // the engine compared it with what was asked
            Created::Fresh(id) => self.lock().note_fresh(id, rental.rental_id, asked),
            // of what it was made with only the engine knows: whatever is asked for now, it isn't that
            Created::Started(id) => drop(self.inspect(id).await?),
            Created::NoImage => {}
        }
        drop(pending);
        Ok(created)
    }

    pub(super) async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let refuse = |why: &str| Err(RuntimeError::refused(code::START_FAILED, why));
        match self.inspect(id).await?.map(|container| container.state) {
            Some(ContainerState::Created) => self.engine.start(id).await,
            Some(ContainerState::Running) => Ok(()),
            Some(_) => refuse("it has ended, and isn't started again"),
            None => refuse("this node has no such container"),
        }
    }

    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        if grace > limits::GRACE {
            let why = format!(
                "a container gets at most {} s to end",
                limits::GRACE.as_secs()
            );
            return Err(RuntimeError::refused(code::ENGINE_REFUSED, why));
        }
        match self.is_ours(id).await? {
            true => self.engine.stop(id, grace).await,
            false => Ok(()),
        }
    }

    pub(super) async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        if self.is_ours(id).await? {
            self.engine.remove(id).await?;
            self.lock().containers.remove(id);
        }
        Ok(())
    }

    pub(super) fn events(
        &self,
        since: Timestamp,
    ) -> futures_util::stream::BoxStream<'static, Result<Event, RuntimeError>> {
        self.engine.events(since)
    }

    /// What isn't ours is, to us, gone.
    async fn is_ours(&self, id: &str) -> Result<bool, RuntimeError> {
        check_id(id)?;
        if self.lock().containers.contains_key(id) {
            return Ok(true);
        }
        Ok(self.inspect(id).await?.is_some())
    }

    /// Whether this machine could hold it if nothing else ran.
    fn check_alone(&self, asked: &Resources) -> Result<HeldLimits, RuntimeError> {
        let refuse = |why: String| Err(RuntimeError::refused(code::CREATE_FAILED, why));
        let Room {
            ram_bytes,
            cpu_millis,
        } = self.room;
        if !(container::limits::RAM_BYTES_MIN..=ram_bytes).contains(&asked.ram_bytes) {
            return refuse(format!(
                "{} bytes of memory are asked for; this machine holds rentals of {} to {ram_bytes}",
                asked.ram_bytes,
                container::limits::RAM_BYTES_MIN
            ));
        }
        if !(container::limits::CPU_MILLIS_MIN..=cpu_millis).contains(&asked.cpu_millis) {
            return refuse(format!(
                "{} thousandths of a CPU are asked for; this machine holds rentals of {} to {cpu_millis}",
                asked.cpu_millis,
                container::limits::CPU_MILLIS_MIN
            ));
        }
        Ok(HeldLimits {
            ram_bytes: asked.ram_bytes,
            cpu_millis: asked.cpu_millis,
        })
    }

    /// Counts a rental that is about to be created, until the answer is dropped.
    async fn admit(&self, id: RentalId, asked: &Asked) -> Result<Pending<'_>, RuntimeError> {
        let complete = self.lock().is_complete();
        if complete && self.take(id, asked).is_ok() {
            return Ok(Pending { guard: self, id });
        }
        self.list().await?;
        self.learn_limits().await?;
        // an earlier rental may only be about to end: asked again later
        self.take(id, asked).map_err(RuntimeError::Unavailable)?;
        Ok(Pending { guard: self, id })
    }

    fn take(&self, id: RentalId, asked: &Asked) -> Result<(), String> {
        let mut counted = self.lock();
        if counted.is_pending(id) {
            return Err("the rental is being created already".to_owned());
        }
        let taken = counted.taken_beside(id);
        let (ram, cpu) = (
            taken.ram_bytes.saturating_add(asked.limits.ram_bytes),
            taken.cpu_millis.saturating_add(asked.limits.cpu_millis),
        );
        if ram > self.room.ram_bytes || cpu > self.room.cpu_millis {
            return Err(format!(
                "the rentals here would take {ram} of {} bytes of memory and {cpu} of {} thousandths of a CPU",
                self.room.ram_bytes, self.room.cpu_millis
            ));
        }
        if let Some(uuid) = asked.gpus.iter().find(|uuid| counted.is_held(id, uuid)) {
            return Err(format!("another rental holds the GPU {uuid}"));
        }
        counted.pending.insert(id, asked.clone());
        Ok(())
    }

    /// Asks for the limits of containers that another run of the helper, or somebody else, made.
    async fn learn_limits(&self) -> Result<(), RuntimeError> {
        let unknown: Vec<String> = {
            let counted = self.lock();
            let unknown = counted
                .containers
                .iter()
                .filter(|(_, known)| known.live && known.limits.is_none());
            unknown.map(|(id, _)| id.clone()).collect()
        };
        for id in unknown {
            let limits = self.engine.limits(&id).await?;
            let mut counted = self.lock();
            match (counted.containers.get_mut(&id), limits) {
                (Some(known), Some(_)) => known.limits = limits,
                (_, None) => drop(counted.containers.remove(&id)),
                (None, _) => {}
            }
        }
        Ok(())
    }
}

/// A place in the count.
struct Pending<'a> {
    guard: &'a Guard,
    id: RentalId,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.guard.lock().pending.remove(&self.id);
    }
}

fn check_id(id: &str) -> Result<(), RuntimeError> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if id.len() == 64 && id.bytes().all(hex) {
        return Ok(());
    }
    let why = "a container's id is 64 lower-case hexadecimal digits";
    Err(RuntimeError::refused(code::ENGINE_REFUSED, why))
}

mod counted;
mod within;

#[cfg(test)]
pub(in crate::boundary) mod tests;
