//! What is done all the time beside the calls: the firewall's table, networks in stock and left over, disks left over, the probe, images that
//! nobody uses.
//!
//! # Invariants
//! - Each pass is complete in itself; what fails is tried again by the next one.
//! - Whoever owns the engine's socket runs it, once.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{DockerRuntime, police};

/// Between two looks at the table and at networks that nobody uses.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_secs(3_600);
/// The same while something gets through, or while no look could be made.
const PROBE_AGAIN: Duration = Duration::from_secs(300);

/// Between two looks at the images that were fetched.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

impl DockerRuntime {
    /// Keeps rentals apart until `shutdown`: compares the firewall's rules every 30 s and after the engine came back, removes networks
    /// that no rental has, keeps some in stock, probes at the start and hourly, puts disks in order, watches
    /// what rentals write, and removes images for which there is no room.
    pub async fn keep(self: Arc<Self>, shutdown: CancellationToken) {
        let mut probe_at = Instant::now();
        let mut sweep_at = Instant::now();
        let mut police = tokio::time::interval(police::EVERY);
        police.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.pass().await;
            if Instant::now() >= probe_at {
                let well = self.probe().await;
                probe_at = Instant::now() + if well { PROBE_EVERY } else { PROBE_AGAIN };
            }
            if Instant::now() >= sweep_at {
                if let Err(error) = self.sweep_images().await {
                    tracing::debug!(%error, "images can't be looked at now");
                }
                sweep_at = Instant::now() + SWEEP_EVERY;
            }
            let next = Instant::now() + LOOK_EVERY;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep_until(next) => break,
                    () = self.networks.look.notified() => break,
                    _ = police.tick() => self.patrol().await,
                    () = self.networks.taken.notified() => self.restock().await,
                }
            }
        }
    }

    async fn pass(&self) {
        self.guard().await;
        if let Err(error) = self.sweep_networks().await {
            tracing::debug!(%error, "networks that no rental has can't be looked for now");
        }
        if let Err(error) = self.sweep_disks().await {
            tracing::debug!(
                error = format!("{error:#}"),
                "rentals' disks can't be put in order now"
            );
        }
        self.restock().await;
    }

    async fn patrol(&self) {
        if let Err(error) = self.police().await {
            tracing::debug!(%error, "what rentals write can't be looked at now");
        }
    }

    async fn restock(&self) {
        if let Err(error) = self.stock_networks().await {
            tracing::warn!(%error, "no network can be made ahead; launches wait for theirs");
        }
    }
}
