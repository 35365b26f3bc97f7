//! What rates need from outside: somebody who tells them, and can be believed.
//!
//! # Invariants
//! - A source proves what it says (a table of the settings, a signature): whoever asks doesn't check again.

use std::fmt::Debug;

use async_trait::async_trait;

use super::model::RateTable;

/// Tells exchange rates.
#[async_trait]
pub trait RateSource: Send + Sync + Debug {
    /// The rates as of now.
    ///
    /// # Errors
    /// It gives no answer that can be believed.
    async fn fetch(&self) -> anyhow::Result<RateTable>;

    /// Which one it is, for records and logs.
    fn name(&self) -> &str;
}
