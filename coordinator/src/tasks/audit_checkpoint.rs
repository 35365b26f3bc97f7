//! Signs how far the audit log is, and keeps it outside the database: in a file and as a line of the log.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{
    app::App,
    audit_file,
    domain::audit::checkpoint::Checkpoint,
    error::{Error, Result},
};

/// The task's name.
pub const NAME: &str = "audit_checkpoint";

/// The task, and the place of the last checkpoint that it wrote.
pub struct AuditCheckpoint {
    app: Arc<App>,
    written: i64,
}

impl AuditCheckpoint {
    /// Has written none yet.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self { app, written: 0 }
    }
}

#[async_trait]
impl Task for AuditCheckpoint {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.app;
        let end = app.db.read("audit.head", Checkpoint::now).await?;
        let Some(end) = end.filter(|end| end.seq != self.written) else {
            return Ok(json!({ "seq": self.written }));
        };
        let line = end
            .to_line(app.clock.now(), &app.keys.audit)
            .map_err(Error::internal)?;
        let (path, text) = (audit_file::path(&app.config), line.clone());
        tokio::task::spawn_blocking(move || audit_file::append(&path, &text))
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)?;
        tracing::info!(
            audit.seq = end.seq,
            audit.checkpoint = line,
            "audit log signed"
        );
        self.written = end.seq;
        Ok(json!({ "seq": self.written }))
    }
}
