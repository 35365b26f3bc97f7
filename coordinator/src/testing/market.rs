//! A small market in a test: a provider with one machine and one offer, a wallet that rents, and time that passes.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::{
    clock::Clock as _,
    id::{OfferId, RentalId},
};

use super::{Answer, TestApp, node::ScriptedNode, payer::Payer};
use crate::{
    books,
    domain::{
        metering::{self, model::Interval},
        rentals::{self, model::Rental},
        settlement::{self, model::Window},
    },
    tasks::{
        Task, expiry::Expiry, leases::Leases, liveness::Liveness, market_feed, uptime::Uptime,
    },
};

/// How often the machine beats.
pub const BEAT_MS: i64 = 5_000;
/// The slice that is rented.
pub const RAM_BYTES: i64 = 256 << 20;

/// The market.
#[derive(Debug)]
pub struct Market {
    /// The coordinator.
    pub test: TestApp,
    /// The provider's access token.
    pub provider: String,
    /// The machine.
    pub node: ScriptedNode,
    /// Its offer: 0.002 USDC per GiB and hour, CPU for nothing.
    pub offer: OfferId,
    /// The wallet.
    pub payer: Payer,
}

impl Market {
    /// Opens it: the machine is enrolled, has beaten once and is on offer.
    ///
    /// # Panics
    /// If any of it is refused.
    pub async fn open(test: TestApp) -> Self {
        test.start_ingest();
        let provider = test.signup("provider@example.org", &["provider"]).await;
        let mut node = ScriptedNode::enrol(&test, &provider, 16 << 30).await;
        node.beat(&test).await;
        let offer = offer(&test, &provider, &node, "0.002").await;
        market_feed::load(&test.app).await.expect("the index loads");
        Self {
            test,
            provider,
            node,
            offer,
            payer: Payer::numbered(1),
        }
    }

    /// The order of a rental.
    #[must_use]
    pub fn order(&self, seconds: i64) -> Value {
        order(self.offer, seconds)
    }

    /// Rents by x402 and lets the machine hear of it; its container isn't started yet.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn rent(&mut self, seconds: i64) -> RentalId {
        let order = self.order(seconds);
        let answer = self
            .payer
            .buy(&self.test, "/api/v1/rentals", "", &order)
            .await;
        let id = rental_of(&answer);
        self.node.beat(&self.test).await;
        id
    }

    /// Rents and starts at once.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn run(&mut self, seconds: i64) -> RentalId {
        let id = self.rent(seconds).await;
        self.node.start(id);
        self.node.beat(&self.test).await;
        id
    }

    /// Time passes with a beat every 5 s, leases move and what is over ends; what has to be billed is billed each minute.
    pub async fn pass(&mut self, ms: i64) {
        let mut left_ms = ms;
        let mut since_billed_ms = 0;
        while left_ms > 0 {
            let step_ms = left_ms.min(BEAT_MS);
            self.test.clock.advance_ms(step_ms);
            self.node.tick();
            self.node.beat(&self.test).await;
            self.timers().await;
            left_ms -= step_ms;
            since_billed_ms += step_ms;
            if since_billed_ms >= 60_000 {
                since_billed_ms = 0;
                self.settle().await;
            }
        }
    }

    /// Time passes while the machine can't reach us: it goes on metering, and nobody hears of it.
    pub async fn cut_off(&mut self, ms: i64) {
        let mut left_ms = ms;
        while left_ms > 0 {
            let step_ms = left_ms.min(BEAT_MS);
            self.test.clock.advance_ms(step_ms);
            self.node.tick();
            left_ms -= step_ms;
        }
        self.timers().await;
    }

    /// Time passes while the coordinator is down; then another one starts on the same database.
    #[must_use]
    pub async fn coordinator_down(mut self, ms: i64) -> Self {
        self.note_uptime().await;
        let mut left_ms = ms;
        while left_ms > 0 {
            let step_ms = left_ms.min(BEAT_MS);
            self.test.clock.advance_ms(step_ms);
            self.node.tick();
            left_ms -= step_ms;
        }
        self.test = self.test.restarted();
        self.test.start_ingest();
        market_feed::load(&self.test.app)
            .await
            .expect("the index loads");
        self.note_uptime().await;
        self
    }

    /// The coordinator notes that it is alive.
    ///
    /// # Panics
    /// If it can't.
    pub async fn note_uptime(&self) {
        let noted = Uptime(self.test.app.clone()).activate().await;
        noted.expect("uptime is noted");
    }

    /// Uptime, liveness, leases and expiry, once each.
    ///
    /// # Panics
    /// If one fails.
    pub async fn timers(&self) {
        let own = || self.test.app.clone();
        self.note_uptime().await;
        Liveness(own()).activate().await.expect("liveness runs");
        Leases(own()).activate().await.expect("leases run");
        Expiry(own()).activate().await.expect("expiry runs");
    }

    /// Settles every rental, as far as that goes now.
    pub async fn settle(&self) {
        settle(&self.test).await;
    }

    /// A rental's row.
    ///
    /// # Panics
    /// If there is none.
    pub async fn rental(&self, id: RentalId) -> Rental {
        let db = &self.test.app.db;
        let found = db.read("test.rental", move |tx| rentals::find(tx, id));
        found.await.expect("there is one")
    }

    /// A rental's windows.
    ///
    /// # Panics
    /// If they can't be read.
    pub async fn windows(&self, id: RentalId) -> Vec<Window> {
        let ctx = self.test.app.task_context("test");
        let early = shared::time::Timestamp::from_secs(0);
        let db = &self.test.app.db;
        let read = db.read("test.windows", move |tx| {
            settlement::windows(tx, &ctx, id, early, 10_000)
        });
        read.await.expect("windows are read")
    }

    /// Covered milliseconds of the machine since the beginning.
    ///
    /// # Panics
    /// If they can't be read.
    pub async fn covered_ms(&self) -> i64 {
        let node = self.node.id;
        let window = Interval {
            start: shared::time::Timestamp::from_secs(0),
            end: self.test.clock.now(),
        };
        let db = &self.test.app.db;
        let parts = db
            .read("test.coverage", move |tx| {
                metering::coverage(tx, node, &window)
            })
            .await;
        let parts = metering::model::union(parts.expect("coverage is read"));
        parts.iter().map(|part| part.end.ms_since(part.start)).sum()
    }

    /// Panics unless every invariant of the books holds.
    ///
    /// # Panics
    /// With what is broken.
    pub async fn check_books(&self) {
        let report = books::check(&self.test.app.db, self.test.clock.now())
            .await
            .expect("a report");
        assert!(report.holds(), "{report:#?}");
    }

    /// What is flagged of the machine, as its provider sees it.
    pub async fn flags(&self) -> Vec<String> {
        let path = format!("/api/v1/nodes/{}", self.node.id);
        let answer = self.test.get(&path, &self.provider).await.json();
        let flags = answer["flags"].as_array().cloned().unwrap_or_default();
        flags
            .iter()
            .filter_map(|flag| flag["code"].as_str().map(str::to_owned))
            .collect()
    }
}

