//! What is told about each rental: a pure function of wish, containers, notes and work under way.
//!
//! # Invariants
//! - A rental about which nothing is known is left out: leaving out says less than a wrong state would.

use std::collections::BTreeMap;

use shared::wire::{
    desired::DesiredRental,
    observed::{ExitCause, ObservedRental, Phase},
};

use super::{
    notes::{Note, Notes},
    plan::{Key, split},
};
use crate::{
    desired::Wish,
    rental::LiveRental,
    runtime::{Container, ContainerState},
};

/// All that an observation depends on.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) wish: &'a Wish,
    /// As the engine said last; `None` while it never answered.
    pub(crate) containers: Option<&'a [Container]>,
    pub(crate) notes: &'a Notes,
    /// How far work under way is.
    pub(crate) phases: &'a BTreeMap<Key, Phase>,
}

/// The rentals of this node, sorted by id.
pub(crate) fn observe(seen: &Seen<'_>) -> Vec<LiveRental> {
    let mut live: Vec<LiveRental> = match &seen.wish.desired {
        Some(desired) => desired
            .rentals
            .iter()
            .filter_map(|rental| of_desired(seen, rental))
            .collect(),
        // what runs is metered on, also when the desired state was lost
        None => seen
            .containers
            .unwrap_or_default()
            .iter()
            .filter_map(|container| of_container(container, seen.notes))
            .collect(),
    };
    live.sort_by_key(|rental| rental.observed.rental_id);
    live
}

fn of_desired(seen: &Seen<'_>, rental: &DesiredRental) -> Option<LiveRental> {
    let note = seen.notes.get(rental.rental_id, rental.lease_id);
    let failed = note.and_then(|note| note.failed.as_ref());
    if seen.containers.is_none() && failed.is_none() {
        return None;
    }
    let containers = seen.containers.unwrap_or_default();
    let (container, _) = split(containers, rental, note);
    let phase = if let Some(failure) = failed {
        Phase::Failed {
            code: failure.code.clone(),
            reason: failure.reason.clone(),
        }
    } else {
        let working = seen.phases.get(&Key::Rental(rental.rental_id));
        phase(container, note, working)
    };
    let mut live = LiveRental {
        observed: ObservedRental {
            rental_id: rental.rental_id,
            lease_id: rental.lease_id,
            phase,
            container_id: note.and_then(|note| note.container_id.clone()),
            image_digest: None,
            started_at: None,
            finished_at: None,
        },
        spec_sha256: rental.spec.sha256_hex(),
        pid: None,
        gpus: rental.gpus.clone(),
    };
    if let Some(container) = container {
        fill(&mut live, container);
    }
    Some(live)
}

fn of_container(container: &Container, notes: &Notes) -> Option<LiveRental> {
    let (rental_id, lease_id) = (container.rental_id?, container.lease_id?);
    let mut live = LiveRental {
        observed: ObservedRental {
            rental_id,
            lease_id,
            phase: phase(Some(container), notes.get(rental_id, lease_id), None),
            container_id: None,
            image_digest: None,
            started_at: None,
            finished_at: None,
        },
        spec_sha256: container.spec_sha256.clone(),
        pid: None,
        gpus: container.gpus.clone(),
    };
    fill(&mut live, container);
    Some(live)
}

fn fill(live: &mut LiveRental, container: &Container) {
    live.pid = container.pid;
    live.observed.container_id = Some(container.id.clone());
    live.observed
        .image_digest
        .clone_from(&container.image_digest);
    live.observed.started_at = container.started_at;
    live.observed.finished_at = container.finished_at;
}

fn phase(container: Option<&Container>, note: Option<&Note>, working: Option<&Phase>) -> Phase {
    let stop = note.and_then(|note| note.stop);
    match container.map(|container| container.state) {
        Some(ContainerState::Exited(exit)) => Phase::Exited {
            // the kernel's doing, whatever was wanted at that moment
            cause: match stop {
                Some(_) if exit.oom_killed => ExitCause::Itself,
                Some(cause) => cause,
                None => ExitCause::Itself,
            },
            exit,
        },
        Some(ContainerState::Running) if stop.is_some() => Phase::Stopping,
        Some(ContainerState::Running) => Phase::Running,
        Some(ContainerState::Removing) => Phase::Stopping,
        Some(ContainerState::Created) | None => working.cloned().unwrap_or(Phase::Pending),
    }
}
