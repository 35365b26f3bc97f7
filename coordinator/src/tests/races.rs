//! What meets on one rental: writers of two coordinators, payments that nobody answers, keys that are used again, and strangers.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::json;
use shared::{
    id::RentalId,
    x402::{header, network::Network},
};

use super::stall::{Signed, Stall, id_of};
use crate::{
    domain::{
        nodes::{self, model::Availability},
        payments::{
            self,
            model::PaymentState,
            ports::{Facilitator, SettleOutcome, SettleRequest, Support, VerifyOutcome},
            x402_http,
        },
        rentals::{
            api::request_sha256,
            find,
            model::{EndReason, Rental, State},
            order::RentOrder,
            purchase::{Purchases, Reception, Until, Wanted},
            save,
            spec::KeptSpec,
        },
    },
    store::Tx,
    testing::TestApp,
};

const RENTALS: &str = "/api/v1/rentals";

async fn rental(stall: &Stall, id: RentalId) -> Rental {
    let db = &stall.test.app.db;
    db.read("test.rental", move |tx| find(tx, id))
        .await
        .expect("a rental")
}

/// Twenty writers read the same row and each adds a second: none is lost, and none is turned away.
async fn no_write_is_lost(test: TestApp) {
    let stall = Stall::open(test).await;
    let paid = stall.signed(RENTALS, "", &stall.order(600), 1).await;
    let id: RentalId = id_of(&stall.pay(&paid, "").await);
    let longer = move |tx: &mut dyn Tx| {
        let rental = find(tx, id)?;
        let duration_ms = rental.duration_ms + 1_000;
        save(
            tx,
            &Rental {
                duration_ms,
                ..rental
            },
        )
    };
    let db = &stall.test.app.db;
    let written = join_all((0..20).map(|_| db.write("test.longer", longer))).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    assert_eq!(rental(&stall, id).await.duration_ms, 620_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_on_sqlite() {
    no_write_is_lost(TestApp::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_on_postgres() {
    no_write_is_lost(TestApp::on_postgres().await).await;
}

/// A facilitator that never gives a clear answer.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Facilitator for Silent {
    async fn verify(&self, _: &SettleRequest) -> VerifyOutcome {
        let detail = "secret of the inside".to_owned();
        VerifyOutcome::Unknown { detail }
    }

    async fn settle(&self, _: &SettleRequest) -> SettleOutcome {
        panic!("nothing was verified")
    }

    async fn supports(&self, _: &'static Network) -> Support {
        Support::Yes
    }

    fn name(&self) -> &'static str {
        "silent"
    }
}

fn silent(stall: &Stall) -> Purchases {
    let own = &stall.test.app.purchases;
    Purchases {
        db: own.db.clone(),
        routes: own.routes.through(&(Arc::new(Silent) as Arc<_>)),
        rates: Arc::clone(&own.rates),
        payees: own.payees.clone(),
        rules: own.rules,
        public_url: own.public_url.clone(),
        clock: Arc::clone(&own.clock),
        ids: Arc::clone(&own.ids),
    }
}

/// Presents a signed request to `purchases` as the router would; the payment as far as it came.
async fn present(
    stall: &Stall,
    purchases: &Purchases,
    signed: &Signed,
    wanted: Wanted,
    hash: [u8; 32],
) -> payments::model::Payment {
    let mut headers = axum::http::HeaderMap::new();
    let value = signed.header.parse().expect("a header");
    headers.insert(header::PAYMENT_SIGNATURE, value);
    let presented = x402_http::presented(&headers);
    let presented = presented.expect("readable").expect("a payment");
    let ctx = stall.system();
    let received = purchases.receive(&ctx, presented, wanted, hash).await;
    let Ok(Reception::New(payment, _)) = received else {
        panic!("not received: {received:?}");
    };
    let driven = purchases.drive(payment.id, Until::Settled).await;
    driven.expect("driven")
}

#[tokio::test]
async fn a_payment_that_nobody_answers_expires_with_its_authorization() {
    let stall = Stall::open(TestApp::new().await).await;
    let purchases = silent(&stall);
    let paid = stall.signed(RENTALS, "", &stall.order(600), 1).await;
    let id: RentalId = id_of(&stall.pay(&paid, "").await);

    let path = format!("{RENTALS}/{id}/extend");
    let token = stall.test.app.rental_tokens.mint(id).expose().clone();
    let more = json!({"duration_seconds": 600});
    let signed = stall.signed(&path, &token, &more, 2).await;
    let hash = request_sha256("POST", &path, more.to_string().as_bytes());
    let wanted = Wanted::Extend {
        rental_id: id,
        duration_ms: 600_000,
    };
    let payment = present(&stall, &purchases, &signed, wanted, hash).await;
    assert_eq!(payment.state, PaymentState::Received);
    let error = payment.last_error.expect("a note");
    assert!(!error.contains("secret"), "{error}");

    assert_eq!(purchases.reconcile().await.expect("looked"), 0);
    stall.test.clock.advance_ms(301_000);
    assert_eq!(purchases.reconcile().await.expect("looked"), 1);
    let db = &stall.test.app.db;
    let payment = db.read("test.payment", move |tx| payments::get(tx, payment.id));
    assert_eq!(payment.await.expect("one").state, PaymentState::Expired);
    assert_eq!(rental(&stall, id).await.state, State::Active);
}

#[tokio::test]
async fn an_unpaid_reservation_gives_its_room_back() {
    let stall = Stall::open(TestApp::new().await).await;
    let purchases = silent(&stall);
    let node = stall.node;
    let free = || async {
        let db = &stall.test.app.db;
        let node = db.read("test.node", move |tx| nodes::get(tx, node)).await;
        node.expect("a node").free
    };
    let before = free().await;
    let body = stall.order(600);
    let signed = stall.signed(RENTALS, "", &body, 1).await;
    let hash = request_sha256("POST", RENTALS, body.to_string().as_bytes());
    let spec = shared::container::RawSpec {
        image: "busybox:latest".into(),
        command: Vec::new(),
        env: std::collections::BTreeMap::new(),
    };
    let spec = spec.try_into().expect("a spec");
    let (app, lease_id) = (&stall.test.app, stall.test.app.ids.mint());
    let order = RentOrder {
        offer_id: stall.offer,
        resources: shared::resources::Resources {
            ram_bytes: 256 << 20,
            cpu_millis: 100,
            ..Default::default()
        },
        duration_ms: 600_000,
        lease_id,
        spec: KeptSpec::seal(&app.agents.specs, lease_id, &spec, None).expect("sealed"),
        registry_auth: None,
        image: None,
        max_spend: None,
        auto_extend: false,
        ssh_keys: Vec::new(),
    };
    let wanted = Wanted::Rent {
        order,
        quote_id: None,
    };
    let payment = present(&stall, &purchases, &signed, wanted, hash).await;
    assert_ne!(free().await, before);
    stall.test.clock.advance_ms(121_000);
    assert_eq!(purchases.lapse().await.expect("looked"), 1);
    assert_eq!(purchases.lapse().await.expect("looked"), 0);
    let ended = rental(&stall, payment.target.rental().expect("for a rental")).await;
    assert_eq!(ended.end_reason, Some(EndReason::Expired));
    assert_eq!(free().await, before);
}

#[tokio::test]
async fn a_machine_that_fell_silent_takes_no_payment() {
    let stall = Stall::open(TestApp::new().await).await;
    let paid = stall.signed(RENTALS, "", &stall.order(600), 1).await;
    stall.be(Availability::Suspect).await;
    let answer = stall.pay(&paid, "").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.json()["code"], "capacity_gone");
}

#[tokio::test]
async fn one_key_extends_each_of_two_rentals_once() {
    let stall = Stall::open(TestApp::new().await).await;
    let consumer = stall.consumer().await;
    let mut order = stall.order(600);
    order["pay_with"] = json!("balance");
    let more = json!({"duration_seconds": 600, "pay_with": "balance"});
    let mut ids: Vec<RentalId> = Vec::new();
    for key in ["one", "two"] {
        ids.push(id_of(&stall.keyed(RENTALS, &consumer, key, &order).await));
    }
    assert_ne!(ids[0], ids[1]);
    // a repeat is answered though nothing can be placed any more
    stall.be(Availability::Offline).await;
    let again = stall.keyed(RENTALS, &consumer, "one", &order).await;
    assert_eq!(id_of::<RentalId>(&again), ids[0]);
    for id in [ids[0], ids[1], ids[0]] {
        let path = format!("{RENTALS}/{id}/extend");
        let answer = stall.keyed(&path, &consumer, "more", &more).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }
    for id in ids {
        assert_eq!(rental(&stall, id).await.duration_ms, 1_200_000);
    }
}

#[tokio::test]
async fn an_accounts_payment_is_answered_to_that_account_only() {
    let stall = Stall::open(TestApp::new().await).await;
    let consumer = stall.test.signup("c@example.org", &["consumer"]).await;
    let paid = stall.signed(RENTALS, &consumer, &stall.order(600), 1).await;
    let id: RentalId = id_of(&stall.pay(&paid, &consumer).await);
    assert_eq!(id_of::<RentalId>(&stall.pay(&paid, &consumer).await), id);
    let stranger = stall.pay(&paid, "").await;
    assert_eq!(stranger.status, StatusCode::NOT_FOUND, "{stranger:?}");
    // whoever pays without an account gets the same answer again, whatever rental's token they hold
    let paid = stall.signed(RENTALS, "", &stall.order(600), 2).await;
    let other = stall.test.app.rental_tokens.mint(id).expose().clone();
    let second: RentalId = id_of(&stall.pay(&paid, &other).await);
    assert_eq!(id_of::<RentalId>(&stall.pay(&paid, "").await), second);
}

#[tokio::test]
async fn quotes_are_counted_by_address() {
    let test = TestApp::with(|config| config.payments.quotes_per_minute_ip = 2).await;
    let stall = Stall::open(test).await;
    let order = stall.order(600);
    for status in [402, 402, 429] {
        let answer = stall.test.post(RENTALS, "", &order).await;
        assert_eq!(answer.status.as_u16(), status);
    }
    let quote = json!({
        "offer_id": stall.offer,
        "resources": order["resources"],
        "duration_seconds": 600,
    });
    let answer = stall.test.post("/api/v1/payments/quote", "", &quote).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    stall.test.clock.advance_ms(60_000);
    let answer = stall.test.post("/api/v1/payments/quote", "", &quote).await;
    assert_eq!(answer.status, StatusCode::CREATED);
}
