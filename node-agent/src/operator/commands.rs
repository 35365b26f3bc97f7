//! What the person in front of the machine can ask of the running agent.
//!
//! # Invariants
//! - An order succeeds when the market carried it out. One that it couldn't be told yet is kept, and the exit code says so.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use shared::{
    time::Timestamp,
    wire::operator::{DONE, Maintenance, Wish},
};

use super::{
    client::Client,
    protocol::{Answer, Question},
    units, words,
};
use crate::{
    config::Config, data_dir::DataDir, http::RequestError, status::Status, written::print,
};

/// Between two looks of `status --watch`.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How long an order waits for the market's word, milliseconds.
const WAIT_MS: u64 = 20_000;

/// What is told to the market.
#[derive(Debug, Subcommand)]
pub enum Order {
    /// Take no new rentals; what runs goes on
    Cordon,
    /// Take rentals again
    Uncordon,
    /// Take no new rentals, and end what still runs at a deadline
    #[command(after_help = "Examples:
  ramarket-agent drain                  what runs ends at its own time
  ramarket-agent drain --deadline 2h    what still runs in two hours is ended; only the time that it ran is paid
  ramarket-agent uncordon               back on the market")]
    Drain {
        /// After this time, such as 2h or 30m
        #[arg(long, value_name = "TIME", value_parser = units::span_ms)]
        deadline: Option<i64>,
    },
    /// Plan when this machine can't be relied on: nothing is rented that would run into it
    #[command(subcommand)]
    Maintenance(Plan),
    /// Change how much of this machine is rented out, without a restart
    #[command(after_help = "Examples:
  ramarket-agent share --ram 8GiB --cpus 4
  ramarket-agent share --gpus 1 --disk 100GiB

What isn't named stays. It never goes below what is rented now, nor above what was measured less the machine's own reserve.")]
    Share(Share),
}

/// What can be done about maintenance.
#[derive(Debug, Subcommand)]
pub enum Plan {
    /// Announce a window
    #[command(after_help = "Example:
  ramarket-agent maintenance plan --start 2027-01-10T02:00:00Z --for 2h --note 'a new disk'")]
    Plan {
        /// Its beginning
        #[arg(long, value_name = "MOMENT", value_parser = units::moment)]
        start: Timestamp,
        /// How long it takes
        #[arg(long = "for", value_name = "TIME", value_parser = units::span_ms)]
        length: i64,
        /// Why, for whoever rents here
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Withdraw the window that begins then
    Withdraw {
        /// Its beginning
        #[arg(long, value_name = "MOMENT", value_parser = units::moment)]
        start: Timestamp,
    },
    /// Show what is planned
    List,
}

/// How much is rented out.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Share {
    /// Memory
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    ram: Option<i64>,
    /// Processors
    #[arg(long, value_name = "NUMBER", value_parser = units::cpu_millis)]
    cpus: Option<i64>,
    /// Whole GPUs
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..=64))]
    gpus: Option<i64>,
    /// Disk space
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    disk: Option<i64>,
}

/// Gives an order and waits for what becomes of it.
///
/// # Errors
/// The agent doesn't run; the market refuses, or couldn't be told in time.
pub async fn order(config: &Config, order: &Order) -> anyhow::Result<()> {
    let mut client = connect(config).await?;
    let question = match order {
        Order::Maintenance(Plan::List) => return list(&mut client).await,
        Order::Drain { deadline } => Question::Drain {
            within_ms: *deadline,
        },
        other => Question::Order { wish: wish(other) },
    };
    let Answer::Taken { number } = client.ask(&question).await? else {
        anyhow::bail!("the agent's answer isn't one to an order");
    };
    let wait = Question::Outcome {
        number,
        wait_ms: WAIT_MS,
    };
    let Answer::Outcome { outcome } = client.ask(&wait).await? else {
        anyhow::bail!("the agent's answer isn't one to a question for an outcome");
    };
    let outcome = outcome.ok_or_else(|| {
        RequestError::Unreachable(
            "the order is kept, and the market is told as soon as it can be reached; see `ramarket-agent status`".to_owned(),
        )
    })?;
    anyhow::ensure!(
        outcome.code == DONE,
        "the market refuses ({}): {}",
        outcome.code,
        outcome.detail
    );
    let standing = status_of(&mut client).await?.standing;
    print(&standing.map_or_else(
        || "done\n".to_owned(),
        |standing| {
            format!(
                "done: this node is {}, and offers {}\n",
                standing.schedulability,
                words::size(&standing.rentable)
            )
        },
    ))
}

