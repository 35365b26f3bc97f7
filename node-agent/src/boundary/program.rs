//! `ramarket-helper` as a process: settings, the socket, systemd, its end.
//!
//! # Invariants
//! - One helper for each state folder: a second one doesn't touch the socket of the first.
//! - Its end lets calls come to theirs, which may take as long as the engine needs for a create or a start, and cuts off pulls and events.
//! - The watchdog is fed by the same thread that serves: a helper that hangs is started anew.

use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};
use sd_notify::NotifyState;
use shared::clock::SystemClock;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    binding::Binding,
    guard::{Engine, Room},
    server::{Helper, Peers},
    settings::{self, Flags, Settings},
    socket,
};
use crate::{
    data_dir::DataDir,
    logging, manual,
    runtime::{disk::Volumes, docker::DockerRuntime},
    systemd,
};

/// How long calls may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Does for ramarket-agent what only root may: containers, and nothing that the agent can't say in a handful of typed verbs.
#[derive(Debug, Parser)]
#[command(name = "ramarket-helper", version)]
pub struct Cli {
    /// The configuration file; /etc/ramarket/helper.toml if there is one
    #[arg(long, env = "RAMARKET_HELPER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// Serves the agent unless one is given
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stop and remove every rental of this machine's agent with all that was made for rentals, whether agent and helper run or not
    EndRentals,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs until SIGTERM or SIGINT and returns the exit code: 0 ended as told · 1 failed · 2 used wrongly.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut err = std::io::stderr();
            let _nobody_listens = writeln!(err, "ramarket-helper: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if let Some(Command::Completions { shell }) = cli.command {
        let script = manual::completions(&mut Cli::command(), shell)?;
        return Ok(std::io::stdout().lock().write_all(script.as_bytes())?);
    }
    let settings = Settings::load(cli.config.as_deref(), &cli.flags)?;
    logging::start(&settings.log, settings.log_format)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(512 * 1024)
        .build()?;
    match cli.command {
        Some(Command::EndRentals) => runtime.block_on(end_rentals(&settings)),
        _ => runtime.block_on(Box::pin(serve(settings))),
    }
}

/// For the removal of the package: nobody would end them when their time is over.
async fn end_rentals(settings: &Settings) -> anyhow::Result<()> {
    let Some(scope) = Binding::read(&settings.state_dir)?.bound() else {
        // no agent was ever served: there are none
        return Ok(());
    };
    let volumes = Volumes::open(settings.disks(), Arc::new(SystemClock))?;
    let engine = DockerRuntime::new(Some(&settings.docker_host), scope)?.with_disks(Some(volumes));
    engine.leave().await
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let dir = DataDir::new(&settings.state_dir);
    dir.create()?;
    let _lock = dir.lock()?;
    let room = Room::of_this_machine(settings.reserve_bytes)?;
    let account = settings::account(&settings.agent_user)?;
    if account.is_none() {
        tracing::warn!(
            user = settings.agent_user,
            "there is no such user: only root is answered"
        );
    }
    let shutdown = CancellationToken::new();
    let (docker_host, networks) = (settings.docker_host.clone(), settings.networks());
    let disks = settings.disks();
    let images = settings.images();
    let keeping = shutdown.clone();
    let helper = Helper::new(
        Box::new(move |scope: &str| {
            let engine = DockerRuntime::new(Some(&docker_host), scope.to_owned())?;
            let engine = engine.with_networks(networks.clone());
            let volumes = Volumes::open(disks.clone(), Arc::new(SystemClock))?;
            let engine = Arc::new(engine.with_disks(Some(volumes)).with_images(images.clone()));
            if !scope.is_empty() {
                // ends with `shutdown`; what it was at is taken up by the next start
                tokio::spawn(Arc::clone(&engine).keep(keeping.clone()));
            }
            Ok(engine as Arc<dyn Engine>)
        }),
        room,
        Peers {
            agent_uid: account.map(|account| account.uid),
        },
        &settings.state_dir,
        shutdown.clone(),
    )?;
    let listener = socket::listen(&settings.socket, account.map(|account| account.gid))?;
    let tracker = TaskTracker::new();
    let serving = tokio::spawn(Arc::new(helper).serve(listener, tracker.clone()));
    tracing::info!(socket = %settings.socket.display(), room.ram_bytes, room.cpu_millis, "listening");
    systemd::tell(&[NotifyState::Ready]);
    let mut feed = tokio::time::interval(systemd::watchdog_every());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = feed.tick() => systemd::tell(&[NotifyState::Watchdog]),
        }
    }
    tracing::info!("stopping; rentals go on");
    systemd::tell(&[NotifyState::Stopping]);
    shutdown.cancel();
    tracker.close();
    let ended = async {
        let served = serving.await;
        tracker.wait().await;
        served
    };
    match timeout(END_TIMEOUT, ended).await {
        Ok(served) => Ok(served?),
        Err(_) => {
            tracing::warn!("some calls didn't end in time; they can be repeated");
            Ok(())
        }
    }
}
