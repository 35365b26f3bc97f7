//! Sends what webhooks are due.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, error::Result};

/// The task's name.
pub const NAME: &str = "webhook_courier";

/// The task.
pub struct WebhookCourier(pub Arc<App>);

#[async_trait]
impl Task for WebhookCourier {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let sent = self.0.courier.run().await?;
        if sent.more {
            self.0.tasks.poke(NAME);
        }
        Ok(json!({ "turns": sent.turns, "delivered": sent.delivered, "failed": sent.failed }))
    }
}
