//! What the scripted machine does with containers, and the records that it writes about them.

use shared::{
    id::{LeaseId, RentalId},
    journal::{Exit, MeterState, Record},
    wire::observed::{ExitCause, ObservedRental, Phase},
};

use super::{Container, ScriptedNode};

impl ScriptedNode {
    pub(super) fn stop(&mut self, id: RentalId) {
        let phase = self.containers.get(&id).map(|c| c.seen.phase.clone());
        match phase {
            Some(Phase::Running) => self.finish(id, 137, ExitCause::Wanted),
            Some(Phase::Pending) => self.fail(id, "stopped_before_start"),
            _ => {}
        }
    }

    /// Starts the container of a rental now.
    ///
    /// # Panics
    /// If it isn't wanted here.
    pub fn start(&mut self, id: RentalId) {
        let now = self.wall();
        let container = self.containers.get_mut(&id).expect("it is wanted");
        container.seen.phase = Phase::Running;
        container.seen.container_id = Some("c0ffee".into());
        container.seen.started_at = Some(now);
        self.record(id);
    }

    /// Says that a rental couldn't be started.
    ///
    /// # Panics
    /// If it isn't wanted here.
    pub fn fail(&mut self, id: RentalId, code: &str) {
        let container = self.containers.get_mut(&id).expect("it is wanted");
        container.seen.phase = Phase::Failed {
            code: code.into(),
            reason: "the test wants it".into(),
        };
    }

    /// Ends the container of a rental now.
    ///
    /// # Panics
    /// If there is none.
    pub fn finish(&mut self, id: RentalId, code: i64, cause: ExitCause) {
        let now = self.wall();
        let container = self.containers.get_mut(&id).expect("there is one");
        let exit = Exit {
            code,
            oom_killed: false,
        };
        container.seen.phase = Phase::Exited { exit, cause };
        container.seen.finished_at = Some(now);
        self.record(id);
    }

    /// What an agent does at each tick: ends what has no lease any more, meters what runs.
    pub fn tick(&mut self) {
        let boot_ms = self.boot_ms();
        let running: Vec<(RentalId, i64)> = self
            .containers
            .iter()
            .filter(|(_, container)| container.seen.phase == Phase::Running)
            .map(|(id, container)| (*id, container.lease_ends_ms))
            .collect();
        for (id, lease_ends_ms) in running {
            if boot_ms >= lease_ends_ms {
                self.finish(id, 137, ExitCause::LeaseEnded);
            } else if self.metering {
                self.record(id);
            }
        }
    }

    /// Appends a record about a rental.
    ///
    /// # Panics
    /// If there is no such container.
    pub fn record(&mut self, id: RentalId) {
        let record = self.draft(id);
        self.journal.push(record.sign(&self.key));
    }

    /// The record that would come next.
    ///
    /// # Panics
    /// If there is no such container.
    #[must_use]
    pub fn draft(&self, id: RentalId) -> Record {
        let head = self.head();
        let container = self.containers.get(&id).expect("there is one");
        let (state, exit) = match &container.seen.phase {
            Phase::Running if self.degraded.contains(&id) => (MeterState::Degraded, None),
            Phase::Running => (MeterState::Running, None),
            Phase::Exited { exit, .. } => (MeterState::Exited, Some(*exit)),
            _ => (MeterState::Preparing, None),
        };
        Record {
            node_id: self.id,
            boot_id: self.boot_id.clone(),
            rental_id: id,
            lease_id: container.seen.lease_id,
            seq: head.seq + 1,
            prev_hash: head.hash,
            beacon: self.beacon.clone(),
            t_wall: self.wall(),
            t_boot_ms: self.boot_ms(),
            state,
            container_id: container.seen.container_id.clone().unwrap_or_default(),
            image_digest: String::new(),
            spec_sha256: String::new(),
            started_at: container.seen.started_at,
            finished_at: container.seen.finished_at,
            cum_cpu_ns: container.cpu_ns,
            cum_mem_byte_s: 0,
            cum_rx_bytes: 0,
            cum_tx_bytes: 0,
            exit,
        }
    }
}

pub(super) const fn pending(rental_id: RentalId, lease_id: LeaseId) -> Container {
    Container {
        seen: ObservedRental {
            rental_id,
            lease_id,
            phase: Phase::Pending,
            container_id: None,
            image_digest: None,
            started_at: None,
            finished_at: None,
        },
        lease_ends_ms: 0,
        cpu_ns: 0,
    }
}
