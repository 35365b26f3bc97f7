//! How the agent is doing, for the person in front of the machine: a small file that each beat writes.
//!
//! # Invariants
//! - A reader sees one whole state. The file isn't synced: after a power cut it may be old, and it says of when it is.

use std::{fmt::Write as _, io, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::{id::NodeId, time::Timestamp, wire::observed::ObservedRental};

use crate::{
    data_dir::DataDir, durable, identity, journal::Journal, rental::LiveRental, report::Contact,
};

/// What `status.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node_id: NodeId,
    /// The coordinator.
    pub url: String,
    /// The agent's version.
    pub agent_version: String,
    /// Its process.
    pub pid: u32,
    /// Of when this is.
    pub at: Timestamp,
    /// `starting`, `connected` or `lost`.
    pub contact: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why the contact is lost.
    pub reason: Option<String>,
    /// Why metering stands still, if it does.
    pub metering_fault: Option<String>,
    /// Newest record of the journal.
    pub journal_seq: i64,
    /// Newest record that the coordinator acknowledged.
    pub acked_seq: i64,
    /// What runs.
    pub rentals: Vec<ObservedRental>,
}

impl Status {
    pub(crate) fn new(
        node_id: NodeId,
        url: String,
        at: Timestamp,
        contact: &Contact,
        metering_fault: Option<String>,
        journal: &Journal,
        live: &[LiveRental],
    ) -> Self {
        let (word, since, reason) = match contact {
            Contact::Starting => ("starting", None, None),
            Contact::Connected { since } => ("connected", Some(*since), None),
            Contact::Lost { since, reason, .. } => ("lost", Some(*since), Some(reason.clone())),
        };
        Self {
            node_id,
            url,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            at,
            contact: word.to_owned(),
            since,
            reason,
            metering_fault,
            journal_seq: journal.head().seq,
            acked_seq: journal.acked_seq(),
            rentals: live.iter().map(|rental| rental.observed.clone()).collect(),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        durable::replace_unsynced(path, &serde_json::to_vec(self)?, 0o600)?;
        Ok(())
    }

    /// What the agent on `dir` last wrote.
    ///
    /// # Errors
    /// Nothing was written yet, or it can't be read.
    pub fn read(dir: &DataDir) -> anyhow::Result<Self> {
        let path = dir.status();
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // an error that says how to enrol, if that is what is missing
                identity::Identity::load(dir)?;
                anyhow::bail!(
                    "the agent on {} never ran; start it: systemctl start ramarket-agent, or ramarket-agent run",
                    dir.path().display()
                );
            }
            other => other.with_context(|| format!("{} can't be read", path.display()))?,
        };
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// For people. `running` says whether the agent's process lives.
    #[must_use]
    pub fn text(&self, running: bool) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &str| {
            let _never_fails = writeln!(out, "{name:<12} {value}");
        };
        line("node", &self.node_id.to_string());
        line("coordinator", &self.url);
        let since = self
            .since
            .map(|since| format!(" since {since}"))
            .unwrap_or_default();
        if running {
            line("contact", &format!("{}{since}", self.contact));
        } else {
            line(
                "contact",
                &format!("none: the agent isn't running; this is of {}", self.at),
            );
        }
        if let Some(reason) = &self.reason {
            line("because", reason);
        }
        if let Some(fault) = &self.metering_fault {
            line("metering", fault);
        }
        line(
            "journal",
            &format!(
                "{} records, {} acknowledged",
                self.journal_seq, self.acked_seq
            ),
        );
        line("rentals", &self.rentals.len().to_string());
        for rental in &self.rentals {
            let phase = serde_json::to_value(&rental.phase).ok();
            let word = phase
                .as_ref()
                .and_then(|phase| phase.get("phase")?.as_str())
                .unwrap_or("unknown");
            line("", &format!("{} {word}", rental.rental_id));
        }
        out
    }
}
