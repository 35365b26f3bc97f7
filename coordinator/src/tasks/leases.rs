//! Moves the leases of running rentals on, and extends from balances what asks for it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::Task;
use crate::{
    app::App,
    domain::rentals::timers,
    error::{Error, Result},
};

/// The task's name.
pub const NAME: &str = "leases";

/// The task.
pub struct Leases(pub Arc<App>);

#[async_trait]
impl Task for Leases {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = Arc::clone(&self.0);
        let (ctx, rules) = (app.task_context(NAME), app.purchases.rules);
        let done = self
            .0
            .db
            .write("rental.leases", move |tx| {
                let answers = |node| {
                    let (silent_ms, heard) = app.agents.presence.silence(node, ctx.now);
                    heard && silent_ms < app.agents.rhythm.patience.suspect_after_ms
                };
                timers::move_leases(tx, &ctx, &rules, &answers)
            })
            .await?;
        serde_json::to_value(done).map_err(Error::internal)
    }
}
