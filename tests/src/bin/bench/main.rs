//! `make bench`: what the market adds to a launch, what the agent takes from its machine, what the store carries, how fast
//! rentals are reached.
//!
//! # Invariants
//! - Each row is a figure beside a limit that was measured in the same run, round by round, in turn: absolute times of
//!   another machine or another day say nothing.
//! - A round in which the disk was slower than three times the best round is thrown away, and the row says how many were.
//! - A peer that is absent is no failure: its row says so, and nothing is claimed.

mod agent;
mod books;
mod figures;
mod launch;
mod machine;
mod market;
mod reach;
mod store;

use std::process::ExitCode;

use anyhow::Result;
use figures::Report;

const USAGE: &str = "usage: bench [--quick] [launch] [agent] [store] [books] [reach] [generated]
  launch  the paid request to StartedAt, beside docker run -d
  agent   a sampling pass and resident memory, beside prometheus-node-exporter
  store   beats, paid requests and searches in process, beside their floors
  books   durable transfers and settlement, beside the engines' raw rates
  reach   bytes and keystrokes into a rental, beside a local sshd
  generated  a million operations of the ledger in memory, beside a reference ledger
  --quick few rounds, to see that it works: no goal counts";

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Launch,
    Agent,
    Store,
    Books,
    Reach,
    Generated,
}

/// What was asked for: the rows, and whether only to try.
fn parse(arguments: impl Iterator<Item = String>) -> Result<(Vec<Row>, bool), String> {
    let (mut rows, mut quick) = (Vec::new(), false);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => quick = true,
            "launch" => rows.push(Row::Launch),
            "agent" => rows.push(Row::Agent),
            "store" => rows.push(Row::Store),
            "books" => rows.push(Row::Books),
            "reach" => rows.push(Row::Reach),
            "generated" => rows.push(Row::Generated),
            other => return Err(format!("{other}?\n{USAGE}")),
        }
    }
    if rows.is_empty() {
        rows = vec![
            Row::Launch,
            Row::Agent,
            Row::Store,
            Row::Books,
            Row::Reach,
            Row::Generated,
        ];
    }
    Ok((rows, quick))
}

fn main() -> ExitCode {
    let (rows, quick) = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(usage) => {
            figures::say(&usage);
            return ExitCode::from(2);
        }
    };
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(measure(&rows, quick))));
    match measured {
        Ok(report) => report.finish(quick),
        Err(error) => {
            figures::say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure(rows: &[Row], quick: bool) -> Result<Report> {
    let mut report = Report::default();
    figures::say(&machine::described()?);
    for row in rows {
        match row {
            Row::Launch => Box::pin(launch::measure(&mut report, quick)).await?,
            Row::Agent => Box::pin(agent::measure(&mut report, quick)).await?,
            Row::Store => Box::pin(store::measure(&mut report, quick)).await?,
            Row::Books => Box::pin(books::measure(&mut report, quick)).await?,
            Row::Reach => Box::pin(reach::measure(&mut report, quick)).await?,
            Row::Generated => Box::pin(books::generated(quick)).await?,
        }
    }
    Ok(report)
}
