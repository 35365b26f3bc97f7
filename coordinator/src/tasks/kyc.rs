//! Expires proofs of identity, and deletes documents that were kept long enough.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, domain::kyc, error::Result};

/// The task's name.
pub const NAME: &str = "kyc";

/// The task.
pub struct Kyc(pub Arc<App>);

#[async_trait]
impl Task for Kyc {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let (mut expired, mut documents) = (0_u64, 0_u64);
        loop {
            let ctx = app.task_context(NAME);
            let done = app
                .db
                .write("kyc.sweep", move |tx| kyc::sweep(tx, &ctx))
                .await?;
            expired = expired.saturating_add(done.expired);
            documents = documents.saturating_add(done.documents);
            if !done.more {
                return Ok(json!({ "expired": expired, "documents_deleted": documents }));
            }
        }
    }
}
