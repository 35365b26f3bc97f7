//! What a test may look at: calls that wait, limits that were asked for.

use super::{FakeRuntime, Op};
use crate::runtime::HeldLimits;

impl FakeRuntime {
    /// How many calls of `op` wait for [`FakeRuntime::release`]; one whose future was dropped doesn't.
    #[must_use]
    pub fn waiting(&self, op: Op) -> usize {
        self.lock().waiting.get(&op).copied().unwrap_or_default()
    }

    /// The limits that a container was created with.
    #[must_use]
    pub fn limits_of(&self, container_id: &str) -> Option<HeldLimits> {
        let state = self.lock();
        let known = state.containers.contains_key(container_id);
        known.then(|| state.limits.get(container_id).copied().unwrap_or_default())
    }
}

/// A call that may have to wait.
pub(super) struct Waiting<'a> {
    engine: &'a FakeRuntime,
    op: Op,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(engine: &'a FakeRuntime, op: Op) -> Self {
        *engine.lock().waiting.entry(op).or_default() += 1;
        Self { engine, op }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.engine.lock();
        let waiting = state.waiting.entry(self.op).or_default();
        *waiting = waiting.saturating_sub(1);
    }
}
