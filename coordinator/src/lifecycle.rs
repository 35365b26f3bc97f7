//! The life of the process: what runs, when it stops, and how it ends.
//!
//! # Invariants
//! - A part that ends before it was told to ends the process with an error: a coordinator without one of its timers is
//!   worse than one that is restarted.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What runs in this process.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    shutdown: CancellationToken,
    tracker: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Ends when `shutdown` is cancelled.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            tracker: TaskTracker::new(),
            failed: Arc::default(),
        }
    }

    /// Runs a part that lasts until shutdown.
    pub fn spawn<F>(&self, name: &'static str, part: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let this = self.clone();
        let running = tokio::spawn(part);
        self.tracker.spawn(async move {
            let outcome = running.await;
            if this.shutdown.is_cancelled() && matches!(outcome, Ok(Ok(()))) {
                return;
            }
            match outcome {
                Ok(Ok(())) => tracing::error!(part = name, "part ended unasked, stopping"),
                Ok(Err(error)) => {
                    tracing::error!(
                        part = name,
                        error = format!("{error:#}"),
                        "part failed, stopping"
                    );
                }
                Err(error) => tracing::error!(part = name, %error, "part panicked, stopping"),
            }
            this.failed.store(true, Ordering::SeqCst);
            this.shutdown.cancel();
        });
    }
}
