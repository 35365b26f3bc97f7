//! How the agent is doing, for the person in front of the machine: a small file that each beat writes.
//!
//! # Invariants
//! - A reader sees one whole state. The file isn't synced: after a power cut it may be old, and it says of when it is.

use std::{io, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::{
    id::NodeId,
    resources::Finding,
    time::Timestamp,
    wire::{observed::ObservedRental, operator::Standing},
};

use crate::{
    data_dir::DataDir, durable, identity, journal::Journal, measure::InUse, rental::LiveRental,
    report::Contact,
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
    /// What of it uses how much now.
    #[serde(default)]
    pub in_use: Vec<InUse>,
    /// Since when the agent runs.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When a beat was last answered.
    #[serde(default)]
    pub last_answer_at: Option<Timestamp>,
    /// How the node stands on the market, as it said last.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// Orders of the machine's owner that the market hasn't answered for.
    #[serde(default)]
    pub orders_waiting: usize,
    /// Why memory is short, if it is.
    #[serde(default)]
    pub memory_pressure: Option<String>,
    /// What isn't as it should be.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Records of the journal that are kept.
    #[serde(default)]
    pub journal_records: i64,
    /// Size of the journal's file, bytes.
    #[serde(default)]
    pub journal_bytes: i64,
}

/// What of a [`Status`] neither contact nor journal say.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) last_answer_at: Option<Timestamp>,
    pub(crate) standing: Option<Standing>,
    pub(crate) orders_waiting: usize,
    pub(crate) memory_pressure: Option<String>,
    pub(crate) findings: Vec<Finding>,
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
            in_use: Vec::new(),
            started_at: None,
            last_answer_at: None,
            standing: None,
            orders_waiting: 0,
            memory_pressure: None,
            findings: Vec::new(),
            journal_records: 0,
            journal_bytes: 0,
        }
    }

    /// Adds what else is known; `journal` is (records, bytes).
    pub(crate) fn add(&mut self, kept: Kept, in_use: Vec<InUse>, journal: (i64, i64)) {
        self.in_use = in_use;
        self.started_at = kept.started_at;
        self.last_answer_at = kept.last_answer_at;
        self.standing = kept.standing;
        self.orders_waiting = kept.orders_waiting;
        self.memory_pressure = kept.memory_pressure;
        self.findings = kept.findings;
        (self.journal_records, self.journal_bytes) = journal;
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
}
