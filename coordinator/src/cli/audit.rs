//! `ramarket-coordinator audit …`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{open_existing, print};
use crate::{audit_file, config::Config, keys::Keys};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Prove that nobody changed, removed or reordered what was recorded; fails if somebody did
    Verify {
        /// More checkpoints to compare with, such as another coordinator's or a copy kept elsewhere; may be repeated
        #[arg(long, value_name = "FILE")]
        checkpoints: Vec<PathBuf>,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
}

impl AuditCommand {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<()> {
        let Self::Verify { checkpoints, json } = self;
        verify(config, checkpoints, json).await
    }
}

async fn verify(config: &Config, mut files: Vec<PathBuf>, json: bool) -> anyhow::Result<()> {
    let db = open_existing(config).await?;
    let own = audit_file::path(config);
    if own.exists() {
        files.push(own);
    }
    let key = Keys::open(config)?.audit.public();
    let verdict = audit_file::verify(&db, &files, &key).await?;
    let report = &verdict.report;
    if json {
        print(&serde_json::to_string_pretty(&verdict)?)?;
    } else {
        print(&format!(
            "{} rows, {} checkpoints, the last of row {}; {} torn lines",
            report.rows, report.checkpoints, report.anchored_to, verdict.torn_lines
        ))?;
        for finding in &report.findings {
            print(&format!("row {}: {}", finding.seq, finding.what))?;
        }
    }
    anyhow::ensure!(
        report.holds(),
        "the audit log isn't as it was written: keep copies of the database and of the checkpoints, and look into it"
    );
    Ok(())
}
