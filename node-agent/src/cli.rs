//! The command line: what can be asked of the agent, and with which exit code it answers.
//!
//! Exit codes: 0 done · 1 failed · 2 used wrongly · 3 coordinator not reached · 4 coordinator doesn't accept this machine or token.
//! The doctor's own: 0 well · 1 warnings · 2 something failed.

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use clap::{CommandFactory as _, Parser, Subcommand};
use shared::{clock::SystemClock, resources::Inventory};

use crate::{
    boundary,
    config::{Config, Flags},
    data_dir::DataDir,
    doctor,
    endpoint::BaseUrl,
    enroll::{self, Order},
    http::RequestError,
    identity::Identity,
    journal, lifecycle, logging, manual,
    operator::commands,
    probe::Prober,
    written::print,
};

/// Lends this machine's memory and processors on a RAMarket.
#[derive(Debug, Parser)]
#[command(name = "ramarket-agent", version, about)]
pub struct Cli {
    /// The configuration file; /etc/ramarket/agent.toml if there is one
    #[arg(
        long,
        global = true,
        env = "RAMARKET_AGENT_CONFIG",
        value_name = "FILE"
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this machine a node of a coordinator, with the one-time token that it gave
    Enroll {
        /// The coordinator, such as https://market.example
        #[arg(long)]
        url: String,
        /// The file that holds the token; - for standard input
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// A name for people; the host's name unless given
        #[arg(long)]
        name: Option<String>,
        /// Become a new node: the files of the old one are set aside
        #[arg(long)]
        force: bool,
    },
    /// Run: measure, meter, and hold what is rented
    Run,
    /// Show how the agent is doing
    #[command(after_help = "Examples:
  ramarket-agent status
  ramarket-agent status --watch
  ramarket-agent status --json

Exit code: 0 connected · 1 the agent doesn't run · 3 no contact with the coordinator")]
    Status {
        /// As JSON, on one line
        #[arg(long)]
        json: bool,
        /// Again every two seconds, until interrupted
        #[arg(long)]
        watch: bool,
    },
    #[command(flatten)]
    Order(commands::Order),
    /// Check this machine: what is wrong, why, and what to do; works before enrolment too
    Doctor(doctor::Ask),
    /// Take a rental of nobody's through its whole life on this machine, with times
    #[command(after_help = "Examples:
  ramarket-agent self-test
  ramarket-agent self-test --json

A small container is made from this very program, caged and limited as any rental, started, measured, probed for what it can reach,
stopped and removed. Nothing is fetched, and rentals that run aren't touched. Works before enrolment too.
Exit code: 0 passed · 1 failed")]
    SelfTest {
        /// As JSON, on one line
        #[arg(long)]
        json: bool,
    },
    /// Check every record of the usage journal, without the coordinator
    VerifyJournal,
    /// Show what the agent measures on this machine
    Probe {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of ramarket-agent and ramarket-helper into a folder
    Man {
        /// The folder; it must exist
        folder: PathBuf,
    },
}

/// Does what the command line asks and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut err = std::io::stderr();
            let _nobody_listens = writeln!(err, "ramarket-agent: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<RequestError>() {
        Some(RequestError::Unreachable(_)) => 3,
        Some(RequestError::Refused {
            status: 401 | 403, ..
        }) => 4,
        _ => 1,
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    match &cli.command {
        Command::Completions { shell } => {
            print(&manual::completions(&mut Cli::command(), *shell)?)?;
            return Ok(0);
        }
        Command::Man { folder } => {
            manual::pages(Cli::command(), folder)?;
            manual::page(boundary::program::Cli::command(), "8", folder)?;
            return Ok(0);
        }
        _ => {}
    }
    let config = Config::load(cli.config.as_deref(), &cli.flags)?;
    logging::start(&config.log, config.log_format)?;
    match cli.command {
        Command::Doctor(ask) => runtime()?.block_on(doctor::doctor(&config, &ask)),
        other => act(other, &config).map(|()| 0),
    }
}

/// What has no exit code of its own when it goes well.
fn act(command: Command, config: &Config) -> anyhow::Result<()> {
    let dir = DataDir::new(&config.data_dir);
    match command {
        Command::Enroll {
            url,
            token_file,
            name,
            force,
        } => {
            let order = Order {
                url: BaseUrl::to_connect(&url)?,
                token: enroll::read_token(&token_file)?,
                name,
                force,
            };
            dir.create()?;
            let _lock = dir.lock()?;
            let identity = runtime()?.block_on(async {
                let inventory = measured(config).await?;
                enroll::enroll(&dir, order, inventory, &SystemClock).await
            })?;
            print(&format!(
                "enrolled as {}\nnext: systemctl enable --now ramarket-agent, or ramarket-agent run\n",
                identity.node_id
            ))
        }
        Command::Run => runtime()?.block_on(Box::pin(lifecycle::run(config))),
        Command::Status { json, watch } => {
            runtime()?.block_on(commands::status(config, json, watch))
        }
        Command::SelfTest { json } => runtime()?.block_on(self_test(config, json)),
        Command::Order(order) => runtime()?.block_on(commands::order(config, &order)),
        Command::VerifyJournal => {
            let identity = Identity::load(&dir)?;
            let found = journal::verify_file(&dir.journal(), &identity.key.public())?;
            print(&format!(
                "the journal of {} is one unbroken chain of {} records, {} to {}; {} is the last acknowledged\n",
                found.node_id, found.records, found.first_seq, found.head.seq, found.acked_seq
            ))
        }
        Command::Probe { json } => {
            let inventory = runtime()?.block_on(measured(config))?;
            print(&if json {
                format!("{}\n", serde_json::to_string_pretty(&inventory)?)
            } else {
                describe(&inventory)
            })
        }
        // done before
        Command::Doctor(_) | Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}

/// One thread: the agent is to stay small, and what blocks runs beside it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(512 * 1024)
        .build()?)
}

