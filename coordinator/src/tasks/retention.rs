//! Forgets what is older than the operator keeps it: events, usage records of settled rentals, what offers cost, idempotency keys, and
//! when coordinators ran. Deliveries of webhooks are the task `webhooks`', figures over time `analytics`'; the ledger, payments and the audit log are never forgotten.
//!
//! # Invariants
//! - A transaction looks at [`BATCH`] rows, found by an index in the order of their age.
//! - What somebody in the database hasn't seen yet isn't forgotten, however old it is.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::time::Timestamp;

use super::Task;
use crate::{
    app::App,
    domain::{
        events,
        metering::{self, RecordPlace},
        offers::{self, PricePlace},
        payments::idempotency,
        webhooks::deliveries,
    },
    error::Result,
    store::Tx,
};

/// The task's name.
pub const NAME: &str = "retention";
const DAY_MS: i64 = 86_400_000;
/// Rows that one transaction looks at.
const BATCH: i64 = 500;
/// Batches of each kind in one activation; what is left is for the next, at once.
const BATCHES_MAX: usize = 100;

/// The task, with how far it has looked through what is old enough.
pub struct Retention {
    app: Arc<App>,
    record: RecordPlace,
    price: PricePlace,
}

impl Retention {
    /// From the oldest on.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            record: metering::first_place(),
            price: offers::first_price(),
        }
    }

    fn days_ago(&self, days: u32) -> Timestamp {
        let kept_ms = i64::from(days).saturating_mul(DAY_MS);
        self.app.clock.now().plus_ms(-kept_ms)
    }

    /// Forgets batches until nothing is left of them; how many rows went, and whether that was all.
    async fn until_none(
        &self,
        name: &'static str,
        forget: impl Fn(&mut dyn Tx) -> Result<u64> + Clone + Send + Sync + 'static,
    ) -> Result<(u64, bool)> {
        let mut gone = 0_u64;
        for _ in 0..BATCHES_MAX {
            match self.app.db.write(name, forget.clone()).await? {
                0 => return Ok((gone, true)),
                some => gone = gone.saturating_add(some),
            }
        }
        Ok((gone, false))
    }

    async fn events(&self) -> Result<(u64, bool)> {
        let before = self.days_ago(self.app.config.retention.events_days);
        let forget = move |tx: &mut dyn Tx| {
            let seen = deliveries::seen(tx)?;
            events::forget(tx, before, seen, BATCH)
        };
        self.until_none("events.forget", forget).await
    }

    async fn idempotency_keys(&self) -> Result<(u64, bool)> {
        let before = self.days_ago(self.app.config.retention.idempotency_keys_days);
        let forget = move |tx: &mut dyn Tx| idempotency::forget(tx, before, BATCH);
        self.until_none("idempotency.forget", forget).await
    }

    /// What lies between two runs isn't the providers' fault: needed as long as records may still be billed.
    async fn runs(&self) -> Result<(u64, bool)> {
        let before = self.days_ago(self.app.config.retention.usage_records_days);
        let forget = move |tx: &mut dyn Tx| metering::forget_runs(tx, before, BATCH);
        self.until_none("uptime.forget", forget).await
    }

    async fn faults(&self) -> Result<(u64, bool)> {
        let before = self.days_ago(self.app.config.retention.usage_records_days);
        let forget = move |tx: &mut dyn Tx| metering::forget_faults(tx, before, BATCH);
        self.until_none("faults.forget", forget).await
    }

    async fn usage_records(&mut self) -> Result<(u64, bool)> {
        let before = self.days_ago(self.app.config.retention.usage_records_days);
        let mut gone = 0_u64;
        for _ in 0..BATCHES_MAX {
            let after = self.record.clone();
            let forget = move |tx: &mut dyn Tx| metering::forget(tx, before, &after, BATCH);
            let (some, next) = self.app.db.write("metering.forget", forget).await?;
            gone = gone.saturating_add(some);
            let is_all = next.is_none();
            self.record = next.unwrap_or_else(metering::first_place);
            if is_all {
                return Ok((gone, true));
            }
        }
        Ok((gone, false))
    }

    async fn offer_prices(&mut self) -> Result<(u64, bool)> {
        let before = self.days_ago(self.app.config.retention.offer_prices_days);
        let mut gone = 0_u64;
        for _ in 0..BATCHES_MAX {
            let after = self.price.clone();
            let forget = move |tx: &mut dyn Tx| offers::forget_prices(tx, before, &after, BATCH);
            let (some, next) = self.app.db.write("offer.forget", forget).await?;
            gone = gone.saturating_add(some);
            let is_all = next.is_none();
            self.price = next.unwrap_or_else(offers::first_price);
            if is_all {
                return Ok((gone, true));
            }
        }
        Ok((gone, false))
    }
}

#[async_trait]
impl Task for Retention {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let (events, no_events) = self.events().await?;
        let (records, no_records) = self.usage_records().await?;
        let (prices, no_prices) = self.offer_prices().await?;
        let (keys, no_keys) = self.idempotency_keys().await?;
        let (runs, no_runs) = self.runs().await?;
        let (faults, no_faults) = self.faults().await?;
        if !(no_events && no_records && no_prices && no_keys && no_runs && no_faults) {
            self.app.tasks.poke(NAME);
        }
        Ok(json!({
            "events": events, "usage_records": records, "offer_prices": prices, "idempotency_keys": keys, "runs": runs,
            "faults": faults,
        }))
    }
}
