//! A rental as this agent sees it now: what `reconcile` publishes and `report` measures, journals and sends.

use shared::wire::observed::ObservedRental;

/// One rental on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRental {
    /// What is told to the coordinator.
    pub observed: ObservedRental,
    /// Hash of the specification, hex.
    pub spec_sha256: String,
    /// First process of the container, in the host's numbering, while it runs.
    pub pid: Option<i32>,
    /// UUIDs of the GPUs that are its own.
    pub gpus: Vec<String>,
}
