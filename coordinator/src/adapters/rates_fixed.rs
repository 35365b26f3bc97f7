//! Exchange rates of the settings: they hold until the settings change.

use std::sync::Arc;

use async_trait::async_trait;
use shared::clock::Clock;

use crate::domain::rates::{
    model::{Pair, RateTable},
    ports::RateSource,
};

/// The table of the settings.
#[derive(Debug)]
pub struct FixedRates {
    pairs: Vec<Pair>,
    clock: Arc<dyn Clock>,
}

impl FixedRates {
    /// These pairs, always.
    #[must_use]
    pub fn new(pairs: Vec<Pair>, clock: Arc<dyn Clock>) -> Self {
        Self { pairs, clock }
    }
}

#[async_trait]
impl RateSource for FixedRates {
    async fn fetch(&self) -> anyhow::Result<RateTable> {
        Ok(RateTable {
            source: self.name().to_owned(),
            at: self.clock.now(),
            pairs: self.pairs.clone(),
        })
    }

    fn name(&self) -> &'static str {
        "settings"
    }
}
