//! Asks the facilitator whether it settles what we ask to be paid with: at the start, and again and again. `/readyz` shows the answer.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Task;
use crate::{app::App, domain::payments::ports::Support, error::Result};

/// The task's name.
pub const NAME: &str = "facilitator";
/// How often it is asked.
pub const PERIOD_MS: u32 = 60_000;

/// The task.
pub struct FacilitatorCheck {
    app: Arc<App>,
    before: Option<Support>,
}

impl FacilitatorCheck {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self { app, before: None }
    }

    /// A state that goes on is logged when it begins.
    fn tell(&self, name: &str, network: &str, now: &Support) {
        if self.before.as_ref() == Some(now) {
            return;
        }
        match now {
            Support::Yes => tracing::info!(facilitator = name, network, "facilitator is there"),
            Support::No => tracing::error!(
                facilitator = name,
                network,
                "the facilitator doesn't settle on this network: nobody can pay"
            ),
            Support::Unknown { detail } => tracing::warn!(
                facilitator = name,
                network,
                detail,
                "the facilitator gives no clear answer"
            ),
        }
    }
}

#[async_trait]
impl Task for FacilitatorCheck {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let purchases = &self.app.purchases;
        let (name, network) = (
            purchases.facilitator.name(),
            purchases.payees.first().network,
        );
        let support = purchases.facilitator.supports(network).await;
        self.tell(name, network.caip2, &support);
        let supported = match &support {
            Support::Yes => "yes",
            Support::No => "no",
            Support::Unknown { .. } => "unknown",
        };
        let status =
            json!({ "facilitator": name, "network": network.caip2, "supported": supported });
        self.before = Some(support);
        Ok(status)
    }
}
