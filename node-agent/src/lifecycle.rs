//! The running agent: starts its tasks, tells systemd, ends on a signal.
//!
//! # Invariants
//! - The end of the agent ends no rental: containers belong to Docker, and the next start finds them.
//! - systemd is told *ready* after the first beat was tried, whether it was answered or not: an agent without network works.
//! - The watchdog is fed only while sampling passes come to their end.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use sd_notify::NotifyState;
use shared::{
    clock::{Clock, SystemClock},
    resources::Inventory,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    boot,
    config::Config,
    data_dir::DataDir,
    identity::{self, Identity},
    journal::{Journal, Owner},
    link,
    measure::Sampler,
    probe::{self, Prober},
    reconcile,
    report::{self, Contact, Meter, Parts, Reporter},
    runtime::{ContainerRuntime, RuntimeError, docker::DockerRuntime},
};

/// How long tasks may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// A pass that takes longer than this has hung, milliseconds.
const PASS_MS_MAX: i64 = 120_000;

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// Another agent uses the folder, this machine isn't enrolled, or something that it needs can't be read.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let dir = DataDir::new(&config.data_dir);
    dir.create()?;
    let _lock = dir.lock()?;
    let identity = Identity::load(&dir)?;
    let shutdown = CancellationToken::new();
    let tracker = TaskTracker::new();
    let started = tokio::select! {
        started = Box::pin(start(config, &dir, identity, &shutdown, &tracker)) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    tracker.spawn(supervise(started, clock, shutdown.clone()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; rentals go on");
    tell_systemd(&[NotifyState::Stopping]);
    shutdown.cancel();
    tracker.close();
    if timeout(END_TIMEOUT, tracker.wait()).await.is_err() {
        tracing::warn!("some tasks didn't end in time");
    }
    Ok(())
}

async fn start(
    config: &Config,
    dir: &DataDir,
    identity: Identity,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<Reporter> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let boot_id = boot::id()?;
    let journal = Journal::open(
        &dir.journal(),
        Owner {
            node_id: identity.node_id,
            key: Arc::clone(&identity.key),
            boot_id: boot_id.clone(),
            coordinator_key: identity.coordinator_key,
        },
    )?;
    let scope = identity::container_scope(dir, identity.node_id)?;
    let docker = DockerRuntime::new(Some(&config.docker_host), scope)?;
    let docker = Arc::new(docker.with_networks(config.networks()));
    // before the first inventory, which says whether rentals can have a network
    docker.prepare().await;
    tracker.spawn(Arc::clone(&docker).keep(shutdown.clone()));
    let runtime: Arc<dyn ContainerRuntime> = docker;
    let rentals = reconcile::start(
        dir.path(),
        Arc::clone(&runtime),
        Arc::clone(&clock),
        boot_id.clone(),
        shutdown.clone(),
        tracker,
    )
    .await?;
    let prober = Arc::new(Mutex::new(Prober::new()));
    let inventory = keep_inventory(&prober, runtime, shutdown, tracker).await?;
    let reporter = report::start(
        Parts {
            identity: identity.clone(),
            meter: Meter::new(journal, Sampler::new("/")),
            prober,
            inventory,
            rentals: Arc::new(rentals),
            clock: Arc::clone(&clock),
            boot_id,
            journal_keep_ms: config.journal_keep_ms(),
            status_file: Some(dir.status()),
        },
        shutdown,
        tracker,
    )?;
    link::start(identity, reporter.clone(), clock, shutdown, tracker)?;
    Ok(reporter)
}

/// Measures the machine now, and again every [`probe::REFRESH`].
async fn keep_inventory(
    prober: &Arc<Mutex<Prober>>,
    runtime: Arc<dyn ContainerRuntime>,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<watch::Receiver<Arc<Inventory>>> {
    let first = measure(prober, runtime.as_ref()).await?;
    let (sender, receiver) = watch::channel(Arc::new(first));
    let (prober, shutdown) = (Arc::clone(prober), shutdown.clone());
    tracker.spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(probe::REFRESH) => {}
            }
            match measure(&prober, runtime.as_ref()).await {
                Ok(inventory) => {
                    sender.send_replace(Arc::new(inventory));
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the machine can't be measured; the inventory of before is kept"
                ),
            }
        }
    });
    Ok(receiver)
}

/// Measures the machine, Docker included.
///
/// # Errors
/// The kernel doesn't say what is needed.
pub async fn measure(
    prober: &Arc<Mutex<Prober>>,
    runtime: &dyn ContainerRuntime,
) -> anyhow::Result<Inventory> {
    let facts = runtime.facts().await.map_err(RuntimeError::reason);
    let prober = Arc::clone(prober);
    tokio::task::spawn_blocking(move || {
        prober
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .inventory(facts)
    })
    .await
    .context("measuring the machine failed")?
}

/// Tells systemd that the agent is ready, how it is, and that it lives.
async fn supervise(reporter: Reporter, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let Reporter {
        mut contact,
        last_pass_boot_ms,
        ..
    } = reporter;
    let every = sd_notify::watchdog_enabled().map_or(Duration::from_secs(30), |limit| limit / 3);
    let mut feed = tokio::time::interval(every);
    let mut ready = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = feed.tick() => {
                let age_ms = clock.boot_ms() - *last_pass_boot_ms.borrow();
                if age_ms < PASS_MS_MAX {
                    tell_systemd(&[NotifyState::Watchdog]);
                } else {
                    tracing::error!(age_ms, "sampling hangs; the watchdog isn't fed");
                }
            }
            changed = contact.changed() => {
                if changed.is_err() {
                    return;
                }
                let status = match &*contact.borrow_and_update() {
                    Contact::Starting => continue,
                    Contact::Connected { .. } => "connected".to_owned(),
                    Contact::Lost { reason, .. } => format!("no contact: {reason}"),
                };
                tell_systemd(&[NotifyState::Status(&status)]);
                if !ready {
                    tell_systemd(&[NotifyState::Ready]);
                    ready = true;
                }
            }
        }
    }
}

/// Does nothing where there is no systemd.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd can't be told");
    }
}