/// Settles every rental, as far as that goes now.
///
/// # Panics
/// If it fails.
pub async fn settle(test: &TestApp) {
    let db = &test.app.db;
    let due = db.read("test.unsettled", |tx| {
        let mut due = rentals::running(tx, "", 500)?;
        let (at, id) = rentals::timers::beginning();
        due.extend(rentals::to_settle(tx, (at, &id), 500)?);
        Ok(due)
    });
    for rental in due.await.expect("rentals are read") {
        let (ctx, id) = (test.app.task_context("test"), rental.id);
        let settled = db.write("test.settle", move |tx| settlement::settle(tx, &ctx, id));
        settled.await.expect("it is settled");
    }
}

/// The order of a rental of an offer.
#[must_use]
pub fn order(offer: OfferId, seconds: i64) -> Value {
    json!({
        "offer_id": offer,
        "resources": {"ram_bytes": RAM_BYTES, "cpu_millis": 100},
        "duration_seconds": seconds,
        "image": "busybox:latest",
        "command": ["sleep", "600"],
    })
}

/// Puts a machine on offer at a price per GiB and hour.
///
/// # Panics
/// If that is refused.
pub async fn offer(test: &TestApp, provider: &str, node: &ScriptedNode, price: &str) -> OfferId {
    let body = json!({
        "node_id": node.id,
        "prices": {"ram_gib_hour": price, "cpu_hour": "0"},
    });
    let answer = test.post("/api/v1/offers", provider, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let id = answer.json()["id"].as_str().map(str::parse);
    id.expect("an id").expect("an offer's id")
}

/// The rental that a 201 tells of.
///
/// # Panics
/// If it isn't one.
pub fn rental_of(answer: &Answer) -> RentalId {
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let id = answer.json()["id"].as_str().map(str::parse);
    id.expect("an id").expect("a rental's id")
}

/// How long ago a rental started, by the test's clock, milliseconds.
#[must_use]
pub fn running_ms(test: &TestApp, rental: &Rental) -> i64 {
    rental
        .started_at
        .map_or(0, |started| test.clock.now().ms_since(started))
}
