//! Asks for what is paid out by itself, and sends what was asked for.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, error::Result};

/// The task's name.
pub const NAME: &str = "payouts";

/// The task.
pub struct Payouts {
    app: Arc<App>,
    /// The round of earnings that this process saw to.
    round: Option<i64>,
}

impl Payouts {
    /// Over the application's database.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self { app, round: None }
    }
}

#[async_trait]
impl Task for Payouts {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let payouts = &self.app.payouts;
        let refunds = payouts.pay_refunds().await?;
        let round = payouts.round_at(self.app.clock.now());
        let mut earnings = 0;
        if round > self.round {
            earnings = payouts.pay_earnings().await?;
            payouts.forget_days().await?;
            self.round = round;
        }
        let ended = payouts.pass().await?;
        Ok(json!({ "refunds": refunds, "earnings": earnings, "ended": ended }))
    }
}
