//! Removes what is over and nobody needs any more: sessions, links, counted failures, challenges that wallets used, logins of devices,
//! tickets that nobody used. Mail is forgotten by its own task.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{
    app::App,
    domain::{auth::retention, device_login, gateway::tickets, wallets},
    error::Result,
};

/// The task.
pub struct Forgetting(pub Arc<App>);

#[async_trait]
impl Task for Forgetting {
    fn name(&self) -> &'static str {
        "forgetting"
    }

    async fn activate(&mut self) -> Result<Value> {
        let done = retention::forget(&self.0.db, self.0.clock.now()).await?;
        let nonces = wallets::forget(&self.0.db, self.0.clock.now()).await?;
        let tickets = tickets::forget(&self.0.db, self.0.clock.now()).await?;
        let logins = device_login::forget(&self.0.db, self.0.clock.now()).await?;
        Ok(json!({
            "sessions": done.sessions, "links": done.links, "delays": done.delays, "wallet_nonces": nonces,
            "device_logins": logins, "tickets": tickets,
        }))
    }
}