fn wish(order: &Order) -> Wish {
    match order {
        Order::Cordon => Wish::Cordon {},
        Order::Uncordon => Wish::Uncordon {},
        Order::Maintenance(Plan::Plan {
            start,
            length,
            note,
        }) => Wish::Announce {
            window: Maintenance {
                starts_at: *start,
                ends_at: start.plus_ms(*length),
                note: note.clone(),
            },
        },
        Order::Maintenance(Plan::Withdraw { start }) => Wish::Withdraw { starts_at: *start },
        Order::Share(share) => Wish::Share {
            ram_bytes: share.ram,
            cpu_millis: share.cpus,
            gpu_count: share.gpus,
            disk_bytes: share.disk,
        },
        // asked for in words of their own
        Order::Drain { .. } | Order::Maintenance(Plan::List) => Wish::Drain { deadline: None },
    }
}

async fn list(client: &mut Client) -> anyhow::Result<()> {
    let standing = status_of(client).await?.standing;
    let standing = standing.context("the market hasn't said yet how this node stands")?;
    if standing.maintenance.is_empty() {
        return print("nothing is planned\n");
    }
    let lines = standing.maintenance.iter();
    print(
        &lines
            .map(|window| words::maintenance(window) + "\n")
            .collect::<String>(),
    )
}

async fn connect(config: &Config) -> anyhow::Result<Client> {
    let path = config.operator_socket_path();
    Client::connect(&path).await?.with_context(|| {
        format!(
            "no agent listens at {}; start it: systemctl start ramarket-agent, or ramarket-agent run",
            path.display()
        )
    })
}

async fn status_of(client: &mut Client) -> anyhow::Result<Status> {
    match client.ask(&Question::Status {}).await? {
        Answer::Status(status) => Ok(*status),
        _ => anyhow::bail!("the agent's answer isn't a status"),
    }
}

/// Shows how the agent is doing, again and again if `watch`: from the running one, else as its last beat left it.
///
/// # Errors
/// It doesn't run, has no contact, or may not be asked.
pub async fn status(config: &Config, json: bool, watch: bool) -> anyhow::Result<()> {
    loop {
        let (status, running) = current(config).await?;
        let text = shown(&status, running, json)?;
        if !watch {
            print(&text)?;
            return judged(status, running);
        }
        // clears a terminal; a program that reads lines gets them all
        print(&if json {
            text
        } else {
            format!("\x1b[2J\x1b[H{text}")
        })?;
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn current(config: &Config) -> anyhow::Result<(Status, bool)> {
    if let Some(mut client) = Client::connect(&config.operator_socket_path()).await? {
        return Ok((status_of(&mut client).await?, true));
    }
    let dir = DataDir::new(&config.data_dir);
    Ok((Status::read(&dir)?, dir.is_locked()))
}

fn shown(status: &Status, running: bool, json: bool) -> anyhow::Result<String> {
    if !json {
        return Ok(words::status(status, running));
    }
    let mut value = serde_json::to_value(status)?;
    value["running"] = running.into();
    Ok(format!("{}\n", serde_json::to_string(&value)?))
}

fn judged(status: Status, running: bool) -> anyhow::Result<()> {
    anyhow::ensure!(running, "the agent isn't running");
    if status.contact != "connected" {
        let reason = status
            .reason
            .unwrap_or_else(|| "no beat was answered yet".to_owned());
        return Err(RequestError::Unreachable(reason).into());
    }
    Ok(())
}
