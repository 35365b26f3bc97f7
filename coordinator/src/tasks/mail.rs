//! Sends queued mail.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, error::Result};

/// The task's name.
pub const NAME: &str = "mail";

/// The task.
pub struct MailRound(pub Arc<App>);

#[async_trait]
impl Task for MailRound {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let done = self.0.postbox.deliver().await?;
        Ok(json!({
            "sent": done.sent, "put_off": done.put_off, "given_up": done.given_up, "forgotten": done.forgotten,
        }))
    }
}
