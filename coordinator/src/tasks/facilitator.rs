//! Asks each facilitator whether it settles on the networks that it was given: at the start, and again and again. `/readyz` shows the
//! answers.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Task;
use crate::{
    app::App,
    domain::payments::{ports::Support, routes::Route},
    error::Result,
};

/// The task's name.
pub const NAME: &str = "facilitator";
/// How often they are asked.
pub const PERIOD_MS: u32 = 60_000;

/// The task.
pub struct FacilitatorCheck {
    app: Arc<App>,
    /// By network.
    before: BTreeMap<&'static str, Support>,
}

impl FacilitatorCheck {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self {
            app,
            before: BTreeMap::new(),
        }
    }

    /// A state that goes on is logged when it begins.
    fn tell(&self, route: &Route, now: &Support) {
        let network = route.network.caip2;
        if self.before.get(network) == Some(now) {
            return;
        }
        let name = route.facilitator.name();
        match now {
            Support::Yes => tracing::info!(facilitator = name, network, "facilitator is there"),
            Support::No => tracing::error!(
                facilitator = name,
                network,
                "the facilitator doesn't settle on this network: nobody can pay there"
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
        let routes: Vec<Route> = self.app.purchases.routes.all().cloned().collect();
        // one that hangs doesn't keep the others waiting
        let answers = routes
            .iter()
            .map(|route| route.facilitator.supports(route.network));
        let answers = join_all(answers).await;
        let mut shown = Vec::with_capacity(routes.len());
        for (route, support) in routes.iter().zip(answers) {
            self.tell(route, &support);
            let supported = match &support {
                Support::Yes => "yes",
                Support::No => "no",
                Support::Unknown { .. } => "unknown",
            };
            shown.push(json!({
                "network": route.network.caip2,
                "facilitator": route.facilitator.name(),
                "supported": supported,
            }));
            self.before.insert(route.network.caip2, support);
        }
        Ok(Value::Array(shown))
    }
}
