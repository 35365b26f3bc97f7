//! A signed order, and what the database says of it in the end.

use std::collections::BTreeMap;

use serde_json::json;
use shared::{
    clock::Clock as _,
    container::RawSpec,
    id::{LeaseId, OfferId, UserId},
    money::Asset,
    x402::{header, payment::PresentedPayment},
};

use super::{Behaviour, SLICE};
use crate::{
    context::{Actor, Role, User},
    domain::{
        payments::model::PaymentState,
        rentals::{
            api::body::request_sha256,
            order::RentOrder,
            purchase::{Reception, Until, Wanted},
            spec::KeptSpec,
        },
    },
    params,
    testing::{Answer, TestApp, payer::Payer},
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
    request_sha256: [u8; 32],
    actor: Actor,
}

/// How one payment is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    pub(super) behaviour: Behaviour,
    pub(super) seed: u64,
    pub(super) repeats: bool,
    /// Which of the world's payments it is.
    pub(super) number: usize,
}

/// Somebody with an account, who fills their balance.
#[derive(Debug, Clone)]
pub(super) struct Person {
    token: String,
    actor: Actor,
    id: UserId,
}

impl Person {
    /// Signs up.
    pub(super) async fn new(test: &TestApp) -> Self {
        let token = test.signup("consumer@example.org", &[]).await;
        let me = test.get("/api/v1/auth/me", &token).await.json();
        let id: UserId = serde_json::from_value(me["id"].clone()).expect("an id");
        let actor = Actor::User(User {
            id,
            roles: [Role::Consumer].into(),
            session: test.app.ids.mint(),
            proven_at: test.clock.now(),
        });
        Self { token, actor, id }
    }
}

impl Paying {
    /// Orders and signs what is asked for.
    pub(super) async fn rental(
        test: &TestApp,
        payer: &Payer,
        offer: OfferId,
        script: Script,
    ) -> Self {
        let order = json!({
            "offer_id": offer,
            "resources": {"ram_bytes": SLICE.ram_bytes, "cpu_millis": SLICE.cpu_millis},
            "duration_seconds": DURATION_MS / 1_000,
            "image": "busybox:latest",
        });
        let asked = test.post("/api/v1/rentals", "", &order).await;
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
            spec: KeptSpec::seal(&test.app.agents.specs, lease_id, &spec, None).expect("sealed"),
            registry_auth: None,
            image: None,
            max_spend: None,
            auto_extend: false,
            ssh_keys: Vec::new(),
        };
        let wanted = Wanted::Rent {
            order,
            quote_id: Some(serde_json::from_value(quote).expect("a quote's id")),
        };
        // with a quote's id the quote isn't found by the request
        Self::signed(
            test,
            payer,
            &asked,
            script,
            (wanted, [0; 32], Actor::Anonymous),
        )
    }

    /// Asks for a top-up and signs what is asked for.
    pub(super) async fn top_up(
        test: &TestApp,
        payer: &Payer,
        person: &Person,
        script: Script,
    ) -> Self {
        let body = json!({"amount": {"amount": "0.5", "currency": "USDC"}});
        let asked = test
            .post("/api/v1/balance/topups", &person.token, &body)
            .await;
        let path = format!("/api/v1/balance/topups?user={}", person.id);
        let hash = request_sha256("POST", &path, body.to_string().as_bytes());
        let wanted = Wanted::TopUp {
            amount: "0.5".parse().expect("an amount"),
            asset: Asset::from_code("USDC").expect("a currency"),
        };
        Self::signed(
            test,
            payer,
            &asked,
            script,
            (wanted, hash, person.actor.clone()),
        )
    }

    fn signed(
        test: &TestApp,
        payer: &Payer,
        asked: &Answer,
        script: Script,
        (wanted, request_sha256, actor): (Wanted, [u8; 32], Actor),
    ) -> Self {
        let mut nonce = [7; 32];
        let number = u64::try_from(script.number).unwrap_or(0);
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        let signed = payer.sign_under(nonce, asked, test);
        let verbatim = header::decode(signed.header_v2.as_bytes()).expect("our own payment");
        let presented = PresentedPayment::from_json(verbatim).expect("our own payment");
        let valid_before = presented.authorization.valid_before;
        Self {
            behaviour: script.behaviour,
            seed: script.seed,
            nonce: format!("0x{}", hex::encode(nonce)),
            valid_before_s: i64::try_from(valid_before).expect("seconds"),
            repeats: script.repeats,
            presented,
            wanted,
            request_sha256,
            actor,
        }
    }

    /// Where its rental is in the end, if it is for one.
    pub(super) const fn expected(&self, is_credited: bool) -> &'static str {
        match (&self.wanted, is_credited) {
            (Wanted::TopUp { .. }, _) => "",
            (_, true) => "active",
            (_, false) => "ended",
        }
    }

    async fn receive(&self, test: &TestApp) -> Reception {
        let ctx = test.app.context(self.actor.clone(), "test".to_owned());
        let (presented, wanted) = (self.presented.clone(), self.wanted.clone());
        let hash = self.request_sha256;
        let received = test.app.purchases.receive(&ctx, presented, wanted, hash);
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
            "SELECT p.nonce, p.state, p.updated_at, COALESCE(r.state, ''),
                    (SELECT COUNT(*) FROM transfers t WHERE t.ref = p.id AND t.code = 'payment'),
                    (SELECT COUNT(*) FROM events e WHERE (e.rental_id = r.id AND e.kind = 'rental.paid')
                        OR (e.kind = 'balance.credited' AND e.payload LIKE '%' || p.id || '%')),
                    COALESCE(p.last_error, '')
             FROM payments p LEFT JOIN rentals r ON r.id = p.rental_id",
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
