//! A market with one node whose memory is on offer: where most journeys begin.

use serde_json::{Value, json};

use crate::{
    MIB,
    api::Api,
    market::{Market, Store},
    node::Node,
    people,
};

/// The market, its one node and whom they belong to.
#[derive(Debug)]
pub struct Stage {
    // dropped before the market
    /// The node.
    pub node: Node,
    /// Its owner.
    pub provider: Api,
    /// The offer of all of it.
    pub offer_id: String,
    /// The market.
    pub market: Market,
}

impl Stage {
    /// With the settings of tests.
    pub async fn set(store: Store) -> Self {
        Self::with(store, &[]).await
    }

    /// With `settings` on top of those of tests. A GiB and hour costs 3.60 USDC, a CPU and hour 0.36: a second has a price.
    ///
    /// # Panics
    /// If a part doesn't start.
    pub async fn with(store: Store, settings: &[(&str, &str)]) -> Self {
        let market = Market::with(store, settings).await;
        let provider = people::provider(&market).await;
        let node = Node::start(&market, &provider).await;
        let offer = node.offer("3.60", "0.36").await;
        let offer_id = offer["id"].as_str().expect("an id").to_owned();
        Self {
            node,
            provider,
            offer_id,
            market,
        }
    }

    /// The body of an order: 256 MiB and a tenth of a CPU of the node's offer.
    #[must_use]
    pub fn order(&self, command: &[&str], duration_seconds: i64) -> Value {
        json!({
            "offer_id": self.offer_id,
            "resources": {"ram_bytes": 256 * MIB, "cpu_millis": 100},
            "duration_seconds": duration_seconds,
            "image": "busybox:latest",
            "command": command,
        })
    }

    /// Waits until no container of the node is left.
    pub async fn until_no_container_is_left(&self) {
        crate::wait::until("no container is left", || async {
            let left = self.node.engine().of_node(self.node.id()).await;
            left.is_empty().then_some(())
        })
        .await;
    }
}
