//! Asks now and then what rentals take of the disk, for their samples.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::samples::Samples;
use crate::runtime::ContainerRuntime;

/// As often as samples are kept.
const EVERY: Duration = Duration::from_secs(10);

/// Asks until `shutdown`. While it can't be heard, nothing is claimed.
pub async fn follow(
    runtime: Arc<dyn ContainerRuntime>,
    samples: Arc<Samples>,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(heard) = shutdown.run_until_cancelled(runtime.disk_use()).await else {
            return;
        };
        let disks = heard.unwrap_or_else(|error| {
            tracing::debug!(%error, "what rentals take of the disk can't be heard now");
            Vec::new()
        });
        samples.note_disks(&disks);
    }
}
