//! Asks for exchange rates: at the start, and again and again. `/readyz` shows from when they are.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, error::Result};

/// The task's name.
pub const NAME: &str = "rates";

/// The task.
pub struct RatesRefresh {
    app: Arc<App>,
    was_told: bool,
}

impl RatesRefresh {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self {
            app,
            was_told: true,
        }
    }
}

#[async_trait]
impl Task for RatesRefresh {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let rates = &self.app.purchases.rates;
        let source = rates.source();
        match rates.refresh(self.app.clock.now()).await {
            Ok(at) => {
                self.was_told = true;
                Ok(json!({ "source": source, "at": at }))
            }
            Err(error) => {
                // a state that goes on is logged when it begins
                if std::mem::take(&mut self.was_told) {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        source,
                        error,
                        "no exchange rates: only prices' own currencies can be paid with once the last are too old"
                    );
                }
                Ok(json!({ "source": source, "at": null }))
            }
        }
    }
}
