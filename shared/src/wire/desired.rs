//! What the market wants a node to run.

use serde::{Deserialize, Serialize};

use crate::{
    container::ContainerSpec,
    id::{LeaseId, RentalId},
    image::{RegistryAuth, rules::PinnedImage},
    resources::{IsolationClass, Resources},
};

/// The whole wish of the market. What isn't in it must not run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// Grows with every change; an agent never goes back to a lower one.
    pub generation: i64,
    /// Sorted by id.
    pub rentals: Vec<DesiredRental>,
}

/// One rental that the node must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredRental {
    /// Which.
    pub rental_id: RentalId,
    /// Under which lease.
    pub lease_id: LeaseId,
    /// Run it, or stop it and report how it ended.
    pub wanted: Wanted,
    /// What runs.
    pub spec: ContainerSpec,
    /// What it may use.
    pub resources: Resources,
    /// UUIDs of the GPUs that are its own, as many as its resources say.
    #[serde(default)]
    pub gpus: Vec<String>,
    /// Whether it reaches the public internet; left out of the wire when it does, as agents knew it before.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub internet: bool,
    /// The least that must lie between it and the machine; anything if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<IsolationClass>,
    /// The image that was quoted, whatever its tag means by now; as the tag says when the node asks, if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PinnedImage>,
    /// Whether its image is fetched with a [`PullSecret`], which comes with a reply and may not be there yet.
    #[serde(default, skip_serializing_if = "is_no")]
    pub private_image: bool,
}

/// What a rental's image is fetched with. Beside the desired state, since it is kept in memory only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullSecret {
    /// Which rental.
    pub rental_id: RentalId,
    /// Of its owner, at the image's registry.
    pub auth: RegistryAuth,
}

const fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
const fn is_yes(value: &bool) -> bool {
    *value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde calls"
)]
const fn is_no(value: &bool) -> bool {
    !*value
}

/// What the market wants of a rental.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Pull, create and start it once. A container that ended isn't started again.
    Run,
    /// Stop it; keep the container until the rental leaves the desired state.
    Stop,
}

/// How long a rental may go on without hearing from the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Which rental.
    pub rental_id: RentalId,
    /// Which lease.
    pub lease_id: LeaseId,
    /// Counted from the moment at which the agent *sent* the beat that this answers, on its `CLOCK_BOOTTIME`.
    /// A reply never shortens what an earlier one granted, except by leaving the rental out or wanting it stopped.
    pub lease_ms: i64,
}
