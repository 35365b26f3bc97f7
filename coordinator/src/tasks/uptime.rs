//! Notes that this coordinator is alive: what lies between two runs isn't the providers' fault.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, domain::metering, error::Result};

/// The task's name.
pub const NAME: &str = "uptime";
/// How often it is noted: a third of what metering believes.
pub const PERIOD_MS: u32 = 2_000;

/// The task.
pub struct Uptime(pub Arc<App>);

#[async_trait]
impl Task for Uptime {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let (epoch, started, now) = (
            app.agents.beacons.epoch(),
            app.agents.presence.started_at(),
            app.clock.now(),
        );
        app.db
            .write("uptime.note", move |tx| {
                metering::keep_alive(tx, &epoch, started, now)
            })
            .await?;
        Ok(json!({ "alive_until": now }))
    }
}
