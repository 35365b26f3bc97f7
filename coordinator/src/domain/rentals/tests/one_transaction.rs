//! A facilitator that settles several payments in one transaction: each of them is credited, and no transfer twice.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use shared::x402::{network::Network, payment::PresentedPayment};

use super::payments::{RENT, count};
use crate::{
    domain::payments::ports::{
        Chain, Facilitator, OnChain, SettleOutcome, SettleRequest, Support, VerifyOutcome,
    },
    testing::{
        TestApp,
        market::{Market, rental_of},
        on_both_stores,
        payer::{Payer, paid},
    },
};

on_both_stores!(
    two_payments_in_one_transaction_are_both_credited,
    two_payments_of_one_word_are_both_credited,
    one_transfer_is_never_credited_twice,
);

const TRANSACTION: &str = "0x00000000000000000000000000000000000000000000000000000000000000aa";

/// Settles whatever it is asked to in the same transaction.
#[derive(Debug)]
struct Batching(Arc<dyn Facilitator>);

#[async_trait]
impl Facilitator for Batching {
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome {
        self.0.verify(request).await
    }

    async fn settle(&self, request: &SettleRequest) -> SettleOutcome {
        match self.0.settle(request).await {
            SettleOutcome::Settled { .. } => SettleOutcome::Settled {
                transaction: TRANSACTION.to_owned(),
                log_index: None,
            },
            other => other,
        }
    }

    async fn supports(&self, network: &'static Network) -> Support {
        self.0.supports(network).await
    }

    fn name(&self) -> &'static str {
        "batching"
    }
}

/// A chain on which every authorization is used in that transaction: by a transfer each, or all by the same one.
#[derive(Debug)]
struct OneBlock {
    transfers: AtomicI64,
    has_one_each: bool,
}

#[async_trait]
impl Chain for OneBlock {
    async fn look(&self, request: &SettleRequest) -> OnChain {
        let presented = PresentedPayment::from_json(request.payload.clone()).expect("our own");
        assert!(presented.identity().is_some());
        let place = if self.has_one_each {
            self.transfers.fetch_add(1, Ordering::SeqCst)
        } else {
            7
        };
        OnChain::Used {
            transaction: TRANSACTION.to_owned(),
            log_index: Some(place),
            paid: true,
        }
    }
}

async fn market(test: TestApp, has_one_each: Option<bool>) -> Market {
    let route = test.app.purchases.routes.all().next().expect("a route");
    let batching = Arc::new(Batching(Arc::clone(&route.facilitator)));
    let chain = has_one_each.map(|has_one_each| {
        let transfers = AtomicI64::new(0);
        Arc::new(OneBlock {
            transfers,
            has_one_each,
        }) as Arc<dyn Chain>
    });
    Market::open(test.paid_and_seen(batching, chain)).await
}

/// Two payers pay, one after the other; the answers' states.
async fn two_pay(market: &mut Market) -> [u16; 2] {
    let order = market.order(600);
    let mut states = [0; 2];
    for (at, state) in states.iter_mut().enumerate() {
        let number = u8::try_from(at).expect("small");
        let mut payer = Payer::numbered(number + 1);
        let asked = market.test.post(RENT, "", &order).await;
        let signed = payer.sign(&asked, &market.test);
        let answer = market
            .test
            .send(paid(RENT, "", &order, &signed.header_v2))
            .await;
        *state = answer.status.as_u16();
        if *state == 201 {
            rental_of(&answer);
        }
    }
    states
}

const CREDITED: &str = "SELECT COUNT(*) FROM payments WHERE state = 'credited' AND tx_hash =
     '0x00000000000000000000000000000000000000000000000000000000000000aa'";

async fn two_payments_in_one_transaction_are_both_credited(test: TestApp) {
    let mut market = market(test, Some(true)).await;
    assert_eq!(two_pay(&mut market).await, [201, 201]);
    assert_eq!(count(&market, CREDITED).await, 2);
    let places = "SELECT COUNT(DISTINCT log_index) FROM payments";
    assert_eq!(count(&market, places).await, 2);
    market.check_books().await;
}

/// Without a chain nobody knows the place: what identifies a payment is its payer and nonce, which its token takes once.
async fn two_payments_of_one_word_are_both_credited(test: TestApp) {
    let mut market = market(test, None).await;
    assert_eq!(two_pay(&mut market).await, [201, 201]);
    assert_eq!(count(&market, CREDITED).await, 2);
    market.check_books().await;
}

async fn one_transfer_is_never_credited_twice(test: TestApp) {
    let mut market = market(test, Some(false)).await;
    let states = two_pay(&mut market).await;
    assert_eq!(states, [201, 202], "the second stays open");
    assert_eq!(count(&market, CREDITED).await, 1);
    // nor when it is taken up again
    for _ in 0..3 {
        market.test.clock.advance_ms(100_000);
        let ended = market.test.app.purchases.reconcile().await;
        assert_eq!(ended.expect("it reconciles"), 0);
    }
    assert_eq!(count(&market, CREDITED).await, 1);
    let open = "SELECT COUNT(*) FROM payments WHERE state IN ('settling', 'pending')";
    assert_eq!(count(&market, open).await, 1);
    market.check_books().await;
}
