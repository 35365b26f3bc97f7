//! What a self-test is: one rental's whole way on this machine, step by step, with times.

use serde::{Deserialize, Serialize};

/// The steps in the order in which they were made; it ends at the first that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// What was done.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A stable name: `image`, `create`, `start`, `measure`, `network`, `stop`, `remove`.
    pub name: String,
    /// How long it took.
    pub took_ms: i64,
    /// Whether it went well.
    pub well: bool,
    /// What came of it, or why it failed.
    pub said: String,
}

impl SelfTest {
    /// Whether every step went well.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.well)
    }
}