async fn measured(config: &Config) -> anyhow::Result<Inventory> {
    let prober = Arc::new(Mutex::new(Prober::new()));
    // the scope is that of containers, and none is asked for
    let engine = lifecycle::engine(config, String::new())?;
    lifecycle::measure(&prober, engine.as_ref()).await
}

async fn self_test(config: &Config, json: bool) -> anyhow::Result<()> {
    let engine = lifecycle::engine(config, String::new())?;
    let test = engine.self_test().await?;
    print(&if json {
        let passed = test.passed();
        let value = serde_json::json!({ "passed": passed, "steps": test.steps });
        format!("{value}\n")
    } else {
        let lines = test.steps.iter().map(|step| {
            let word = if step.well { "ok" } else { "FAILED" };
            format!(
                "{word:<7} {:<8} {:>6} ms  {}\n",
                step.name, step.took_ms, step.said
            )
        });
        lines.collect()
    })?;
    anyhow::ensure!(
        test.passed(),
        "this machine can't run a rental; see ramarket-agent doctor"
    );
    Ok(())
}

fn describe(inventory: &Inventory) -> String {
    const GIB: i64 = 1 << 30;
    let tenths = |bytes: i64| format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB);
    let mut lines = vec![
        format!(
            "host       {} ({}, Linux {})",
            inventory.hostname, inventory.os, inventory.kernel
        ),
        format!("memory     {}", tenths(inventory.ram_total_bytes)),
        format!(
            "processor  {} × {}",
            inventory.cpu_count, inventory.cpu_model
        ),
        format!("cgroups    version {}", inventory.cgroup_version),
    ];
    for disk in &inventory.disks {
        lines.push(format!(
            "disk       {} {} ({})",
            disk.mount,
            tenths(disk.total_bytes),
            disk.file_system
        ));
    }
    for gpu in &inventory.gpus {
        lines.push(format!(
            "gpu        {} {} ({})",
            gpu.model,
            tenths(gpu.vram_total_bytes),
            gpu.uuid
        ));
    }
    if let Some(reason) = &inventory.gpu_absent_reason {
        lines.push(format!("gpu        none: {reason}"));
    }
    match (&inventory.docker, &inventory.docker_absent_reason) {
        (Some(docker), _) => lines.push(format!(
            "docker     {} (API {}; runtimes {}; {} cgroups; live-restore {})",
            docker.version,
            docker.api_version,
            docker.runtimes.join(", "),
            docker.cgroup_driver,
            if docker.live_restore {
                "on"
            } else {
                "off: a restart of Docker ends rentals"
            }
        )),
        (None, reason) => lines.push(format!(
            "docker     none: {}",
            reason.as_deref().unwrap_or("unknown")
        )),
    }
    lines.push(String::new());
    lines.join("\n")
}
