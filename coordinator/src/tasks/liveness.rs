//! Writes what the silence of nodes means: online → suspect → offline.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, error::Result};

/// The task's name.
pub const NAME: &str = "liveness";

/// The task.
pub struct Liveness(pub Arc<App>);

#[async_trait]
impl Task for Liveness {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let changed = self
            .0
            .agents
            .judge_silence(&self.0.task_context(NAME))
            .await?;
        Ok(json!({ "changed": changed }))
    }
}
