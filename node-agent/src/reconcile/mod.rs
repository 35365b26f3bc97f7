//! Keeps containers as the market wants them: desired state on disk × Docker → plan → apply.

use shared::wire::desired::{DesiredState, Lease};
use tokio::sync::watch;

use crate::rental::LiveRental;

/// The rest of the agent's hold on the reconciler task.
#[derive(Debug, Clone)]
pub struct Handle {
    live: watch::Receiver<Vec<LiveRental>>,
}

impl Handle {
    /// What runs here now; changes with every state, pull progress included.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Vec<LiveRental>> {
        self.live.clone()
    }

    /// Generation of the desired state on disk.
    #[must_use]
    pub fn generation(&self) -> i64 {
        0
    }

    /// Takes a reply's desired state and leases; returns when both are durable. `sent_boot_ms` is the `CLOCK_BOOTTIME`
    /// at which the beat that it answers was sent: leases count from there. A lower generation than the one on disk is refused
    /// (logged, its leases ignored).
    ///
    /// # Errors
    /// The state could not be written to disk.
    pub async fn apply(
        &self,
        _desired: DesiredState,
        _leases: Vec<Lease>,
        _sent_boot_ms: i64,
    ) -> anyhow::Result<()> {
        anyhow::bail!("not wired")
    }
}
