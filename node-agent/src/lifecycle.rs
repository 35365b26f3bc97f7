//! The running agent: starts its tasks, tells systemd, ends on a signal.
//!
//! # Invariants
//! - The end of the agent ends no rental: containers belong to Docker, and the next start finds them.
//! - systemd is told *ready* after the first beat was tried, whether it was answered or not: an agent without network works.
//! - The watchdog is fed only while sampling passes come to their end.

use std::{
    path::{Path, PathBuf},
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
    boundary::HelperRuntime,
    config::Config,
    data_dir::DataDir,
    identity::{self, Identity},
    journal::{Journal, Owner},
    kept::KeptLogs,
    link,
    measure::Sampler,
    operator::{self, orders::Orders, socket::Desk},
    probe::{self, Prober},
    reconcile,
    report::{self, Contact, Meter, Parts, Reporter, samples::Samples},
    runtime::{
        ContainerRuntime, RuntimeError,
        disk::{Space, Volumes},
        docker::DockerRuntime,
    },
    streams::{Sources, Streams},
    systemd,
};

/// How long tasks may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Kept of the disk for the journal: some hours of ten rentals, by when somebody has made room.
const JOURNAL_RESERVE_BYTES: u64 = 16 << 20;
/// What has to be free in the agent's folder for new rentals: the reserve may have to be made again.
const OWN_BYTES_MIN: i64 = 64 << 20;
/// Looks at an engine that isn't there when the agent starts, before it is told of.
const FIRST_LOOKS: u32 = 5;
/// Between two of them.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(500);
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
    systemd::tell(&[NotifyState::Stopping]);
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
    let journal = journal(dir, &identity, boot_id.clone())?;
    let scope = identity::container_scope(dir, identity.node_id)?;
    let runtime = kept_engine(config, scope, shutdown, tracker)?;
    let kept = keep_logs(config, dir, (&clock, shutdown), tracker)?;
    let rentals = reconcile::start(
        dir.path(),
        Arc::clone(&runtime),
        Arc::clone(&kept),
        Arc::clone(&clock),
        boot_id.clone(),
        shutdown.clone(),
        tracker,
    )
    .await?;
    let samples = Arc::new(Samples::open(dir.samples())?);
    let watched = (Arc::clone(&runtime), Arc::clone(&samples));
    tracker.spawn(report::disks::follow(
        watched.0,
        watched.1,
        shutdown.clone(),
    ));
    let prober = Arc::new(Mutex::new(Prober::new()));
    let folder = dir.path().to_owned();
    let sources = Sources {
        runtime: Arc::clone(&runtime),
        kept,
        samples: Arc::clone(&samples),
        live: rentals.live(),
    };
    let streams = Streams::new(sources, shutdown.clone(), tracker.clone());
    let inventory = keep_inventory((&prober, folder), runtime, shutdown, tracker).await?;
    let orders = Arc::new(Orders::open(dir.orders(), identity.node_id)?);
    let reporter = report::start(
        Parts {
            identity: identity.clone(),
            meter: Meter::new(journal, Sampler::new("/")),
            samples,
            prober,
            inventory,
            rentals: Arc::new(rentals),
            orders: Arc::clone(&orders),
            clock: Arc::clone(&clock),
            boot_id,
            journal_keep_ms: config.journal_keep_ms(),
            status_file: Some(dir.status()),
        },
        shutdown,
        tracker,
    )?;
    hear_operator(config, &reporter, (orders, &clock), shutdown, tracker);
    let served = (reporter.clone(), streams);
    link::start(identity, served, clock, shutdown, tracker)?;
    Ok(reporter)
}

fn journal(dir: &DataDir, identity: &Identity, boot_id: String) -> anyhow::Result<Journal> {
    let owner = Owner {
        node_id: identity.node_id,
        key: Arc::clone(&identity.key),
        boot_id,
        coordinator_key: identity.coordinator_key,
    };
    let journal = Journal::open(&dir.journal(), owner)?;
    Ok(journal.with_reserve(&dir.journal(), JOURNAL_RESERVE_BYTES))
}

/// The logs of rentals that are over.
fn keep_logs(
    config: &Config,
    dir: &DataDir,
    (clock, shutdown): (&Arc<dyn Clock>, &CancellationToken),
    tracker: &TaskTracker,
) -> anyhow::Result<Arc<KeptLogs>> {
    let kept = KeptLogs::open(dir.logs(), config.kept_logs(), Arc::clone(clock))?;
    let kept = Arc::new(kept);
    tracker.spawn(Arc::clone(&kept).sweep(shutdown.clone()));
    Ok(kept)
}

/// Answers the person in front of the machine.
fn hear_operator(
    config: &Config,
    reporter: &Reporter,
    (orders, clock): (Arc<Orders>, &Arc<dyn Clock>),
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) {
    let desk = Desk {
        teller: reporter.teller.clone(),
        orders,
        clock: Arc::clone(clock),
        server_clock: reporter.server_clock.clone(),
        nudge: Arc::clone(&reporter.nudge),
        own_uid: rustix::process::geteuid().as_raw(),
    };
    operator::socket::start(desk, &config.operator_socket_path(), shutdown, tracker);
}

