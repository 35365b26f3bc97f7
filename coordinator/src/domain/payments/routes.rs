//! Who settles what is paid on which network, and which chain can be asked about it.
//!
//! # Invariants
//! - A network has one route. A payment on a network that has none any more waits: nobody is asked, nothing is guessed.

use std::sync::Arc;

use shared::x402::network::Network;

use super::ports::{Chain, Facilitator};

/// The way of the money on one network.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which network.
    pub network: &'static Network,
    /// Who moves the money.
    pub facilitator: Arc<dyn Facilitator>,
    /// The chain, if it can be asked: it settles what the facilitator leaves open.
    pub chain: Option<Arc<dyn Chain>>,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// One for each network.
    #[must_use]
    pub const fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }

    /// That of a network.
    #[must_use]
    pub fn of(&self, network: &Network) -> Option<&Route> {
        self.0
            .iter()
            .find(|route| route.network.caip2 == network.caip2)
    }

    /// The same networks, all through one facilitator.
    #[must_use]
    pub fn through(&self, facilitator: &Arc<dyn Facilitator>) -> Self {
        let route = |route: &Route| Route {
            facilitator: Arc::clone(facilitator),
            ..route.clone()
        };
        Self(self.all().map(route).collect())
    }

    /// The same, all looked at by one chain.
    #[must_use]
    pub fn seen_by(&self, chain: &Arc<dyn Chain>) -> Self {
        let route = |route: &Route| Route {
            chain: Some(Arc::clone(chain)),
            ..route.clone()
        };
        Self(self.all().map(route).collect())
    }

    /// What a payment on a network without a route is told.
    #[must_use]
    pub fn missing(network: &Network) -> String {
        format!(
            "nobody settles on {}: name a facilitator for it in payments.facilitators",
            network.caip2
        )
    }
}
