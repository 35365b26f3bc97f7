//! Exchange rates: the newest that the source told, and whether they may still be used.
//!
//! # Invariants
//! - A rate that is too old, or from the future, isn't used: its currency isn't offered until there is a newer one.
//! - What was told earlier never takes the place of what was told later.
//! - Kept in memory: a quote keeps the rate that it was made with, so nothing else has to.

pub mod model;
pub mod ports;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use model::{Course, FixedRate, RateTable};
use ports::RateSource;
use shared::{money::Asset, time::Timestamp};

/// A source's clock may be so far ahead of ours.
const AHEAD_MS_MAX: i64 = 60_000;

/// The rates in use.
#[derive(Debug)]
pub struct Rates {
    source: Arc<dyn RateSource>,
    max_age_ms: i64,
    spread_bps: u32,
    newest: RwLock<Option<RateTable>>,
}

impl Rates {
    /// From a source; nothing is known before [`Rates::refresh`].
    #[must_use]
    pub fn new(source: Arc<dyn RateSource>, max_age_ms: i64, spread_bps: u32) -> Self {
        Self {
            source,
            max_age_ms,
            spread_bps,
            newest: RwLock::new(None),
        }
    }

    /// Asks the source; when what is known now held.
    ///
    /// # Errors
    /// It gives no answer that can be believed, or one that is too old: what was known stays.
    pub async fn refresh(&self, now: Timestamp) -> anyhow::Result<Timestamp> {
        let told = self.source.fetch().await?;
        anyhow::ensure!(
            self.is_fresh(&told, now),
            "the rates are of {}: too old, or of a clock that is wrong",
            told.at
        );
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        match newest.as_ref() {
            Some(known) if known.at > told.at => Ok(known.at),
            _ => Ok(newest.insert(told).at),
        }
    }

    /// The rate for paying in `paid` what is priced in `priced`; `None` if none is known that may be used.
    #[must_use]
    pub fn rate(&self, priced: Asset, paid: Asset, now: Timestamp) -> Option<FixedRate> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest
            .as_ref()
            .filter(|table| self.is_fresh(table, now))?
            .rate(priced, paid, self.spread_bps)
    }

    /// How a price in `priced` is paid in `paid`; `None` if these are two currencies without a rate that may be used.
    #[must_use]
    pub fn course(&self, priced: Asset, paid: Asset, now: Timestamp) -> Option<Course> {
        if priced == paid {
            Some(Course::Same)
        } else {
            self.rate(priced, paid, now).map(Course::At)
        }
    }

    /// Which source.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.name()
    }

    fn is_fresh(&self, table: &RateTable, now: Timestamp) -> bool {
        let age_ms = now.ms_since(table.at);
        (-AHEAD_MS_MAX..=self.max_age_ms).contains(&age_ms)
    }
}
