//! Follows the stream for webhooks: hands events to the endpoints that want them, and forgets old deliveries.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Task, webhook_courier};
use crate::{app::App, domain::webhooks::deliveries, error::Result, store::Tx};

/// The task's name.
pub const NAME: &str = "webhooks";
const DAY_MS: i64 = 86_400_000;

/// The task.
pub struct Webhooks(pub Arc<App>);

#[async_trait]
impl Task for Webhooks {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let (mut events, mut made) = (0, 0);
        while app
            .db
            .read("webhook.position", deliveries::anything_new)
            .await?
        {
            let ctx = app.task_context(NAME);
            let hand_out = move |tx: &mut dyn Tx| deliveries::hand_out(tx, &ctx);
            let handed = app.db.write("webhook.hand_out", hand_out).await?;
            events += handed.events;
            made += handed.deliveries;
        }
        if made > 0 {
            app.tasks.poke(webhook_courier::NAME);
        }
        let kept_ms = i64::from(app.config.webhooks.deliveries_kept_days).saturating_mul(DAY_MS);
        let before = app.clock.now().plus_ms(-kept_ms);
        let mut forgotten = 0;
        let anything_old = move |tx: &mut dyn Tx| deliveries::anything_old(tx, before);
        if app.db.read("webhook.old", anything_old).await? {
            let forget = move |tx: &mut dyn Tx| deliveries::forget(tx, before);
            forgotten = app.db.write("webhook.forget", forget).await?;
        }
        Ok(json!({ "events": events, "deliveries": made, "forgotten": forgotten }))
    }
}
