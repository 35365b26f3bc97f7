//! Keeps containers as the market wants them: desired state on disk × Docker → plan → apply.
//!
//! | file | what |
//! |---|---|
//! | `plan` | pure: what to do now |
//! | `observe` | pure: what to tell |
//! | `apply` | does steps that take time, each in its own task |
//! | `secrets` | what private images are fetched with, in memory |
//! | `notes` | what Docker can't tell afterwards, on disk |
//! | `events` | listens to the engine |
//! | `works` | the steps under way |
//! | `driver` | the loop: wish changed · engine's event · work done · timer → look, plan, do, tell |
//!
//! # Invariants
//! - Level-triggered: each round plans from the whole state. A lost event costs at most 30 s (the timer lists again), never a rental.
//! - Only a successful answer of the engine changes the view: an engine that is away makes no rental exited or lost.
//! - The agent's own end leaves containers running; the next agent finds them by label and goes on.

use std::{path::Path, sync::Arc, time::Duration};

use shared::{
    clock::Clock,
    wire::{
        desired::{DesiredState, Lease, PullSecret},
        observed::Phase,
    },
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    desired::DesiredStore,
    kept::KeptLogs,
    rental::LiveRental,
    runtime::{ContainerRuntime, Event},
};

mod apply;
mod driver;
mod events;
mod notes;
mod observe;
mod plan;
mod secrets;
mod works;

use apply::{PULLS_AT_ONCE, Worker};
use driver::Driver;
use notes::NoteStore;
use plan::Key;
use secrets::Secrets;

/// Messages that wait for the loop; whoever sends more waits.
const MESSAGES_MAX: usize = 1_024;
/// How long [`start`] waits for the engine's first answer.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The rest of the agent's hold on the reconciler task.
#[derive(Debug, Clone)]
pub struct Handle {
    live: watch::Receiver<Vec<LiveRental>>,
    store: Arc<DesiredStore>,
    secrets: Arc<Secrets>,
}

impl Handle {
    /// What runs here now; changes with every state, pull progress included. A rental about which nothing is known yet (the engine
    /// hasn't answered since the agent started) is left out.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Vec<LiveRental>> {
        self.live.clone()
    }

    /// Generation of the desired state on disk; 0 when nothing is known.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.store.current().generation()
    }

    /// Takes a reply's desired state and leases; returns when both are durable. `sent_boot_ms` is the `CLOCK_BOOTTIME`
    /// at which the beat that it answers was sent: leases count from there. A lower generation than the one on disk is refused
    /// (logged, its leases ignored).
    ///
    /// # Errors
    /// The state could not be written to disk.
    pub async fn apply(
        &self,
        desired: DesiredState,
        leases: Vec<Lease>,
        sent_boot_ms: i64,
    ) -> anyhow::Result<()> {
        self.store.apply(desired, leases, sent_boot_ms).await
    }

    /// Takes what private images are fetched with, in place of what was there. Never written to disk.
    pub fn take_secrets(&self, secrets: Vec<PullSecret>) {
        self.secrets.replace(secrets);
    }
}

/// Starts the reconciler on the state kept in `dir`. Returns when the engine has answered once, or after 5 s without an answer (an
/// engine that is away is waited for in the background). `boot_id`: the kernel's; leases on disk of another boot are converted. `kept`: where
/// logs go before their containers do.
///
/// # Errors
/// The state on disk can't be read (a broken file is no error).
pub async fn start(
    dir: &Path,
    runtime: Arc<dyn ContainerRuntime>,
    kept: Arc<KeptLogs>,
    clock: Arc<dyn Clock>,
    boot_id: String,
    shutdown: CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<Handle> {
    let store = Arc::new(DesiredStore::open(dir, Arc::clone(&clock), boot_id)?);
    let notes = Arc::new(NoteStore::open(dir)?);
    let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
    let (live, live_rx) = watch::channel(Vec::new());
    let (looked, first_look) = tokio::sync::oneshot::channel();
    let secrets = Arc::new(Secrets::default());
    let worker = Worker {
        secrets: Arc::clone(&secrets),
        runtime: Arc::clone(&runtime),
        kept,
        notes,
        pulls: Arc::new(Semaphore::new(PULLS_AT_ONCE)),
        messages: messages.clone(),
    };
    let driver = Driver::new(
        worker,
        store.subscribe(),
        Arc::clone(&clock),
        live,
        shutdown.clone(),
    );
    tracker.spawn(driver.run(inbox, looked));
    tracker.spawn(events::listen(runtime, clock, messages, shutdown));
    let looked = tokio::time::timeout(FIRST_LOOK, first_look).await;
    if looked.is_err() {
        tracing::warn!("the container engine doesn't answer; rentals are reported when it does");
    }
    Ok(Handle {
        live: live_rx,
        store,
        secrets,
    })
}

/// What wakes the loop.
#[derive(Debug)]
enum Message {
    /// Look at everything.
    Resync,
    /// Look at this container.
    Touched(Event),
    /// Work under way came this far.
    Progress(Key, Phase),
}

/// Pauses between tries: 0.2 s, doubling to 5 s.
#[derive(Debug, Default)]
struct Backoff {
    tries: u32,
}

impl Backoff {
    const FIRST_MS: u64 = 200;
    const LAST_MS: u64 = 5_000;

    fn next(&mut self) -> Duration {
        let pause_ms = Self::FIRST_MS
            .saturating_mul(1 << self.tries.min(8))
            .min(Self::LAST_MS);
        self.tries = self.tries.saturating_add(1);
        Duration::from_millis(pause_ms)
    }
}

#[cfg(test)]
mod tests;