/// The engine for as long as the agent runs: without a helper, what it would do all the time is done here.
fn kept_engine(
    config: &Config,
    scope: String,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<Arc<dyn ContainerRuntime>> {
    if !config.helper_socket.is_empty() {
        return engine(config, scope);
    }
    tracing::warn!(
        "no helper_socket is set: this process works with the container engine itself, which is as good as being root"
    );
    let docker = Arc::new(docker(config, scope)?);
    tracker.spawn(Arc::clone(&docker).keep(shutdown.clone()));
    Ok(docker)
}

fn docker(config: &Config, scope: String) -> anyhow::Result<DockerRuntime> {
    let docker = DockerRuntime::new(Some(&config.docker_host), scope)?;
    let disks = Volumes::open(config.disks(), Arc::new(SystemClock));
    // not allowed to: rentals without disks still run
    let disks = disks.inspect_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "no disks are rented out");
    });
    let docker = docker
        .with_networks(config.networks())
        .with_images(config.images());
    Ok(docker.with_disks(disks.ok()))
}

/// The container engine: behind the helper, or, where none is set, as this process may reach it. `scope` is the label of this machine's
/// containers.
///
/// # Errors
/// The engine isn't one of this machine.
pub fn engine(config: &Config, scope: String) -> anyhow::Result<Arc<dyn ContainerRuntime>> {
    Ok(if config.helper_socket.is_empty() {
        Arc::new(docker(config, scope)?)
    } else {
        Arc::new(HelperRuntime::new(
            PathBuf::from(&config.helper_socket),
            scope,
        ))
    })
}

/// Measures the machine now, and again every [`probe::REFRESH`].
async fn keep_inventory(
    (prober, folder): (&Arc<Mutex<Prober>>, PathBuf),
    runtime: Arc<dyn ContainerRuntime>,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<watch::Receiver<Arc<Inventory>>> {
    let first = with_own_room(first_look(prober, runtime.as_ref()).await?, &folder);
    let (sender, receiver) = watch::channel(Arc::new(first));
    let (prober, shutdown) = (Arc::clone(prober), shutdown.clone());
    tracker.spawn(async move {
        let mut missed = false;
        loop {
            let wait = refresh_after(&sender.borrow(), missed);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match measure(&prober, runtime.as_ref()).await {
                // an engine or a helper that is being restarted is there at the next look: nobody need hear of it
                Ok(inventory) if is_gone(&inventory, &sender.borrow()) && !missed => missed = true,
                Ok(inventory) => {
                    missed = false;
                    sender.send_replace(Arc::new(with_own_room(inventory, &folder)));
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

/// As [`measure`]; a helper that is being started beside this agent gets a moment, so that the market isn't told of an engine that is away.
async fn first_look(
    prober: &Arc<Mutex<Prober>>,
    runtime: &dyn ContainerRuntime,
) -> anyhow::Result<Inventory> {
    let mut look = tokio::time::interval(FIRST_LOOK_EVERY);
    for _ in 1..FIRST_LOOKS {
        look.tick().await;
        let inventory = measure(prober, runtime).await?;
        if inventory.docker.is_some() {
            return Ok(inventory);
        }
    }
    look.tick().await;
    measure(prober, runtime).await
}

/// Says as well when the agent's own folder, with the journal, has hardly any room.
fn with_own_room(mut inventory: Inventory, folder: &Path) -> Inventory {
    // what can't be asked isn't judged
    if let Ok(space) = Space::of(folder)
        && space.free_bytes < OWN_BYTES_MIN
    {
        let why = "the disk of its agent's folder is nearly full";
        inventory.shortage.get_or_insert_with(|| why.to_owned());
    }
    inventory
}

/// Whether an engine that was there before isn't now.
const fn is_gone(now: &Inventory, before: &Inventory) -> bool {
    now.docker.is_none() && before.docker.is_some()
}

/// How long an inventory holds: less long when the engine, or the helper before it, was away at that moment, or something was short.
fn refresh_after(inventory: &Inventory, missed: bool) -> Duration {
    if inventory.docker.is_some() && inventory.shortage.is_none() && !missed {
        probe::REFRESH
    } else {
        probe::REFRESH_WITHOUT_ENGINE
    }
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
    let mut feed = tokio::time::interval(systemd::watchdog_every());
    let mut ready = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = feed.tick() => {
                let age_ms = clock.boot_ms() - *last_pass_boot_ms.borrow();
                if age_ms < PASS_MS_MAX {
                    systemd::tell(&[NotifyState::Watchdog]);
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
                systemd::tell(&[NotifyState::Status(&status)]);
                if !ready {
                    systemd::tell(&[NotifyState::Ready]);
                    ready = true;
                }
            }
        }
    }
}
