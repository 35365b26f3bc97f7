//! A market, a node with a real agent on a real engine, an offer, and rentals on it.

use serde_json::{Value, json};
use system_tests::{
    MIB, books,
    containers::Engine,
    market::{Market, Store},
    node::Node,
    payer::{Payer, Rented},
    people, wait,
};

use super::{Life, Witness};

/// What each rental takes.
const MIB_RENTED: i64 = 32;
/// By how much the time billed may differ from the time that Docker says it ran.
const BILLED_MS_OFF_MAX: i64 = 1_000;

/// Where a test plays. The node goes before the market.
pub(crate) struct Stage {
    pub(crate) witness: Witness,
    pub(crate) node: Node,
    pub(crate) market: Market,
    pub(crate) offer_id: String,
}

/// A process that ends when asked to.
fn waiting() -> Value {
    json!([
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
    ])
}

impl Stage {
    /// On the machine's engine.
    pub(crate) async fn new(store: Store, settings: &[(&str, &str)]) -> Self {
        Self::on(Engine::shared(), store, settings).await
    }

    /// On another engine.
    pub(crate) async fn on(engine: Engine, store: Store, settings: &[(&str, &str)]) -> Self {
        let market = Market::with(store, settings).await;
        let provider = people::provider(&market).await;
        let node = Node::start_on(engine, &market, &provider).await;
        let offer = node.offer("3.60", "0.36").await;
        Self {
            witness: Witness::of(node.engine(), node.id()),
            offer_id: offer["id"].as_str().expect("an id").to_owned(),
            node,
            market,
        }
    }

    /// An order of an hour.
    pub(crate) fn order(&self) -> Value {
        json!({
            "offer_id": self.offer_id,
            "resources": {"ram_bytes": MIB_RENTED * MIB, "cpu_millis": 100},
            "duration_seconds": 3_600,
            "image": "busybox:latest",
            "command": waiting(),
        })
    }

    /// A rental that was paid. A node whose helper was killed a moment ago may not be sold until it is seen to be back.
    pub(crate) async fn rent(&self) -> Rented {
        let path = format!("/offers/{}", self.offer_id);
        wait::until("the offer is on the market", || async {
            let offer = self.market.api().get(&path).await;
            (offer.body["available"] == true).then_some(())
        })
        .await;
        Payer::new().rent(&self.market.api(), &self.order()).await
    }

    /// A rental that runs, and Docker's view of it.
    pub(crate) async fn running(&self) -> (Rented, Life) {
        let rented = self.rent().await;
        rented.until("running").await;
        let life = self.witness.life_of(&rented.id).await;
        (rented, life)
    }

    /// Asserts that the container of each of `rentals` is the one that it was, in the same process, and that no other is there
    /// than theirs and those of `more` further rentals.
    pub(crate) async fn untouched(&self, rentals: &[(Rented, Life)], more: usize) {
        for (rented, before) in rentals {
            let facts = self.node.engine().of_rental(&rented.id).await;
            let facts = facts.unwrap_or_else(|| panic!("{} has no container", rented.id));
            assert!(facts.running, "{facts:?}");
            assert_eq!(
                (facts.pid, facts.started_at),
                (before.pid, Some(before.started_at)),
                "another process"
            );
            assert_eq!(rented.view().await["state"], "running");
        }
        wait::until("no container is there twice", || async {
            let found = self.node.engine().of_node(self.node.id()).await;
            (found.len() == rentals.len() + more).then_some(())
        })
        .await;
    }

    /// Waits until a rental is settled and asserts that it is billed what Docker says that it ran, less `unbilled_ms`.
    pub(crate) async fn billed_as_docker_says(&self, rented: &Rented, unbilled_ms: i64) {
        let view = rented.until_settled().await;
        let life = self.witness.end_of(&rented.id).await;
        let (ran_ms, billed_ms) = (life.ran_ms(), view["billed_ms"].as_i64().expect("a figure"));
        let off_ms = billed_ms - (ran_ms - unbilled_ms);
        eprintln!(
            "{}: ran {ran_ms} ms by Docker, {unbilled_ms} ms of it unbilled, billed {billed_ms} ms: {off_ms} ms off",
            rented.id
        );
        assert!(off_ms.abs() <= BILLED_MS_OFF_MAX, "{off_ms} ms off: {view}");
        books::adds_up(&rented.split().await);
    }

    /// Stops the rentals, and asserts that each is billed as Docker says, the books add up, and no container is left.
    pub(crate) async fn end(&self, rentals: &[(Rented, Life)], unbilled_ms: i64) {
        for (rented, _) in rentals {
            rented.stop().await;
        }
        for (rented, _) in rentals {
            self.billed_as_docker_says(rented, unbilled_ms).await;
        }
        self.nothing_left().await;
    }

    /// Asserts that the node has no container and the books add up.
    pub(crate) async fn nothing_left(&self) {
        wait::until("no container is left", || async {
            let left = self.node.engine().of_node(self.node.id()).await;
            left.is_empty().then_some(())
        })
        .await;
        books::check(&self.market);
    }
}
