//! Issues the invoices of rentals that are settled.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Task, each::each_rental};
use crate::{app::App, domain::invoices, error::Result};

/// The task's name.
pub const NAME: &str = "invoices";
/// How often it looks by itself; a settlement wakes it.
pub const PERIOD_MS: u32 = 5_000;
/// Rentals of one page.
const BATCH: i64 = 200;

/// The task.
pub struct Invoices(pub Arc<App>);

#[async_trait]
impl Task for Invoices {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let due = app
            .db
            .read("invoice.due", |tx| invoices::due(tx, BATCH))
            .await?;
        let full = i64::try_from(due.len()).is_ok_and(|count| count == BATCH);
        let rules = invoices::api::rules(app);
        let (issued, failed) = each_rental(app, NAME, due, move |tx, ctx, id| {
            invoices::document(tx, ctx, &rules, id).map(|issued| issued.len())
        })
        .await;
        if full && failed == 0 {
            // more wait than one page holds
            app.tasks.poke(NAME);
        }
        Ok(json!({ "issued": issued.iter().sum::<usize>(), "failed": failed }))
    }
}
