//! What to do next: a pure function of the market's wish, the engine's containers, the notes and the clock.
//!
//! # Invariants
//! - Nothing is done while the desired state is unknown, and callers don't plan while the engine's view is.
//! - One step per rental at a time; the next plan sees what it did. So the plan holds no history and may be made anew at any moment.
//! - A container that was started once is never started again, and none takes its place under the same lease.
//! - Without a lease nothing starts and nothing goes on.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    id::RentalId,
    wire::{
        desired::{DesiredRental, Wanted},
        observed::ExitCause,
    },
};

use super::notes::{Failure, Note, Notes};
use crate::{
    desired::Wish,
    lease::Now,
    runtime::{Container, ContainerState, code, profile},
};

/// What work is about. Two pieces of work about one key never run at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A rental, under whichever lease.
    Rental(RentalId),
    /// A container with this node's label but without a rental's id.
    Stray(String),
}

impl Key {
    /// The key of what is done to a container.
    pub(crate) fn of(container: &Container) -> Self {
        match container.rental_id {
            Some(rental_id) => Self::Rental(rental_id),
            None => Self::Stray(container.id.clone()),
        }
    }
}

/// Why a key gets no step now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Its image is being pulled, or its container created and started.
    Launching,
    /// It is being stopped or removed.
    Ending,
    /// Its last work failed; it waits before the next try.
    Resting,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Pull what is missing, create, start.
    Launch(Box<DesiredRental>),
    /// End a launch under way at its next safe point.
    Abort(RentalId),
    /// Stop the container, for this reason.
    Stop(RentalId, String, ExitCause),
    /// Remove the container, running or not.
    Remove(Key, String, Why),
    /// Note that this container was started, by an agent that died before it could note it.
    Adopt(RentalId, String),
    /// Give the rental up for good.
    Fail(RentalId, Failure),
    /// Forget what is noted of a rental that is over.
    Forget(RentalId),
}

/// Why a container is removed; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The market doesn't want its rental (any more), or it never was one.
    NotDesired,
    /// It is of another lease, or a second one.
    NotCurrent,
    /// Its specification isn't the wanted one and it never ran.
    OtherSpecification,
    /// Its rental was given up.
    Failed,
}

/// All that a plan depends on.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) wish: &'a Wish,
    /// From an engine that answered.
    pub(crate) containers: &'a [Container],
    pub(crate) notes: &'a Notes,
    pub(crate) busy: &'a BTreeMap<Key, Busy>,
    pub(crate) now: Now,
}

/// What to do now, at most one step per key.
pub(crate) fn plan(view: &View<'_>) -> Vec<Step> {
    let Some(desired) = &view.wish.desired else {
        return Vec::new();
    };
    let wanted: BTreeSet<RentalId> = desired.rentals.iter().map(|r| r.rental_id).collect();
    let mut steps: Vec<Step> = desired
        .rentals
        .iter()
        .filter_map(|rental| for_rental(view, rental))
        .collect();
    let mut seen = BTreeSet::new();
    for container in view.containers {
        let orphan = container.rental_id.is_none_or(|id| !wanted.contains(&id));
        let key = Key::of(container);
        if orphan && !view.busy.contains_key(&key) && seen.insert(key.clone()) {
            steps.extend(remove(key, container, Why::NotDesired));
        }
    }
    for (key, busy) in view.busy {
        if let (Key::Rental(id), Busy::Launching) = (key, busy)
            && !wanted.contains(id)
        {
            steps.push(Step::Abort(*id));
        }
    }
    let held: BTreeSet<RentalId> = view.containers.iter().filter_map(|c| c.rental_id).collect();
    let over = |id: &RentalId| {
        let idle = !view.busy.contains_key(&Key::Rental(*id));
        idle && !wanted.contains(id) && !held.contains(id)
    };
    steps.extend(view.notes.rentals().filter(over).map(Step::Forget));
    steps
}

