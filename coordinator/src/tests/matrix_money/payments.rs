//! A signed order, and what the database says of it in the end.

use std::collections::BTreeMap;

use serde_json::json;
use shared::{
    container::RawSpec,
    id::{LeaseId, OfferId},
    x402::{header, payment::PresentedPayment},
};

use super::{Behaviour, SLICE};
use crate::{
    context::Actor,
    domain::{
        payments::model::PaymentState,
        rentals::{
            order::RentOrder,
            purchase::{Reception, Until, Wanted},
            spec::KeptSpec,
        },
    },
    params,
    testing::{TestApp, payer::Payer},
};

/// How long each rents, milliseconds.
const DURATION_MS: i64 = 600_000;

/// Somebody who pays once.
#[derive(Debug, Clone)]
pub(super) struct Paying {
    pub(super) behaviour: Behaviour,
    pub(super) seed: u64,
    /// As in the database.
    pub(super) nonce: String,
    pub(super) valid_before_s: i64,
    /// Sends the same again, later.
    pub(super) repeats: bool,
    presented: PresentedPayment,
    wanted: Wanted,
}

impl Paying {
    /// Orders and signs what is asked for.
    pub(super) async fn sign(
        test: &TestApp,
        payer: &Payer,
        offer: OfferId,
        (behaviour, seed): (Behaviour, u64),
        number: usize,
        repeats: bool,
    ) -> Self {
        let order = json!({
            "offer_id": offer,
            "resources": {"ram_bytes": SLICE.ram_bytes, "cpu_millis": SLICE.cpu_millis},
            "duration_seconds": DURATION_MS / 1_000,
            "image": "busybox:latest",
        });
        let asked = test.post("/api/v1/rentals", "", &order).await;
        let mut nonce = [7; 32];
        nonce[..8].copy_from_slice(&u64::try_from(number).unwrap_or(0).to_be_bytes());
        let signed = payer.sign_under(nonce, &asked, test);
        let verbatim = header::decode(signed.header_v2.as_bytes()).expect("our own payment");
        let presented = PresentedPayment::from_json(verbatim).expect("our own payment");
        let quote = asked.json()["quote_id"].clone();
        let lease_id: LeaseId = test.app.ids.mint();
        let spec = RawSpec {
            image: "busybox:latest".to_owned(),
            ..RawSpec::default()
        };
        let spec = spec.try_into().expect("a specification");
        let order = RentOrder {
            offer_id: offer,
            resources: SLICE,
            duration_ms: DURATION_MS,
            lease_id,
            spec: KeptSpec::seal(&test.app.agents.specs, lease_id, &spec).expect("sealed"),
            max_spend: None,
            auto_extend: false,
        };
        let valid_before = presented.authorization.valid_before;
        Self {
            behaviour,
            seed,
            nonce: format!("0x{}", hex::encode(nonce)),
            valid_before_s: i64::try_from(valid_before).expect("seconds"),
            repeats,
            presented,
            wanted: Wanted::Rent {
                order,
                quote_id: Some(serde_json::from_value(quote).expect("a quote's id")),
            },
        }
    }

    async fn receive(&self, test: &TestApp) -> Reception {
        let ctx = test.app.context(Actor::Anonymous, "test".to_owned());
        let (presented, wanted) = (self.presented.clone(), self.wanted.clone());
        let received = test.app.purchases.receive(&ctx, presented, wanted, [0; 32]);
        received.await.unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }

    /// Pays, as the request does.
    pub(super) async fn pay(&self, test: &TestApp) {
        match self.receive(test).await {
            Reception::New(payment, quote) => {
                let driven = test.app.purchases.drive_on(payment, &quote, Until::Settled);
                driven.await.expect("it is driven");
            }
            other => panic!("{self:?}: {other:?}"),
        }
    }

    /// Sends the same again, as a client does that got no answer.
    pub(super) async fn repeat(&self, test: &TestApp) {
        match self.receive(test).await {
            Reception::New(payment, quote) => {
                let driven = test.app.purchases.drive_on(payment, &quote, Until::Settled);
                driven.await.expect("it is driven");
            }
            Reception::Before(payment) => {
                let held = [PaymentState::Received, PaymentState::Verified];
                if held.contains(&payment.state) {
                    let driven = test.app.purchases.pick_up(payment.id).await;
                    driven.expect("it is taken up");
                }
            }
            Reception::AskAgain(why) => panic!("{self:?}: {why}"),
        }
    }
}

/// How many payments haven't ended.
pub(super) async fn open(test: &TestApp) -> i64 {
    let counted = test.app.db.read("test.open", |tx| {
        let rows = tx.query(
            "SELECT COUNT(*) FROM payments WHERE state IN ('received', 'verified', 'settling', 'pending')",
            params![],
        )?;
        Ok(rows[0].int(0)?)
    });
    counted.await.expect("a count")
}

/// A payment in the end.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) state: String,
    pub(super) ended_at_s: i64,
    pub(super) rental: String,
    pub(super) postings: i64,
    /// Events that say it is paid.
    pub(super) announced: i64,
    /// Shown when something is wrong with it.
    #[expect(dead_code, reason = "read by Debug")]
    pub(super) last_error: String,
}

/// Payments by their nonces.
pub(super) async fn rows(test: &TestApp) -> BTreeMap<String, Row> {
    let found = test.app.db.read("test.rows", |tx| {
        let rows = tx.query(
            "SELECT p.nonce, p.state, p.updated_at, r.state,
                    (SELECT COUNT(*) FROM transfers t WHERE t.ref = p.id AND t.code = 'payment'),
                    (SELECT COUNT(*) FROM events e WHERE e.rental_id = r.id AND e.kind = 'rental.paid'),
                    COALESCE(p.last_error, '')
             FROM payments p JOIN rentals r ON r.id = p.rental_id",
            params![],
        )?;
        rows.iter()
            .map(|row| {
                let text = |column| Ok::<_, crate::error::Error>(row.text(column)?.to_owned());
                let payment = Row {
                    state: text(1)?,
                    ended_at_s: row.int(2)? / 1_000_000,
                    rental: text(3)?,
                    postings: row.int(4)?,
                    announced: row.int(5)?,
                    last_error: text(6)?,
                };
                Ok((text(0)?, payment))
            })
            .collect()
    });
    found.await.expect("rows")
}
