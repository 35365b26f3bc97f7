//! What a payer may rely on: money moves once per nonce, and only with the payer's signature.

use std::sync::Arc;

use shared::{
    clock::ManualClock,
    x402::{
        address::Address,
        client::{self, SignedPayment},
        header,
        network::{BASE_SEPOLIA, BASE_SEPOLIA_USDC},
        signature::PayerKey,
        terms::{Resource, Terms},
    },
};

use super::*;

macro_rules! suite {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (db, _folder) = crate::store::testing::sqlite().await;
                super::$case(db).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::store::testing::postgres().await).await;
            })+
        }
    };
}

suite!(
    the_same_payment_settles_once_however_often_and_late_it_is_asked,
    twenty_settles_of_one_payment_at_once_charge_once,
    a_wallet_is_never_overdrawn,
    a_refusal_for_lack_of_money_leaves_the_nonce_unused,
    another_payload_under_a_used_nonce_is_refused,
    forged_foreign_and_expired_payments_move_nothing,
);

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const PRICE: i64 = 500;

struct Chain {
    facilitator: Arc<SandboxFacilitator>,
    clock: ManualClock,
    db: Db,
}

impl Chain {
    fn granting(grant: i64, db: Db) -> Self {
        let clock = ManualClock::starting_at(START);
        let facilitator =
            SandboxFacilitator::new(db.clone(), Arc::new(clock.clone()), amount(grant), None);
        Self {
            facilitator: Arc::new(facilitator),
            clock,
            db,
        }
    }

    fn request(&self, terms: &Terms, payload: &str) -> SettleRequest {
        SettleRequest {
            reference: "pay_1".to_owned(),
            terms: terms.clone(),
            payload: header::decode(payload.as_bytes()).expect("our own header"),
            version: 2,
            asked_before: false,
        }
    }

    /// Balances of `payer` and of the payee; `None` for a wallet that was never used.
    async fn balances(&self, payer: Address) -> [Option<i64>; 2] {
        let wallets = [payer.to_string(), terms().pay_to.to_string()];
        let read = self.db.read("test.balances", move |tx| {
            let mut balances = [None; 2];
            for (balance, address) in balances.iter_mut().zip(&wallets) {
                let sql = "SELECT balance FROM sandbox_wallets WHERE address = $1";
                let rows = tx.query(sql, params![address.as_str()])?;
                *balance = rows.first().map(|row| row.int(0)).transpose()?;
            }
            Ok(balances)
        });
        read.await.expect("read")
    }

    /// No money came from anywhere but the grants.
    async fn assert_conserved(&self) {
        let read = self.db.read("test.sums", |tx| {
            let sql = "SELECT balance - granted FROM sandbox_wallets";
            let rows = tx.query(sql, &[])?;
            rows.iter().map(|row| Ok(row.int(0)?)).sum::<Result<i64>>()
        });
        assert_eq!(read.await.expect("read"), 0);
    }
}

fn amount(atomic: i64) -> Amount {
    Amount::from_atomic(atomic).expect("positive")
}

fn terms() -> Terms {
    Terms {
        network: &BASE_SEPOLIA,
        asset: BASE_SEPOLIA_USDC,
        pay_to: Address::from_bytes([0x99; 20]),
        amount: amount(PRICE),
        max_timeout_s: 300,
        resource: Resource {
            url: "http://127.0.0.1/x".into(),
            description: "x".into(),
            mime_type: "application/json".into(),
        },
    }
}

fn payer() -> PayerKey {
    PayerKey::from_bytes(&[7; 32]).expect("a key")
}

fn signed(terms: &Terms, key: &PayerKey, nonce: u8, now: Timestamp) -> SignedPayment {
    let offer = header::decode(terms.header_v2("pay", &Default::default()).as_bytes())
        .expect("our own header");
    client::choose(&offer, terms.amount)
        .and_then(|chosen| chosen.pay(key, [nonce; 32], now))
        .expect("payable")
}

fn pay(terms: &Terms, nonce: u8) -> String {
    signed(terms, &payer(), nonce, START).header_v2
}

fn transaction(outcome: SettleOutcome) -> String {
    match outcome {
        SettleOutcome::Settled { transaction, .. } => transaction,
        other => panic!("not settled: {other:?}"),
    }
}

