//! How long each rental may go on without hearing from the coordinator: the dead-man's switch, as pure arithmetic.
//!
//! # Invariants
//! - A lease ends on `CLOCK_BOOTTIME`, counted from when the beat was *sent*: neither a stepped wall clock, nor suspend, nor a slow
//!   reply makes it longer.
//! - A lease that was granted is never shortened here. It ends by time, or its rental leaves the desired state.
//! - Boot times of another boot mean nothing: after a reboot the wall clock is the fallback (no rental outlives a reboot by itself,
//!   so this only decides whether one that never started may still start).

use serde::{Deserialize, Serialize};
use shared::{
    clock::Clock,
    id::{LeaseId, RentalId},
    time::Timestamp,
    wire::desired::{DesiredRental, Lease},
};

/// Extensions below this aren't taken (they add up until they are): each beat moves the end by its jitter, and each move costs an fsync.
pub const GRAIN_MS: i64 = 1_000;
/// No lease runs longer than this beyond now, whatever is asked: a day.
pub const LEASE_MS_MAX: i64 = 24 * 3_600_000;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`, milliseconds.
    pub boot_ms: i64,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Now {
    /// Reads both clocks.
    pub fn read(clock: &dyn Clock) -> Self {
        Self {
            boot_ms: clock.boot_ms(),
            wall: clock.now(),
        }
    }
}

/// When one rental's lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseEnd {
    /// Which rental.
    pub rental_id: RentalId,
    /// Which lease.
    pub lease_id: LeaseId,
    /// The end on `CLOCK_BOOTTIME` of the boot that [`Leases`] names, milliseconds.
    pub end_boot_ms: i64,
    /// The same moment on the wall clock, as it looked when the lease was granted.
    pub end_wall: Timestamp,
}

/// All leases of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leases {
    boot_id: String,
    ends: Vec<LeaseEnd>,
}

impl Leases {
    /// No lease yet.
    #[must_use]
    pub const fn none(boot_id: String) -> Self {
        Self {
            boot_id,
            ends: Vec::new(),
        }
    }

    /// Leases read from disk, in terms of the boot that runs now.
    #[must_use]
    pub fn in_boot(mut self, boot_id: &str, now: Now) -> Self {
        if self.boot_id != boot_id {
            for end in &mut self.ends {
                let left_ms = end.end_wall.ms_since(now.wall).clamp(0, LEASE_MS_MAX);
                end.end_boot_ms = now.boot_ms.saturating_add(left_ms);
            }
            boot_id.clone_into(&mut self.boot_id);
        }
        self
    }

    /// Takes what a reply granted to the rentals of the desired state; other rentals' leases are dropped. `sent_boot_ms`: when the
    /// beat was sent. Returns whether anything changed.
    pub fn grant(
        &mut self,
        desired: &[DesiredRental],
        granted: &[Lease],
        sent_boot_ms: i64,
        now: Now,
    ) -> bool {
        let before = self.ends.clone();
        self.ends.retain(|end| {
            desired
                .iter()
                .any(|rental| (rental.rental_id, rental.lease_id) == (end.rental_id, end.lease_id))
        });
        for lease in granted {
            let wanted = desired
                .iter()
                .any(|r| (r.rental_id, r.lease_id) == (lease.rental_id, lease.lease_id));
            if wanted {
                self.extend(lease, sent_boot_ms, now);
            }
        }
        self.ends != before
    }

    fn extend(&mut self, lease: &Lease, sent_boot_ms: i64, now: Now) {
        // a beat can't have been sent in the future
        let sent_boot_ms = sent_boot_ms.min(now.boot_ms);
        let end_boot_ms = sent_boot_ms.saturating_add(lease.lease_ms.clamp(0, LEASE_MS_MAX));
        let end = LeaseEnd {
            rental_id: lease.rental_id,
            lease_id: lease.lease_id,
            end_boot_ms,
            end_wall: now.wall.plus_ms(end_boot_ms.saturating_sub(now.boot_ms)),
        };
        match self
            .ends
            .iter_mut()
            .find(|known| (known.rental_id, known.lease_id) == (lease.rental_id, lease.lease_id))
        {
            Some(known) if end_boot_ms >= known.end_boot_ms.saturating_add(GRAIN_MS) => {
                *known = end;
            }
            Some(_) => {}
            None => self.ends.push(end),
        }
    }

    /// Milliseconds until this lease ends; zero or less when it has, or was never granted.
    #[must_use]
    pub fn left_ms(&self, rental_id: RentalId, lease_id: LeaseId, now: Now) -> i64 {
        self.ends
            .iter()
            .find(|end| (end.rental_id, end.lease_id) == (rental_id, lease_id))
            .map_or(0, |end| end.end_boot_ms.saturating_sub(now.boot_ms))
    }

    /// Milliseconds until the next lease ends, of those that haven't.
    #[must_use]
    pub fn next_end_in_ms(&self, now: Now) -> Option<i64> {
        self.ends
            .iter()
            .map(|end| end.end_boot_ms.saturating_sub(now.boot_ms))
            .filter(|left_ms| *left_ms > 0)
            .min()
    }
}

#[cfg(test)]
mod tests;
