//! The pieces of work under way: at most one per key, with how far each is and when a failed one may be tried again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use shared::wire::observed::Phase;
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Backoff,
    plan::{Busy, Key},
};
use crate::runtime::RuntimeError;

/// How long the agent's end waits for work to reach a safe point.
const END_WAIT: Duration = Duration::from_secs(5);

/// A rest that ended is remembered this long, so that a step that fails again rests longer.
const REST_KEPT: Duration = Duration::from_secs(60);

/// A piece of work that ended, or broke.
pub(super) type Ended = Result<(Id, Result<(), RuntimeError>), JoinError>;

#[derive(Debug)]
struct Work {
    key: Key,
    busy: Busy,
    abort: CancellationToken,
}

#[derive(Debug)]
struct Rest {
    backoff: Backoff,
    until: Instant,
}

/// All work.
#[derive(Debug, Default)]
pub(super) struct Works {
    tasks: JoinSet<Result<(), RuntimeError>>,
    by_task: HashMap<Id, Work>,
    rests: BTreeMap<Key, Rest>,
    phases: BTreeMap<Key, Phase>,
}

impl Works {
    /// Starts a piece of work. `abort` asks it to end at its next safe point.
    pub(super) fn spawn(
        &mut self,
        key: Key,
        busy: Busy,
        abort: CancellationToken,
        work: impl Future<Output = Result<(), RuntimeError>> + Send + 'static,
    ) {
        if busy == Busy::Launching {
            self.phases.insert(key.clone(), Phase::Starting);
        }
        let task = self.tasks.spawn(work);
        self.by_task.insert(task.id(), Work { key, busy, abort });
    }

    /// Asks the work on `key` to end at its next safe point.
    pub(super) fn abort(&self, key: &Key) {
        let works = self.by_task.values().filter(|work| work.key == *key);
        works.for_each(|work| work.abort.cancel());
    }

    /// Takes how far a launch is.
    pub(super) fn progress(&mut self, key: &Key, phase: Phase) {
        if let Some(known) = self.phases.get_mut(key) {
            *known = phase;
        }
    }

    /// How far each launch is.
    pub(super) const fn phases(&self) -> &BTreeMap<Key, Phase> {
        &self.phases
    }

    /// Whether work on `key` is under way.
    pub(super) fn is_under_way(&self, key: &Key) -> bool {
        self.by_task.values().any(|work| work.key == *key)
    }

    /// Keys that get no step now.
    pub(super) fn busy(&self) -> BTreeMap<Key, Busy> {
        let now = Instant::now();
        let resting = self.rests.iter().filter(|(_, rest)| rest.until > now);
        resting
            .map(|(key, _)| (key.clone(), Busy::Resting))
            .chain(self.by_task.values().map(|w| (w.key.clone(), w.busy)))
            .collect()
    }

    /// When the next rest ends, of those that haven't.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let now = Instant::now();
        let ends = self.rests.values().map(|rest| rest.until);
        ends.filter(|until| *until > now).min()
    }

    /// The next piece of work to end; `None` when there is none. Cancel-safe.
    pub(super) async fn next_end(&mut self) -> Option<Ended> {
        self.tasks.join_next_with_id().await
    }

    /// Takes the end of a piece of work: its key, and whether it came to its end. One that didn't rests before it is tried again.
    pub(super) fn end(&mut self, ended: Ended) -> Option<(Key, bool)> {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let broke = RuntimeError::Unavailable(format!("a step broke: {error}"));
                (error.id(), Err(broke))
            }
        };
        let work = self.by_task.remove(&id)?;
        let now = Instant::now();
        self.rests
            .retain(|_, rest| now.saturating_duration_since(rest.until) < REST_KEPT);
        self.phases.remove(&work.key);
        match result {
            Ok(()) => {
                self.rests.remove(&work.key);
                Some((work.key, true))
            }
            Err(error) => {
                let rest = self.rests.entry(work.key.clone()).or_insert_with(|| Rest {
                    backoff: Backoff::default(),
                    until: Instant::now(),
                });
                rest.until = Instant::now() + rest.backoff.next();
                tracing::warn!(work.key = ?work.key, %error, "a step failed and is tried again");
                Some((work.key, false))
            }
        }
    }

    /// Lets work under way reach a safe point. Containers stay as they are.
    pub(super) async fn finish(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WAIT, all).await.is_err() {
            tracing::info!("steps under way are left for the next start");
        }
    }
}