fn refusal(outcome: SettleOutcome) -> String {
    match outcome {
        SettleOutcome::Refused { reason } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

async fn the_same_payment_settles_once_however_often_and_late_it_is_asked(db: Db) {
    let chain = Chain::granting(1_000, db);
    let request = chain.request(&terms(), &pay(&terms(), 1));
    let verified = chain.facilitator.verify(&request).await;
    assert_eq!(
        verified,
        VerifyOutcome::Valid {
            payer: payer().address()
        }
    );
    assert_eq!(chain.balances(payer().address()).await, [None, None]);
    let first = transaction(chain.facilitator.settle(&request).await);
    assert_eq!((&first[..2], first.len()), ("0x", 66));
    chain.clock.advance_ms(3_600_000);
    let again = transaction(chain.facilitator.settle(&request).await);
    assert_eq!(again, first);
    assert_eq!(
        chain.balances(payer().address()).await,
        [Some(500), Some(500)]
    );
    // in version 1, it is the same payment
    let v1 = signed(&terms(), &payer(), 1, START).header_v1;
    let again = transaction(
        chain
            .facilitator
            .settle(&chain.request(&terms(), &v1))
            .await,
    );
    assert_eq!(again, first);
    chain.assert_conserved().await;
}

async fn twenty_settles_of_one_payment_at_once_charge_once(db: Db) {
    let chain = Chain::granting(1_000, db);
    let request = chain.request(&terms(), &pay(&terms(), 1));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (facilitator, request) = (Arc::clone(&chain.facilitator), request.clone());
        tasks.spawn(async move { facilitator.settle(&request).await });
    }
    let mut hashes: Vec<String> = tasks
        .join_all()
        .await
        .into_iter()
        .map(transaction)
        .collect();
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
    assert_eq!(
        chain.balances(payer().address()).await,
        [Some(500), Some(500)]
    );
}

async fn a_wallet_is_never_overdrawn(db: Db) {
    let chain = Chain::granting(3 * PRICE + 1, db);
    let mut tasks = tokio::task::JoinSet::new();
    for nonce in 0..12 {
        let request = chain.request(&terms(), &pay(&terms(), nonce));
        let facilitator = Arc::clone(&chain.facilitator);
        tasks.spawn(async move { facilitator.settle(&request).await });
    }
    let (settled, refused): (Vec<_>, Vec<_>) = tasks
        .join_all()
        .await
        .into_iter()
        .partition(|outcome| matches!(outcome, SettleOutcome::Settled { .. }));
    assert_eq!(settled.len(), 3);
    for outcome in refused {
        assert_eq!(refusal(outcome), INSUFFICIENT_FUNDS);
    }
    assert_eq!(
        chain.balances(payer().address()).await,
        [Some(1), Some(3 * PRICE)]
    );
    chain.assert_conserved().await;
    let request = chain.request(&terms(), &pay(&terms(), 99));
    let verified = chain.facilitator.verify(&request).await;
    assert_eq!(
        verified,
        VerifyOutcome::Invalid {
            reason: INSUFFICIENT_FUNDS.into()
        }
    );
}

async fn a_refusal_for_lack_of_money_leaves_the_nonce_unused(db: Db) {
    let chain = Chain::granting(PRICE - 1, db);
    let request = chain.request(&terms(), &pay(&terms(), 1));
    assert_eq!(
        refusal(chain.facilitator.settle(&request).await),
        INSUFFICIENT_FUNDS
    );
    // somebody richer pays this payer, who can then pay with the very same payload
    let rich = SandboxFacilitator::new(
        chain.db.clone(),
        Arc::new(chain.clock.clone()),
        amount(PRICE),
        None,
    );
    let gift = Terms {
        pay_to: payer().address(),
        ..terms()
    };
    let giver = PayerKey::from_bytes(&[8; 32]).expect("a key");
    let given = signed(&gift, &giver, 1, START).header_v2;
    let outcome = rich.settle(&chain.request(&gift, &given)).await;
    assert!(
        matches!(outcome, SettleOutcome::Settled { .. }),
        "{outcome:?}"
    );
    transaction(chain.facilitator.settle(&request).await);
    chain.assert_conserved().await;
}

async fn another_payload_under_a_used_nonce_is_refused(db: Db) {
    let chain = Chain::granting(10_000, db);
    let request = chain.request(&terms(), &pay(&terms(), 1));
    transaction(chain.facilitator.settle(&request).await);
    let dearer = Terms {
        amount: amount(PRICE + 1),
        ..terms()
    };
    let other = chain.request(&dearer, &pay(&dearer, 1));
    assert_eq!(refusal(chain.facilitator.settle(&other).await), NONCE_USED);
    let verified = chain.facilitator.verify(&other).await;
    assert_eq!(
        verified,
        VerifyOutcome::Invalid {
            reason: NONCE_USED.into()
        }
    );
    assert_eq!(
        chain.balances(payer().address()).await,
        [Some(9_500), Some(500)]
    );
    // another payer may use the same number
    let stranger = PayerKey::from_bytes(&[8; 32]).expect("a key");
    let theirs = signed(&terms(), &stranger, 1, START).header_v2;
    let outcome = chain
        .facilitator
        .settle(&chain.request(&terms(), &theirs))
        .await;
    assert!(
        matches!(outcome, SettleOutcome::Settled { .. }),
        "{outcome:?}"
    );
}

async fn forged_foreign_and_expired_payments_move_nothing(db: Db) {
    let chain = Chain::granting(10_000, db);
    let good = chain.request(&terms(), &pay(&terms(), 1));
    let mut forged = good.clone();
    let stranger = PayerKey::from_bytes(&[8; 32]).expect("a key").address();
    forged.payload["payload"]["authorization"]["from"] = stranger.to_string().into();
    let foreign = chain.request(
        &Terms {
            amount: amount(PRICE * 2),
            ..terms()
        },
        &pay(&terms(), 1),
    );
    let mut unreadable = good.clone();
    unreadable.payload = serde_json::json!({"x402Version": 2});
    let mut unknown = good.clone();
    unknown.payload["accepted"]["network"] = "eip155:424242".into();
    for (request, code) in [
        (&forged, "invalid_exact_evm_signature"),
        (&foreign, "invalid_payment_requirements"),
        (&unreadable, "invalid_payload"),
        (&unknown, "invalid_network"),
    ] {
        assert_eq!(refusal(chain.facilitator.settle(request).await), code);
    }
    chain.clock.advance_ms(295_000);
    let before = "invalid_exact_evm_payload_authorization_valid_before";
    assert_eq!(refusal(chain.facilitator.settle(&good).await), before);
    let verified = chain.facilitator.verify(&good).await;
    assert_eq!(
        verified,
        VerifyOutcome::Invalid {
            reason: before.into()
        }
    );
    assert_eq!(chain.balances(payer().address()).await, [None, None]);
    assert_eq!(chain.balances(stranger).await, [None, None]);
}
