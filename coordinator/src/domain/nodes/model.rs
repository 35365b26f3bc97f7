//! What a node is: three axes, its capacity, and the pure decisions about them.
//!
//! # Invariants
//! - [`Availability`] is written by beats and time only, [`Schedulability`] by people only, [`Lifecycle`] by enrolment and admins.
//! - 0 ≤ free ≤ rentable ≤ measured.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared::{
    id::{NodeId, UserId},
    resources::{Inventory, Resources, host_reserve_bytes},
    sign::PublicKey,
    time::Timestamp,
    wire::operator::Maintenance,
};

/// Observed: is it there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Enrolled, or the coordinator has just started: no beat yet.
    Warming,
    /// Beats arrive.
    Online,
    /// Beats are missing, not long enough to worry.
    Suspect,
    /// No beats for longer than the grace.
    Offline,
}

/// Wanted: may new rentals go there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedulability {
    /// Yes.
    Active,
    /// No; what runs goes on.
    Cordoned,
    /// No; it is being emptied.
    Draining,
    /// No; it is empty.
    Drained,
}

/// Existence: is it one of us?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Its key is valid.
    Member,
    /// Its owner took it away.
    Retired,
    /// An admin threw it out.
    Banned,
}

macro_rules! named {
    ($kind:ident { $($variant:ident = $name:literal),+ }) => {
        impl $kind {
            /// The name in the database.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The value of a name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

named!(Availability { Warming = "warming", Online = "online", Suspect = "suspect", Offline = "offline" });
named!(Schedulability { Active = "active", Cordoned = "cordoned", Draining = "draining", Drained = "drained" });
named!(Lifecycle { Member = "member", Retired = "retired", Banned = "banned" });

/// What was noted about a node that did what an honest one doesn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// What.
    pub code: String,
    /// The last time's words.
    pub detail: String,
    /// When first.
    pub first_at: Timestamp,
    /// When last.
    pub last_at: Timestamp,
    /// In how many minutes.
    pub times: i64,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Whose.
    pub owner: UserId,
    /// For people.
    pub name: String,
    /// Its key.
    pub public_key: PublicKey,
    /// Does it exist?
    pub lifecycle: Lifecycle,
    /// May rentals go there?
    pub schedulability: Schedulability,
    /// Is it there?
    pub availability: Availability,
    /// Since when.
    pub availability_at: Timestamp,
    /// Where it stands, as its owner says.
    pub region: String,
    /// What was measured last.
    pub inventory: Inventory,
    /// The agent's version.
    pub agent_version: String,
    /// What its owner rents out.
    pub rentable: Resources,
    /// What of it isn't rented now.
    pub free: Resources,
    /// Of the desired state.
    pub generation: i64,
    /// When it enrolled.
    pub created_at: Timestamp,
    /// While it is drained: when what still runs is ended.
    pub drain_deadline: Option<Timestamp>,
    /// When that deadline was set.
    pub drain_asked_at: Option<Timestamp>,
    /// Times in which it can't be relied on, by their beginning; some may be over.
    pub maintenance: Vec<Maintenance>,
    /// Why its memory is short, as it says; empty while it isn't.
    pub memory_pressure: String,
}

impl Node {
    /// Whether a new rental may be placed here now.
    #[must_use]
    pub fn takes_rentals(&self) -> bool {
        self.lifecycle == Lifecycle::Member
            && self.schedulability == Schedulability::Active
            && self.availability == Availability::Online
            && self.breach().is_none()
            && self.inventory.shortage.is_none()
    }

    /// Disk space that a new rental can have: what isn't rented, of what its machine has now. What it keeps for rentals that are over, and what others took, isn't there.
    #[must_use]
    pub fn free_disk_bytes(&self) -> i64 {
        let held = self
            .rentable
            .disk_bytes
            .saturating_sub(self.free.disk_bytes);
        let there = rentable_max(&self.inventory)
            .disk_bytes
            .saturating_sub(held);
        self.free.disk_bytes.min(there).max(0)
    }

    /// The first maintenance that some of the time from `from` until `until` lies in.
    #[must_use]
    pub fn maintenance_between(&self, from: Timestamp, until: Timestamp) -> Option<&Maintenance> {
        self.maintenance
            .iter()
            .find(|window| window.overlaps(from, until))
    }

    /// What its own probe could reach from a rental and must not.
    #[must_use]
    pub fn breach(&self) -> Option<&str> {
        self.inventory.isolation.as_ref()?.breach.as_deref()
    }

    /// Whether a rental gets the network that its offer promises. Agents that don't say are believed: theirs has none to open.
    #[must_use]
    pub fn gives_network(&self, internet: bool) -> bool {
        !internet
            || self
                .inventory
                .isolation
                .as_ref()
                .is_none_or(|isolation| isolation.network)
    }
}

/// The most of a measured machine that may be rented out.
#[must_use]
pub fn rentable_max(inventory: &Inventory) -> Resources {
    let disk = inventory.rental_disk.as_ref();
    let ram_bytes = inventory.ram_total_bytes;
    Resources {
        ram_bytes: ram_bytes
            .saturating_sub(host_reserve_bytes(ram_bytes))
            .max(0),
        cpu_millis: inventory.cpu_count.saturating_mul(1_000).max(0),
        gpu_count: i64::try_from(inventory.rentable_gpus().count()).unwrap_or(i64::MAX),
        disk_bytes: disk.map_or(0, |disk| disk.total_bytes.max(0)),
    }
}

/// The GPUs that a new rental gets: rentable ones that nobody holds, in the order of their UUIDs, so that the same question has the
/// same answer everywhere; `None` if there are too few.
#[must_use]
pub fn choose_gpus(
    inventory: &Inventory,
    held: &BTreeSet<String>,
    count: i64,
) -> Option<Vec<String>> {
    let count = usize::try_from(count).ok()?;
    let free: BTreeSet<&String> = inventory
        .rentable_gpus()
        .map(|gpu| &gpu.uuid)
        .filter(|uuid| !held.contains(*uuid))
        .collect();
    let chosen: Vec<String> = free.into_iter().take(count).cloned().collect();
    (chosen.len() == count).then_some(chosen)
}

/// How long silence may last.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Then it is suspect.
    pub suspect_after_ms: i64,
    /// Then it is offline.
    pub offline_after_ms: i64,
}

/// What a node is, by the time since its last beat. Without any beat in this run of the coordinator the time counts from its start,
/// and the node is given the whole grace as [`Availability::Warming`].
#[must_use]
pub const fn availability(silent_ms: i64, beat_seen: bool, patience: Patience) -> Availability {
    if silent_ms >= patience.offline_after_ms {
        Availability::Offline
    } else if !beat_seen {
        Availability::Warming
    } else if silent_ms >= patience.suspect_after_ms {
        Availability::Suspect
    } else {
        Availability::Online
    }
}

/// A node's free capacity after its owner changed what is rentable; `None` if rentals hold more than that.
#[must_use]
pub fn free_after_resize(old: Resources, free: Resources, new: Resources) -> Option<Resources> {
    let moved = |free: i64, old: i64, new: i64| {
        let left = free.checked_add(new.checked_sub(old)?)?;
        (left >= 0).then_some(left)
    };
    Some(Resources {
        ram_bytes: moved(free.ram_bytes, old.ram_bytes, new.ram_bytes)?,
        cpu_millis: moved(free.cpu_millis, old.cpu_millis, new.cpu_millis)?,
        gpu_count: moved(free.gpu_count, old.gpu_count, new.gpu_count)?,
        disk_bytes: moved(free.disk_bytes, old.disk_bytes, new.disk_bytes)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        suspect_after_ms: 15_000,
        offline_after_ms: 60_000,
    };

    #[test]
    fn silence_turns_online_into_suspect_into_offline() {
        for (silent_ms, beat_seen, expected) in [
            (0, true, Availability::Online),
            (14_999, true, Availability::Online),
            (15_000, true, Availability::Suspect),
            (59_999, true, Availability::Suspect),
            (60_000, true, Availability::Offline),
            (0, false, Availability::Warming),
            (59_999, false, Availability::Warming),
            (60_000, false, Availability::Offline),
        ] {
            assert_eq!(
                availability(silent_ms, beat_seen, PATIENCE),
                expected,
                "{silent_ms} {beat_seen}"
            );
        }
    }

    #[test]
    fn shrinking_below_what_is_rented_is_refused() {
        let cap = |ram_bytes, cpu_millis| Resources {
            ram_bytes,
            cpu_millis,
            ..Resources::default()
        };
        assert_eq!(
            free_after_resize(cap(10, 10), cap(4, 10), cap(6, 10)),
            Some(cap(0, 10))
        );
        assert_eq!(free_after_resize(cap(10, 10), cap(4, 10), cap(5, 10)), None);
        assert_eq!(
            free_after_resize(cap(10, 10), cap(4, 10), cap(20, 20)),
            Some(cap(14, 20))
        );
    }
}
