//! Splits the money of rentals that are over, closes the billing windows of those that run, and makes earnings payable that can't be
//! disputed any more.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::{id::RentalId, time::Timestamp};

use super::{Task, each::each_rental};
use crate::{
    app::App,
    context::OpCtx,
    domain::{earnings, rentals, settlement},
    error::Result,
    store::Tx,
};

/// The task's name.
pub const NAME: &str = "settlement";
/// Rentals of one page.
const BATCH: i64 = 200;

/// The task.
pub struct Settlement {
    app: Arc<App>,
    windows_at: Option<Timestamp>,
}

impl Settlement {
    /// Over the application's database.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self {
            app,
            windows_at: None,
        }
    }

    async fn settle(&self, ids: Vec<RentalId>) -> (usize, usize) {
        let (good, failed) = each_rental(&self.app, NAME, ids, settlement::settle).await;
        (good.len(), failed)
    }

    async fn release(&self) -> Result<(usize, usize)> {
        let window_ms = i64::from(self.app.config.market.dispute_window_s).saturating_mul(1_000);
        let until = self.app.clock.now().plus_ms(window_ms.saturating_neg());
        let (mut after, mut done, mut failed) = (rentals::timers::beginning(), 0, 0);
        loop {
            let from = after.clone();
            let page = self
                .app
                .db
                .read("settlement.ripe", move |tx| {
                    earnings::ripe(tx, until, (from.0, &from.1), BATCH)
                })
                .await?;
            let Some(last) = page.last() else {
                return Ok((done, failed));
            };
            after = (last.ripening_at, last.rental.to_string());
            let ids = page.iter().map(|earned| earned.rental);
            let release = move |tx: &mut dyn Tx, ctx: &OpCtx, id: RentalId| {
                settlement::release(tx, ctx, id, window_ms)
            };
            let (good, bad) = each_rental(&self.app, NAME, ids, release).await;
            let released = good.into_iter().filter(|released| *released).count();
            (done, failed) = (done + released, failed + bad);
        }
    }

    async fn running_windows(&self) -> Result<(usize, usize)> {
        let (mut after, mut done, mut failed) = (String::new(), 0, 0);
        loop {
            let cursor = after.clone();
            let page = self
                .app
                .db
                .read("settlement.live", move |tx| {
                    rentals::unsettled(tx, &cursor, BATCH)
                })
                .await?;
            let Some(last) = page.last() else {
                return Ok((done, failed));
            };
            after = last.id.to_string();
            let (good, bad) = self
                .settle(page.iter().map(|rental| rental.id).collect())
                .await;
            (done, failed) = (done + good, failed + bad);
        }
    }
}

#[async_trait]
impl Task for Settlement {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let over = self
            .app
            .db
            .read("settlement.over", |tx| rentals::to_settle(tx, BATCH))
            .await?;
        let full = i64::try_from(over.len()).is_ok_and(|count| count == BATCH);
        let (settled, mut failed) = self
            .settle(over.iter().map(|rental| rental.id).collect())
            .await;
        if settled > 0 {
            self.app.tasks.poke(super::invoices::NAME);
        }
        if full && failed == 0 {
            // more wait than one page holds
            self.app.tasks.poke(NAME);
        }
        let now = self.app.clock.now();
        let mut windows = 0;
        if self
            .windows_at
            .is_none_or(|at| now.ms_since(at) >= settlement::WINDOW_MS_MIN)
        {
            let (done, bad) = self.running_windows().await?;
            (windows, failed) = (done, failed + bad);
            self.windows_at = Some(now);
        }
        let (released, bad) = self.release().await?;
        failed += bad;
        Ok(json!({
            "settled": settled, "running_looked_at": windows, "earnings_released": released, "failed": failed,
        }))
    }
}
