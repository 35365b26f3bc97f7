//! What a node says about each rental: the agent's view, with a reason for each state.

use serde::{Deserialize, Serialize};

use crate::{
    id::{LeaseId, RentalId},
    journal::Exit,
    time::Timestamp,
};

/// The agent's view of one rental.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedRental {
    /// Which.
    pub rental_id: RentalId,
    /// Under which lease.
    pub lease_id: LeaseId,
    /// How far it is.
    pub phase: Phase,
    /// Docker's id of the container, once there is one.
    pub container_id: Option<String>,
    /// Digest (`sha256:…`) of the image that runs, once it is known.
    pub image_digest: Option<String>,
    /// Docker's `StartedAt`, node's wall clock.
    pub started_at: Option<Timestamp>,
    /// Docker's `FinishedAt`, node's wall clock.
    pub finished_at: Option<Timestamp>,
}

/// How far a rental is on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// Wanted, nothing done yet.
    Pending,
    /// The image is being pulled.
    Pulling {
        /// Bytes so far.
        done_bytes: i64,
        /// Bytes in all, as far as the registry said.
        total_bytes: i64,
    },
    /// The container is being created or started.
    Starting,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// It ended.
    Exited {
        /// How.
        exit: Exit,
        /// Who ended it.
        cause: ExitCause,
    },
    /// It could not be started; `reason` says why in words for its owner.
    Failed {
        /// A stable code: `image_pull_failed`, `image_not_found`, `image_not_supported`, `not_supported`, `create_failed`,
        /// `start_failed`, `engine_refused`, `stopped_before_start`, `container_lost`,
        /// `no_space`.
        code: String,
        /// What happened and what to do.
        reason: String,
    },
}

/// Who ended a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// It ended by itself (or was killed by the kernel).
    Itself,
    /// The market wanted it stopped.
    Wanted,
    /// Its lease ran out.
    LeaseEnded,
    /// It took more of the disk, or made more files, than it may.
    OverDisk,
}
