//! The life of the process: what runs, when it stops, and how it ends.
//!
//! # Invariants
//! - A part that ends before it was told to ends the process with an error: a coordinator without one of its timers is
//!   worse than one that is restarted.
//! - After a signal there are [`STOP_TIME_MAX`] to end in good order; a second signal ends at once.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long ending may take.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(10);

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
            let why = match outcome {
                Ok(Ok(())) => "it ended unasked".to_owned(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(error) => error.to_string(),
            };
            tracing::error!(part = name, why, "part failed, stopping");
            this.failed.store(true, Ordering::SeqCst);
            this.shutdown.cancel();
        });
    }

    /// Stops everything and waits for its end.
    ///
    /// # Errors
    /// A part failed, or didn't end in time.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(STOP_TIME_MAX, self.tracker.wait()).await;
        if ended.is_err() {
            bail!(
                "{} parts didn't end within {} s",
                self.tracker.len(),
                STOP_TIME_MAX.as_secs()
            );
        }
        if self.failed.load(Ordering::SeqCst) {
            bail!("a part failed; the log above says which");
        }
        Ok(())
    }

    /// Says that we are ready, waits for a signal, a failed part or `broken`, and ends in good order.
    ///
    /// # Errors
    /// A part failed or didn't end in time, or what `broken` says.
    pub async fn run(&self, broken: impl Future<Output = String>) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        self.feed_watchdog();
        notify(NotifyState::Ready);
        let outcome = tokio::select! {
            () = self.shutdown.cancelled() => Ok(()),
            reason = broken => Err(anyhow::anyhow!("{reason}")),
            _ = terminate.recv() => logged("SIGTERM"),
            _ = interrupt.recv() => logged("SIGINT"),
        };
        notify(NotifyState::Stopping);
        let stopped = tokio::select! {
            stopped = self.stop() => stopped,
            () = again(&mut terminate, &mut interrupt) => bail!("a second signal: not waiting any more"),
        };
        outcome.and(stopped)
    }

    /// Tells systemd at half its interval that this process still turns, if it wants to know.
    fn feed_watchdog(&self) {
        let Some(interval) = sd_notify::watchdog_enabled() else {
            return;
        };
        let shutdown = self.shutdown.clone();
        self.spawn("watchdog", async move {
            let mut timer = tokio::time::interval(interval / 2);
            while shutdown.run_until_cancelled(timer.tick()).await.is_some() {
                notify(NotifyState::Watchdog);
            }
            Ok(())
        });
    }
}

async fn again(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn logged(signal: &str) -> anyhow::Result<()> {
    tracing::info!(signal, "stopping");
    Ok(())
}

/// Without systemd this does nothing.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd can't be told");
    }
}
