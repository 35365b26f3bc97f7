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
    domain::{
        earnings,
        rentals::{self, model::Rental},
        settlement,
    },
    error::Result,
    store::Tx,
};

/// The task's name.
pub const NAME: &str = "settlement";
/// Rentals of one page.
const BATCH: i64 = 200;
/// Pages of one activation, of those that are over and of those that run; what is left has its turn in the next, at once.
const PAGES_MAX: usize = 50;

/// The task.
pub struct Settlement {
    app: Arc<App>,
    /// When the running ones were begun with.
    windows_at: Option<Timestamp>,
    /// The last running one that had its turn, until all had.
    windows_after: Option<String>,
    batch: i64,
    pages_max: usize,
}

/// What part of an activation came to.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    good: usize,
    failed: usize,
    /// Whether there is more than it had pages for.
    more: bool,
}

impl Settlement {
    /// Over the application's database.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self {
            app,
            windows_at: None,
            windows_after: None,
            batch: BATCH,
            pages_max: PAGES_MAX,
        }
    }

    async fn settle(&self, page: &[Rental], done: &mut Done) {
        let ids = page.iter().map(|rental| rental.id);
        let (good, failed) = each_rental(&self.app, NAME, ids, settlement::settle).await;
        done.good += good.len();
        done.failed += failed;
    }

    /// Splits the money of what is over, the longest over first.
    async fn split(&self) -> Result<Done> {
        let (mut done, mut after) = (Done::default(), rentals::timers::beginning());
        for _ in 0..self.pages_max {
            let (from, batch) = (after.clone(), self.batch);
            let page = self.app.db.read("settlement.over", move |tx| {
                rentals::to_settle(tx, (from.0, &from.1), batch)
            });
            let page = page.await?;
            let Some(last) = page.last() else {
                return Ok(done);
            };
            let ended_at = last.ended_at.unwrap_or(after.0);
            after = (ended_at, last.id.to_string());
            self.settle(&page, &mut done).await;
        }
        // whoever failed begins anew with the next turn of the timer
        done.more = done.failed == 0;
        Ok(done)
    }

    /// Closes the windows of what runs, from where the activation before stopped.
    async fn windows(&mut self) -> Result<Done> {
        let mut done = Done::default();
        let now = self.app.clock.now();
        let is_time = |at: Timestamp| now.ms_since(at) >= settlement::WINDOW_MS_MIN;
        if self.windows_after.is_none() {
            if !self.windows_at.is_none_or(is_time) {
                return Ok(done);
            }
            self.windows_at = Some(now);
        }
        let mut after = self.windows_after.take().unwrap_or_default();
        for _ in 0..self.pages_max {
            let (from, batch) = (after.clone(), self.batch);
            let page = self.app.db.read("settlement.live", move |tx| {
                rentals::running(tx, &from, batch)
            });
            let page = page.await?;
            let Some(last) = page.last() else {
                return Ok(done);
            };
            after = last.id.to_string();
            self.settle(&page, &mut done).await;
        }
        self.windows_after = Some(after);
        done.more = true;
        Ok(done)
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
}

#[async_trait]
impl Task for Settlement {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let over = self.split().await?;
        if over.good > 0 {
            self.app.tasks.poke(super::invoices::NAME);
        }
        let windows = self.windows().await?;
        if over.more || windows.more {
            self.app.tasks.poke(NAME);
        }
        let (released, unreleased) = self.release().await?;
        Ok(json!({
            "settled": over.good, "running_looked_at": windows.good, "earnings_released": released,
            "failed": over.failed + windows.failed + unreleased,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestApp, market::Market};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_part_does_its_own_and_a_bounded_part_of_it() {
        let mut market = Market::open(TestApp::new().await).await;
        let mut over = Vec::new();
        for _ in 0..3 {
            over.push(market.run(600).await);
        }
        let running = market.run(600).await;
        for id in &over {
            let exit = shared::wire::observed::ExitCause::Itself;
            market.node.finish(*id, 0, exit);
        }
        market.pass(35_000).await;
        market.pass(35_000).await;
        let mut task = Settlement::new(Arc::clone(&market.test.app));
        (task.batch, task.pages_max) = (1, 2);
        let mut turns = Vec::new();
        for _ in 0..3 {
            let done = task.activate().await.expect("a turn");
            assert_eq!(done["failed"], 0, "{done}");
            turns.push((done["settled"].as_i64(), done["running_looked_at"].as_i64()));
        }
        // the windows of what runs have their turn once a minute, and nothing that is over has one among them
        let (two, one, none) = (Some(2), Some(1), Some(0));
        assert_eq!(turns, [(two, one), (one, none), (none, none)]);
        assert_eq!(market.windows(running).await.len(), 1);
        market.check_books().await;
    }
}
