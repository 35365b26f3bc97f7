//! What a container used: read from its control groups and its network namespace, never from Docker's `stats`, which takes a second.
//!
//! # Invariants
//! - Counters of a container never go down, whatever the kernel's do (see [`counters`]).
//! - What can't be read keeps its last value: a missing reading never makes usage up.
//! - Only the container's own groups are read: the group's path must name the container, so that a reused process id
//!   can't charge a stranger's work to a rental.
//! - Files stay open between samples and buffers are reused: a sample is a few `pread`s.

pub mod cgroup;
mod counters;
mod files;
mod net;
pub mod pressure;

use std::{collections::HashMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use shared::{id::RentalId, journal::Record};

use self::{counters::Meter, files::Files};
use crate::{journal::Counters, rental::LiveRental};

/// Measures all containers of this machine.
#[derive(Debug)]
pub struct Sampler {
    root: PathBuf,
    rentals: HashMap<RentalId, Tracked>,
    buffer: Vec<u8>,
}

/// What a running container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// Whose.
    pub rental_id: RentalId,
    /// Memory now; `None` if it can't be read.
    pub ram_bytes: Option<i64>,
    /// CPU time since its container started, nanoseconds.
    pub cpu_ns: Option<i64>,
    /// Processes that the kernel killed for want of memory since then.
    pub oom_kills: Option<i64>,
}

/// What a container had used when it was measured last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Whose.
    pub rental_id: RentalId,
    /// Since its container started.
    pub counters: Counters,
    /// Memory then; `None` if it couldn't be read.
    pub ram_bytes: Option<i64>,
}

/// One container that is measured.
#[derive(Debug)]
struct Tracked {
    container_id: String,
    meter: Meter,
    source: Source,
    /// Of the last reading.
    ram_bytes: Option<i64>,
}

#[derive(Debug)]
enum Source {
    /// Not running, or not seen running yet.
    None,
    /// Open files of this process's container.
    Open { pid: i32, files: Files },
    /// This process's files couldn't be opened: said once, tried again at the next sample.
    Failed { pid: i32 },
}

impl Sampler {
    /// `root` is `/`, or the folder of a test that holds `proc` and `sys`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            rentals: HashMap::new(),
            buffer: vec![0; 16 * 1024],
        }
    }

    /// The counters of a rental's container now. `last` is the journal's last record of the rental: where counting goes on
    /// after a restart of the agent; asked for only when the container isn't known yet.
    ///
    /// # Errors
    /// `last` failed.
    pub fn sample<E>(
        &mut self,
        rental: &LiveRental,
        boot_ms: i64,
        last: impl FnOnce() -> Result<Option<Record>, E>,
    ) -> Result<Counters, E> {
        let observed = &rental.observed;
        let container_id = observed.container_id.as_deref().unwrap_or_default();
        let known = self
            .rentals
            .get(&observed.rental_id)
            .is_some_and(|tracked| tracked.container_id == container_id);
        if !known {
            let base = last()?.filter(|record| record.container_id == container_id);
            self.rentals.insert(
                observed.rental_id,
                Tracked {
                    container_id: container_id.to_owned(),
                    meter: Meter::from_record(base.as_ref()),
                    source: Source::None,
                    ram_bytes: None,
                },
            );
        }
        let Some(tracked) = self.rentals.get_mut(&observed.rental_id) else {
            return Ok(Counters::default());
        };
        tracked.follow(&self.root, rental);
        if let Source::Open { files, .. } = &mut tracked.source {
            let reading = files.read(&mut self.buffer);
            tracked.meter.take(&reading, boot_ms);
            tracked.ram_bytes = reading.memory_bytes;
        }
        Ok(tracked.meter.counters())
    }

    /// What running containers had used when they were measured last; reads nothing.
    pub fn used(&self) -> impl Iterator<Item = Used> {
        let running = self.rentals.iter();
        let running = running.filter(|(_, one)| matches!(one.source, Source::Open { .. }));
        running.map(|(rental_id, tracked)| Used {
            rental_id: *rental_id,
            counters: tracked.meter.counters(),
            ram_bytes: tracked.ram_bytes,
        })
    }

    /// What running containers use at this moment; changes no counter.
    pub fn look(&mut self) -> Vec<InUse> {
        let Self {
            rentals, buffer, ..
        } = self;
        let open = rentals.iter_mut().filter_map(|(rental_id, tracked)| {
            let Source::Open { files, .. } = &mut tracked.source else {
                return None;
            };
            let reading = files.read(buffer);
            Some(InUse {
                rental_id: *rental_id,
                ram_bytes: reading.memory_bytes,
                cpu_ns: reading.cpu_ns,
                oom_kills: files.oom_kills(buffer),
            })
        });
        let mut all: Vec<InUse> = open.collect();
        all.sort_by_key(|one| one.rental_id);
        all
    }

    /// Forgets rentals for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(RentalId) -> bool) {
        self.rentals.retain(|rental_id, _| keep(*rental_id));
    }
}

impl Tracked {
    /// Opens or closes files as the container starts and ends.
    fn follow(&mut self, root: &std::path::Path, rental: &LiveRental) {
        let Some(pid) = rental.pid else {
            self.source = Source::None;
            self.meter.pause();
            return;
        };
        let said = match &self.source {
            Source::Open { pid: open, .. } if *open == pid => return,
            Source::Failed { pid: failed } => *failed == pid,
            _ => false,
        };
        self.source = match Files::open(root, pid, &self.container_id) {
            Ok(files) => Source::Open { pid, files },
            Err(error) => {
                if !said {
                    tracing::warn!(
                        rental.id = %rental.observed.rental_id,
                        container.id = self.container_id,
                        error = format!("{error:#}"),
                        "the container's usage can't be read; its counters stand still"
                    );
                }
                Source::Failed { pid }
            }
        };
    }
}

#[cfg(test)]
mod tests;
