//! The count behind the checks: which containers there are, what each takes, and what is about to be created.
//!
//! # Invariants
//! - A container's limits and GPUs are those that it was made with: told by the engine, or asked for and compared by it. Nothing that is
//!   asked for later changes them.
//! - Towards others a rental counts with the larger of what it has and what is being created for it.

use std::collections::HashMap;

use shared::id::RentalId;

use crate::runtime::{Container, ContainerState, HeldLimits};

/// A container that counts.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) rental_id: Option<RentalId>,
    pub(super) live: bool,
    /// `None` until the engine was asked.
    pub(super) limits: Option<HeldLimits>,
    /// UUIDs of the GPUs that are its own.
    pub(super) gpus: Vec<String>,
}

/// What a rental takes.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) limits: HeldLimits,
    pub(super) gpus: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) containers: HashMap<String, Known>,
    /// Being created.
    pub(super) pending: HashMap<RentalId, Asked>,
    /// Whether the engine was asked for all of them in this run.
    pub(super) looked: bool,
}

impl Counted {
    /// Whether every live container is in it, with its limits.
    pub(super) fn is_complete(&self) -> bool {
        let unknown = |known: &Known| known.live && known.limits.is_none();
        self.looked && !self.containers.values().any(unknown)
    }

    /// Whether a rental is being created.
    pub(super) fn is_pending(&self, id: RentalId) -> bool {
        self.pending.contains_key(&id)
    }

    pub(super) fn see(&mut self, container: &Container) {
        let live = !matches!(container.state, ContainerState::Exited(_));
        let known = self
            .containers
            .entry(container.id.clone())
            .or_insert(Known {
                rental_id: container.rental_id,
                live,
                limits: None,
                gpus: container.gpus.clone(),
            });
        known.live = live;
    }

    /// Notes a container that was made as asked, now or before.
    pub(super) fn note_fresh(&mut self, container_id: &str, rental_id: RentalId, asked: Asked) {
        let Asked { limits, gpus } = asked;
        let known = self
            .containers
            .entry(container_id.to_owned())
            .or_insert(Known {
                rental_id: Some(rental_id),
                live: true,
                limits: None,
                gpus,
            });
        known.limits.get_or_insert(limits);
    }

    /// Whether another rental than this one has a GPU.
    pub(super) fn is_held(&self, id: RentalId, uuid: &String) -> bool {
        let live = self.containers.values();
        let mut live = live.filter(|known| known.live && known.rental_id != Some(id));
        let mut pending = self.pending.iter().filter(|(other, _)| **other != id);
        live.any(|known| known.gpus.contains(uuid))
            || pending.any(|(_, asked)| asked.gpus.contains(uuid))
    }

    /// What all rentals but this one take.
    pub(super) fn taken_beside(&self, id: RentalId) -> HeldLimits {
        let live = self.containers.values();
        let live = live.filter(|known| known.live && known.rental_id != Some(id));
        let mut others: HashMap<RentalId, HeldLimits> = HashMap::new();
        let mut sum = HeldLimits::default();
        for known in live {
            let limits = known.limits.unwrap_or_default();
            match known.rental_id {
                Some(rental) => add(others.entry(rental).or_default(), limits),
                None => add(&mut sum, limits),
            }
        }
        for (rental, asked) in self.pending.iter().filter(|(other, _)| **other != id) {
            // one that is being created anew is counted once, and with no less than it has
            let taken = others.entry(*rental).or_default();
            taken.ram_bytes = taken.ram_bytes.max(asked.limits.ram_bytes);
            taken.cpu_millis = taken.cpu_millis.max(asked.limits.cpu_millis);
        }
        others.into_values().for_each(|taken| add(&mut sum, taken));
        sum
    }
}

fn add(sum: &mut HeldLimits, more: HeldLimits) {
    sum.ram_bytes = sum.ram_bytes.saturating_add(more.ram_bytes);
    sum.cpu_millis = sum.cpu_millis.saturating_add(more.cpu_millis);
}
