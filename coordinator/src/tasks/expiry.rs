//! Ends what is over: paid time, reservations that weren't paid, rentals whose node is gone.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Task, each::each_rental};
use crate::{
    app::App,
    context::OpCtx,
    domain::rentals::timers::{self, Done},
    error::Result,
    store::Tx,
};

/// The task's name.
pub const NAME: &str = "expiry";
/// After the start of a coordinator silence proves nothing for so long.
const NODES_REPORT_WITHIN_MS: i64 = 60_000;

/// The task.
pub struct Expiry(pub Arc<App>);

#[async_trait]
impl Task for Expiry {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let (mut done, mut failed, mut after) = (Done::default(), 0, Some(String::new()));
        while let Some(cursor) = after {
            let ctx = app.task_context(NAME);
            let can_report =
                ctx.now.ms_since(app.agents.presence.started_at()) > NODES_REPORT_WITHIN_MS;
            let look = move |tx: &mut dyn Tx| timers::overdue(tx, &ctx, &cursor, can_report);
            let (due, next) = app.db.read("rental.overdue", look).await?;
            let end = move |tx: &mut dyn Tx, ctx: &OpCtx, id| {
                timers::end_if_overdue(tx, ctx, id, can_report)
            };
            let (ended, bad) = each_rental(app, NAME, due, end).await;
            ended.into_iter().for_each(|one| done += one);
            failed += bad;
            after = next;
        }
        let lapsed = app.purchases.lapse().await?;
        if done.lost > 0 {
            app.tasks.poke(super::settlement::NAME);
        }
        Ok(
            json!({ "stopped": done.stopped, "lost": done.lost, "lapsed": lapsed, "failed": failed }),
        )
    }
}
