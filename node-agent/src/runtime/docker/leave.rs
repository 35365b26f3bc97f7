//! Leaving an engine as if this node had never used it.
//!
//! # Invariants
//! - Only what carries the node's label or tag goes; what its owner fetched or made stays.
//! - Each step can be repeated, and the containers go first: the rest is never taken from under a rental.

use std::time::Duration;

use futures_util::future::try_join_all;

use super::DockerRuntime;
use crate::runtime::{ContainerRuntime as _, RuntimeError, profile};

impl DockerRuntime {
    /// Ends every rental and removes what was made for them: disks' volumes, networks, fetched images, the probe's image, the firewall's table.
    /// Files of disks stay for their grace.
    ///
    /// # Errors
    /// The engine's, while a rental isn't ended yet, or something of it isn't removed. What is only space taken is told of and left.
    pub async fn leave(&self) -> anyhow::Result<()> {
        let found = self.list().await?;
        tracing::info!(rentals = found.len(), "ending every rental");
        let ended = found.iter().map(|container| async {
            let grace = Duration::from_secs(profile::STOP_GRACE_S.unsigned_abs());
            self.stop(&container.id, grace).await?;
            self.remove(&container.id).await
        });
        try_join_all(ended).await?;
        self.sweep_disks().await?;
        self.remove_probes().await?;
        self.sweep_networks().await?;
        if let Err(error) = self.forget_images().await {
            tracing::warn!(%error, "images that were fetched for rentals are left");
        }
        if let Err(error) = self.remove_probe_images().await {
            tracing::warn!(error = format!("{error:#}"), "images of the probe are left");
        }
        if let Err(error) = self.networks.guard.remove().await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the firewall's table is left, and matches nothing any more"
            );
        }
        Ok(())
    }

    /// Removes every image that was fetched here and that no container has.
    async fn forget_images(&self) -> Result<(), RuntimeError> {
        let cached = self.own_images().await?;
        for image in cached.into_iter().filter(|image| !image.in_use) {
            self.remove_image(&image.digest).await?;
        }
        Ok(())
    }
}
