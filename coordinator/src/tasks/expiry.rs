//! Ends what is over: paid time, reservations that weren't paid, rentals whose node is gone.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, domain::rentals::timers, error::Result};

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
        let (mut stopped, mut lost, mut after) = (0, 0, Some(String::new()));
        while let Some(cursor) = after {
            let ctx = app.task_context(NAME);
            let can_report =
                ctx.now.ms_since(app.agents.presence.started_at()) > NODES_REPORT_WITHIN_MS;
            let end = move |tx: &mut dyn crate::store::Tx| {
                timers::end_overdue(tx, &ctx, &cursor, can_report)
            };
            let (done, next) = app.db.write("rental.overdue", end).await?;
            stopped += done.stopped;
            lost += done.lost;
            after = next;
        }
        let lapsed = app.purchases.lapse().await?;
        if lost > 0 {
            app.tasks.poke(super::settlement::NAME);
        }
        Ok(json!({ "stopped": stopped, "lost": lost, "lapsed": lapsed }))
    }
}
