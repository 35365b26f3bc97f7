//! Asks each facilitator whether it settles on the networks that it was given, and where a chain can be asked, whether each accepted
//! token's contract signs by the domain of our settings: at the start, and again and again. `/readyz` shows the answers.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::{money::Asset, x402::address::Address};

use super::Task;
use crate::{
    app::App,
    domain::payments::{
        ports::{Domain, Support},
        routes::Route,
    },
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
    /// By network and token.
    domains: BTreeMap<(&'static str, Address), Domain>,
}

impl FacilitatorCheck {
    /// Nothing is known yet.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self {
            app,
            before: BTreeMap::new(),
            domains: BTreeMap::new(),
        }
    }

    /// What the contracts of the accepted tokens on a network say; nothing where no chain can be asked.
    async fn tokens(&mut self, route: &Route) -> Vec<Value> {
        let Some(chain) = &route.chain else {
            return Vec::new();
        };
        let network = route.network;
        let mut shown = Vec::new();
        for payee in self.app.purchases.payees.all() {
            if payee.network.caip2 != network.caip2 {
                continue;
            }
            let token = payee.token;
            let said = chain.domain(network, &token).await;
            let (word, detail) = match &said {
                Domain::Same => ("same", None),
                Domain::Differs { detail } => ("differs", Some(detail.clone())),
                Domain::Unknown { detail } => ("unknown", Some(detail.clone())),
            };
            let key = (network.caip2, token.address);
            if self.domains.get(&key) != Some(&said) {
                tell_domain(network.caip2, payee.asset, &said);
            }
            self.domains.insert(key, said);
            shown.push(json!({
                "currency": payee.asset, "token": token.address, "domain": word, "detail": detail,
            }));
        }
        shown
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

fn tell_domain(network: &str, currency: Asset, said: &Domain) {
    match said {
        Domain::Same => {
            tracing::info!(network, %currency, "the token signs by the domain of the settings");
        }
        Domain::Differs { detail } => {
            tracing::error!(network, %currency, detail, "the token signs by another EIP-712 domain than the settings say: nobody can pay with it");
        }
        Domain::Unknown { detail } => {
            tracing::warn!(network, %currency, detail, "the token's EIP-712 domain can't be read");
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
            let tokens = self.tokens(route).await;
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
                "tokens": tokens,
            }));
            self.before.insert(route.network.caip2, support);
        }
        Ok(Value::Array(shown))
    }
}
