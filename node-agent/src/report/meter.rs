//! One sampling pass: measure each container, and put what changed or goes on into the journal in one commit.
//!
//! # Invariants
//! - A running container gets a record at each tick; a change of what is said about a container gets one at once; the end of a
//!   container is recorded exactly once, over restarts of the agent too.
//! - A rental that failed without a container that ended (`Failed`) gets no last record: what isn't known isn't signed.
//! - When the commit fails, nothing counts as said, and the next pass says it again.

use std::collections::{BTreeSet, HashMap};

use shared::{
    id::{LeaseId, RentalId},
    journal::{Exit, MeterState, Record},
    time::Timestamp,
    wire::observed::Phase,
};

use crate::{
    journal::{Draft, Journal, JournalError, Moment},
    measure::{InUse, Sampler, Used},
    rental::LiveRental,
};

/// Why a pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The interval is over: running containers get a record.
    Tick,
    /// Something changed: only what changed gets a record.
    Change,
}

/// Measures and keeps the journal.
#[derive(Debug)]
pub struct Meter {
    journal: Journal,
    sampler: Sampler,
    said: HashMap<RentalId, Said>,
}

/// What the journal last said about a rental.
#[derive(Debug)]
struct Said {
    statement: Statement,
    seq: i64,
}

/// What is said about a container, counters apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    lease_id: LeaseId,
    container_id: String,
    state: MeterState,
    image_digest: String,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    exit: Option<Exit>,
}

impl Meter {
    /// A meter that writes into `journal` what `sampler` reads.
    #[must_use]
    pub fn new(journal: Journal, sampler: Sampler) -> Self {
        Self {
            journal,
            sampler,
            said: HashMap::new(),
        }
    }

    /// The journal.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The journal, to take receipts.
    pub(super) const fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// What running containers use at this moment.
    pub(super) fn look(&mut self) -> Vec<InUse> {
        self.sampler.look()
    }

    /// What running containers had used at the last pass.
    pub(super) fn used(&self) -> Vec<Used> {
        self.sampler.used().collect()
    }

    /// Deletes old records, except those that a live rental's next record goes on from.
    pub(super) fn prune(&mut self, before: Timestamp) -> Result<usize, JournalError> {
        let keep_from = self.said.values().map(|said| said.seq).min();
        self.journal.prune(before, keep_from.unwrap_or(i64::MAX))
    }
}

/// One pass over `live`, of which something doesn't work for `faulty`; returns how many records were made.
///
/// # Errors
/// The journal can't be read or written.
pub fn sample_pass(
    meter: &mut Meter,
    live: &[LiveRental],
    faulty: &BTreeSet<RentalId>,
    moment: &Moment,
    due: Due,
) -> Result<usize, JournalError> {
    let Meter {
        journal,
        sampler,
        said,
    } = meter;
    if !said.is_empty() {
        let is_live = |id: &RentalId| live.iter().any(|rental| rental.observed.rental_id == *id);
        said.retain(|id, _| is_live(id));
        sampler.retain(|id| is_live(&id));
    }
    let mut drafts = Vec::new();
    let mut statements = Vec::new();
    for rental in live {
        let rental_id = rental.observed.rental_id;
        let Some(statement) = statement(rental, faulty.contains(&rental_id)) else {
            continue;
        };
        if !said.contains_key(&rental_id)
            && let Some(last) = journal.last_of(rental_id)?
        {
            said.insert(rental_id, Said::from(last));
        }
        if !is_due(&statement, said.get(&rental_id), due) {
            continue;
        }
        let counters = sampler.sample(rental, moment.t_boot_ms, || journal.last_of(rental_id))?;
        drafts.push(Draft {
            rental_id,
            lease_id: statement.lease_id,
            state: statement.state,
            container_id: statement.container_id.clone(),
            image_digest: statement.image_digest.clone(),
            spec_sha256: rental.spec_sha256.clone(),
            started_at: statement.started_at,
            finished_at: statement.finished_at,
            counters,
            exit: statement.exit,
        });
        statements.push((rental_id, statement));
    }
    let first = journal.head().seq + 1;
    let last = journal.append(moment, drafts)?;
    let made = statements.len();
    for ((rental_id, statement), seq) in statements.into_iter().zip(first..=last) {
        said.insert(rental_id, Said { statement, seq });
    }
    Ok(made)
}

fn is_due(now: &Statement, said: Option<&Said>, due: Due) -> bool {
    let Some(Said { statement, .. }) = said else {
        return true;
    };
    let same_container =
        statement.container_id == now.container_id && statement.lease_id == now.lease_id;
    if same_container && statement.state == MeterState::Exited {
        return false;
    }
    statement != now
        || (due == Due::Tick && matches!(now.state, MeterState::Running | MeterState::Degraded))
}

/// What can be said about a rental; nothing before it has a container or when it failed.
fn statement(rental: &LiveRental, is_faulty: bool) -> Option<Statement> {
    let observed = &rental.observed;
    let container_id = observed.container_id.clone()?;
    let running = if is_faulty {
        MeterState::Degraded
    } else {
        MeterState::Running
    };
    let (state, exit) = match &observed.phase {
        Phase::Running => (running, None),
        // it runs until it has ended
        Phase::Stopping if observed.started_at.is_some() => (running, None),
        Phase::Pending | Phase::Pulling { .. } | Phase::Starting | Phase::Stopping => {
            (MeterState::Preparing, None)
        }
        Phase::Exited { exit, .. } => (MeterState::Exited, Some(*exit)),
        Phase::Failed { .. } => return None,
    };
    Some(Statement {
        lease_id: observed.lease_id,
        container_id,
        state,
        image_digest: observed.image_digest.clone().unwrap_or_default(),
        started_at: observed.started_at,
        // Docker keeps the finish of an earlier run in a container that runs
        finished_at: observed.finished_at.filter(|_| state == MeterState::Exited),
        exit,
    })
}

impl From<Record> for Said {
    fn from(record: Record) -> Self {
        Self {
            seq: record.seq,
            statement: Statement {
                lease_id: record.lease_id,
                container_id: record.container_id,
                state: record.state,
                image_digest: record.image_digest,
                started_at: record.started_at,
                finished_at: record.finished_at,
                exit: record.exit,
            },
        }
    }
}
