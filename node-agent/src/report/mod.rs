//! The beat: what this node measured and runs goes up, what the market wants comes down.
//!
//! Two tasks. The *ticker* samples and journals at each interval and at each change, whether the coordinator can be reached or
//! not, and wakes the *sender*, which sends the whole truth in one signed request and hands the answer on.
//!
//! # Invariants
//! - Sampling never waits for the network; a beat waits for the disk only as long as one commit takes.
//! - One beat is in flight at a time; each, and each retry, has its own number, nonce and signature.
//! - What a beat says is read right before it is sent, so that a lost beat never matters.
//! - Changes of the connection are logged, not each failure.

mod backoff;
mod contact;
pub mod disks;
mod gather;
mod gpus;
mod meter;
mod reply;
pub mod samples;
mod sender;
mod server_clock;
mod teller;
mod ticker;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use shared::{
    clock::Clock,
    resources::{Gpu, GpuLoad, Inventory},
    wire::desired::{DesiredState, Lease, PullSecret},
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    contact::Contact,
    meter::{Due, Meter, sample_pass},
    samples::Samples,
    server_clock::ServerClock,
    teller::Teller,
};
use crate::{
    identity::Identity, operator::orders::Orders, probe::Prober, reconcile, rental::LiveRental,
};

/// Until the coordinator says otherwise.
const FIRST_INTERVAL_MS: i64 = 5_000;

/// The side that runs containers: [`reconcile::Handle`], or a stand-in where no container is to run.
#[async_trait]
pub trait Rentals: Send + Sync + 'static {
    /// What runs here now.
    fn live(&self) -> watch::Receiver<Vec<LiveRental>>;
    /// Generation of the desired state that is held.
    fn generation(&self) -> i64;
    /// Takes an answer; returns when it is durable.
    async fn apply(
        &self,
        desired: DesiredState,
        leases: Vec<Lease>,
        sent_boot_ms: i64,
    ) -> anyhow::Result<()>;
    /// Takes what private images are fetched with, in place of what was there; for memory only.
    fn take_secrets(&self, secrets: Vec<PullSecret>) {
        drop(secrets);
    }
}

#[async_trait]
impl Rentals for reconcile::Handle {
    fn live(&self) -> watch::Receiver<Vec<LiveRental>> {
        Self::live(self)
    }

    fn generation(&self) -> i64 {
        Self::generation(self)
    }

    async fn apply(
        &self,
        desired: DesiredState,
        leases: Vec<Lease>,
        sent_boot_ms: i64,
    ) -> anyhow::Result<()> {
        Self::apply(self, desired, leases, sent_boot_ms).await
    }

    fn take_secrets(&self, secrets: Vec<PullSecret>) {
        Self::take_secrets(self, secrets);
    }
}

/// What the beat is made of.
pub struct Parts {
    /// Who signs, and where it goes.
    pub identity: Identity,
    /// Measures containers and keeps the journal.
    pub meter: Meter,
    /// What rentals used, for whoever rents.
    pub samples: Arc<Samples>,
    /// Measures the machine's load.
    pub prober: Arc<Mutex<Prober>>,
    /// What the machine has, measured anew from time to time.
    pub inventory: watch::Receiver<Arc<Inventory>>,
    /// Runs containers.
    pub rentals: Arc<dyn Rentals>,
    /// What the machine's owner wants of the market.
    pub orders: Arc<Orders>,
    /// This machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// The kernel's boot id.
    pub boot_id: String,
    /// How long acknowledged records are kept, milliseconds.
    pub journal_keep_ms: i64,
    /// Where to write how it goes; nowhere if `None`.
    pub status_file: Option<PathBuf>,
}

/// The running beat, as the rest of the agent sees it.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// Wakes the sender at once.
    pub nudge: Arc<Notify>,
    /// The latest beacon (hex); empty before the first answer.
    pub beacon: watch::Receiver<String>,
    /// The coordinator's clock.
    pub server_clock: watch::Receiver<ServerClock>,
    /// How the connection is.
    pub contact: watch::Receiver<Contact>,
    /// `CLOCK_BOOTTIME` of the last sampling pass that came to its end, milliseconds: it stands still when the agent hangs.
    pub last_pass_boot_ms: watch::Receiver<i64>,
    /// Tells how the agent is doing.
    pub teller: Teller,
}

/// What ticker and sender share.
#[derive(Clone)]
struct Shared {
    meter: Arc<Mutex<Meter>>,
    rentals: Arc<dyn Rentals>,
    clock: Arc<dyn Clock>,
    /// The ticker has something new for the sender.
    sampled: Arc<Notify>,
    /// Why metering stands still, if it does.
    metering_fault: watch::Sender<Option<String>>,
    /// The GPUs as the ticker saw them last.
    gpus: watch::Sender<Vec<(Gpu, GpuLoad)>>,
}

impl Shared {
    /// Runs `work` on the meter, off the async threads.
    async fn with_meter<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Meter) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let meter = Arc::clone(&self.meter);
        Ok(tokio::task::spawn_blocking(move || work(&mut lock(&meter))).await?)
    }
}

/// A panic under the lock leaves a meter whose journal is as its last commit: it can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts both tasks on `tracker`; they end when `shutdown` is cancelled.
///
/// # Errors
/// The HTTP client can't be set up, or the system has no random numbers.
pub fn start(
    parts: Parts,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<Reporter> {
    let (beacon, beacon_now) = watch::channel(String::new());
    let (interval_ms, interval_now) = watch::channel(FIRST_INTERVAL_MS);
    let (server_clock, server_clock_now) = watch::channel(ServerClock::default());
    let (contact, contact_now) = watch::channel(Contact::Starting);
    let (last_pass, last_pass_now) = watch::channel(parts.clock.boot_ms());
    let nudge = Arc::new(Notify::new());
    let shared = Shared {
        meter: Arc::new(Mutex::new(parts.meter)),
        rentals: parts.rentals,
        clock: parts.clock,
        sampled: Arc::new(Notify::new()),
        metering_fault: watch::Sender::new(None),
        gpus: watch::Sender::new(Vec::new()),
    };
    let (answered, answered_now) = watch::channel(None);
    let teller = Teller {
        shared: shared.clone(),
        identity: parts.identity.clone(),
        contact: contact_now.clone(),
        inventory: parts.inventory.clone(),
        orders: Arc::clone(&parts.orders),
        started_at: shared.clock.now(),
        answered: answered_now,
    };
    let sender = sender::Sender::new(
        shared.clone(),
        sender::Setup {
            orders: parts.orders,
            teller: teller.clone(),
            answered,
            identity: parts.identity,
            prober: Arc::clone(&parts.prober),
            inventory: parts.inventory.clone(),
            boot_id: parts.boot_id,
            status_file: parts.status_file,
            nudge: Arc::clone(&nudge),
            beacon,
            interval_ms,
            server_clock,
            contact,
        },
    )?;
    let ticker = ticker::Ticker {
        shared,
        prober: parts.prober,
        samples: parts.samples,
        inventory: parts.inventory,
        beacon: beacon_now.clone(),
        interval_ms: interval_now,
        last_pass,
        keep_ms: parts.journal_keep_ms,
        pruned_boot_ms: 0,
    };
    tracker.spawn(ticker.run(shutdown.clone()));
    tracker.spawn(sender.run(shutdown.clone()));
    Ok(Reporter {
        nudge,
        beacon: beacon_now,
        server_clock: server_clock_now,
        contact: contact_now,
        last_pass_boot_ms: last_pass_now,
        teller,
    })
}
