//! Takes up payments whose process died or whose outcome was unclear, and forgets quotes that nobody used.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, domain::payments, error::Result};

/// The task's name.
pub const NAME: &str = "payments";
/// Unused quotes are kept for so long after they expired, to tell a late payer why.
const QUOTE_KEPT_MS: i64 = 3_600_000;

/// The task.
pub struct Payments(pub Arc<App>);

#[async_trait]
impl Task for Payments {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let ended = self.0.purchases.reconcile().await?;
        let before = self.0.clock.now().plus_ms(-QUOTE_KEPT_MS);
        let forgotten = self
            .0
            .db
            .write("payment.forget_quotes", move |tx| {
                payments::delete_old_quotes(tx, before)
            })
            .await?;
        Ok(json!({ "ended": ended, "quotes_forgotten": forgotten }))
    }
}
