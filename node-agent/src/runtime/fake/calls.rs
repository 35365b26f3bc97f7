//! What the simulated engine was asked for.

use std::time::Duration;

use super::{FakeRuntime, Fetch};

/// A call of [`crate::runtime::ContainerRuntime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// `facts`
    Facts,
    /// `self_test`
    SelfTest,
    /// `list`
    List,
    /// `inspect`
    Inspect,
    /// `pull`
    Pull,
    /// `create`
    Create,
    /// `start`
    Start,
    /// `stop`
    Stop,
    /// `remove`
    Remove,
    /// `enter`
    Enter,
    /// `logs`
    Logs,
}

impl FakeRuntime {
    /// What was fetched, with what.
    #[must_use]
    pub fn fetched(&self) -> Vec<Fetch> {
        self.lock().fetched.clone()
    }

    /// How long each stop gave the process to end.
    #[must_use]
    pub fn graces(&self) -> Vec<Duration> {
        self.lock().graces.clone()
    }

    /// How often `op` was called.
    #[must_use]
    pub fn calls(&self, op: Op) -> usize {
        self.lock().calls.iter().filter(|(o, _)| *o == op).count()
    }
}
