//! Adds to the figures over time what happened since, and looks at the market.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, domain::analytics, error::Result, store::Tx};

/// The task's name.
pub const NAME: &str = "analytics";

/// The task.
pub struct Analytics(pub Arc<App>);

#[async_trait]
impl Task for Analytics {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let (mut windows, mut nodes) = (0, 0);
        loop {
            let ctx = app.task_context(NAME);
            let add = move |tx: &mut dyn Tx| analytics::add_windows(tx, &ctx);
            match app.db.write("analytics.windows", add).await? {
                0 => break,
                added => windows += added,
            }
        }
        loop {
            let ctx = app.task_context(NAME);
            let add = move |tx: &mut dyn Tx| analytics::add_coverage(tx, &ctx);
            match app.db.write("analytics.coverage", add).await? {
                None => break,
                Some(added) => nodes += added,
            }
        }
        let (now, supply) = (app.clock.now(), app.market.supply());
        let forgotten = app
            .db
            .write("analytics.sample", move |tx| {
                analytics::sample_market(tx, now, &supply)?;
                analytics::forget(tx, now)
            })
            .await?;
        Ok(json!({ "windows": windows, "nodes": nodes, "forgotten": forgotten }))
    }
}