fn for_rental(view: &View<'_>, rental: &DesiredRental) -> Option<Step> {
    let key = Key::Rental(rental.rental_id);
    let note = view.notes.get(rental.rental_id, rental.lease_id);
    let (current, others) = split(view.containers, rental, note);
    let leased = view
        .wish
        .leases
        .left_ms(rental.rental_id, rental.lease_id, view.now)
        > 0;
    match view.busy.get(&key) {
        Some(Busy::Launching) if !leased || rental.wanted == Wanted::Stop => {
            return Some(Step::Abort(rental.rental_id));
        }
        Some(_) => return None,
        None => {}
    }
    let stale = || {
        let other = others.first()?;
        remove(key.clone(), other, Why::NotCurrent)
    };
    match current {
        // the rental's name must be free before its own container can be created
        None => stale().or_else(|| {
            if others.is_empty() {
                absent(rental, note, leased)
            } else {
                None
            }
        }),
        Some(container) => present(rental, container, note, leased).or_else(stale),
    }
}

/// The rental's own container under its lease, and all others that claim to be the rental's.
pub(super) fn split<'a>(
    containers: &'a [Container],
    rental: &DesiredRental,
    note: Option<&Note>,
) -> (Option<&'a Container>, Vec<&'a Container>) {
    let (mut own, mut others): (Vec<_>, Vec<_>) = containers
        .iter()
        .filter(|c| c.rental_id == Some(rental.rental_id))
        .partition(|c| c.lease_id == Some(rental.lease_id));
    let noted = note.and_then(|note| note.container_id.as_deref());
    // names are unique, so a second one is somebody's doing by hand; the one that was started is the rental's
    own.sort_by_key(|c| {
        (
            noted != Some(c.id.as_str()),
            c.state == ContainerState::Created,
        )
    });
    let mut own = own.into_iter();
    let current = own.next();
    others.extend(own);
    (current, others)
}

fn absent(rental: &DesiredRental, note: Option<&Note>, leased: bool) -> Option<Step> {
    if note.is_some_and(|note| note.failed.is_some()) {
        return None;
    }
    if note.is_some_and(|note| note.container_id.is_some()) {
        return Some(fail(
            rental,
            code::CONTAINER_LOST,
            "the container was removed on its node by someone else",
        ));
    }
    match rental.wanted {
        Wanted::Stop => Some(fail(
            rental,
            code::STOPPED_BEFORE_START,
            "it was stopped before its container had started",
        )),
        Wanted::Run => {
            if let Err(crate::runtime::RuntimeError::Refused { code, reason }) =
                profile::check_supported(rental)
            {
                return Some(fail(rental, code, &reason));
            }
            leased.then(|| Step::Launch(Box::new(rental.clone())))
        }
    }
}

fn present(
    rental: &DesiredRental,
    container: &Container,
    note: Option<&Note>,
    leased: bool,
) -> Option<Step> {
    let id = rental.rental_id;
    if note.is_some_and(|note| note.failed.is_some()) {
        return remove(Key::Rental(id), container, Why::Failed);
    }
    let noted = note.is_some_and(|note| note.container_id.as_ref() == Some(&container.id));
    let adopt = || (!noted).then(|| Step::Adopt(id, container.id.clone()));
    match container.state {
        ContainerState::Removing => None,
        ContainerState::Exited(_) => adopt(),
        ContainerState::Created => match rental.wanted {
            Wanted::Stop => absent(rental, None, leased),
            Wanted::Run if container.spec_sha256 != rental.spec.sha256_hex() => {
                remove(Key::Rental(id), container, Why::OtherSpecification)
            }
            Wanted::Run => leased.then(|| Step::Launch(Box::new(rental.clone()))),
        },
        ContainerState::Running => {
            let begun = note.and_then(|note| note.stop);
            let cause = match rental.wanted {
                Wanted::Stop => Some(ExitCause::Wanted),
                Wanted::Run if !leased => Some(ExitCause::LeaseEnded),
                Wanted::Run if container.over_disk.is_some() => Some(ExitCause::OverDisk),
                Wanted::Run => None,
            };
            // a stop that was begun goes on, also when a lease came after it: the coordinator may have been told
            match begun.or(cause) {
                Some(cause) => Some(Step::Stop(id, container.id.clone(), cause)),
                None => adopt(),
            }
        }
    }
}

fn fail(rental: &DesiredRental, code: &str, reason: &str) -> Step {
    let failure = Failure {
        code: code.to_owned(),
        reason: reason.to_owned(),
    };
    Step::Fail(rental.rental_id, failure)
}

fn remove(key: Key, container: &Container, why: Why) -> Option<Step> {
    (container.state != ContainerState::Removing)
        .then(|| Step::Remove(key, container.id.clone(), why))
}

#[cfg(test)]
mod tests;
