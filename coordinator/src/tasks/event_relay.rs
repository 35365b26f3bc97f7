//! Gives committed events their place and passes them on to listeners of this process, those of other coordinators too.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, domain::events, error::Result};

/// The task's name.
pub const NAME: &str = "event_relay";

/// The relay.
pub struct EventRelay {
    app: Arc<App>,
    relay: events::Relay,
}

impl EventRelay {
    /// Over the application's database.
    #[must_use]
    pub fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            relay: events::Relay::default(),
        }
    }
}

#[async_trait]
impl Task for EventRelay {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let (placed, published) = self.relay.run(&self.app.db, &self.app.events).await?;
        if published > 0 {
            self.app.tasks.poke(super::webhooks::NAME);
        }
        Ok(json!({"placed": placed, "published": published}))
    }
}
