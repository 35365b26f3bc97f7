//! A market from which money goes out: people with balances and addresses, administrators, a facilitator that can fail.

use std::sync::Arc;

use shared::{
    id::{PayoutId, UserId},
    money::{Amount, Asset, Money},
    x402::{address::Address, signature::PayerKey},
};

use crate::{
    books,
    context::{Actor, OpCtx, Role},
    domain::{
        auth::{self, model::Email},
        ledger::{
            self,
            model::{Account, Cause, Posting},
        },
        payouts::{
            self, address,
            driver::Payouts,
            model::{Kind, Payout, State},
        },
    },
    error::Result,
    store::Tx,
    testing::{TestApp, facilitator::Double, facilitator::Turn},
};

/// Atomic units of a whole one.
pub(super) const ONE: i64 = 1_000_000;

/// What is in play money here.
pub(super) fn asset(test: &TestApp) -> Asset {
    test.app.payouts.rails[0].asset
}

pub(super) fn amount(atomic: i64) -> Amount {
    Amount::from_atomic(atomic).expect("positive")
}

/// The address of a number.
pub(super) fn wallet(number: u8) -> Address {
    PayerKey::from_bytes(&[number; 32])
        .expect("a key")
        .address()
}

/// Changes of address hold at once; and whatever else is wanted.
pub(super) fn at_once(test: TestApp, change: impl FnOnce(&mut Payouts)) -> TestApp {
    test.paying_out(|payouts| {
        payouts.rules.address_hold_ms = 0;
        change(payouts);
    })
}

/// With a facilitator that does as planned; with what shows it, or without.
pub(super) fn with_plan(test: TestApp, plan: &[Turn], chain: bool) -> (TestApp, Arc<Double>) {
    let double = Double::new(&test.app.payouts.rails[0].facilitator, plan);
    let facilitator = Arc::clone(&double);
    let test = at_once(test, |payouts| {
        let rail = &mut payouts.rails[0];
        rail.facilitator = facilitator;
        if !chain {
            rail.chain = None;
        }
    });
    (test, double)
}

/// Somebody who is signed in, at the moment that it is.
pub(super) async fn person(test: &TestApp, email: &str, roles: &[&str]) -> OpCtx {
    let token = test.signup(email, roles).await;
    let user = auth::authenticate(&test.app, &token).await.expect("user");
    test.app.context(Actor::User(user), "test".to_owned())
}

/// The same, later.
pub(super) fn now(test: &TestApp, who: &OpCtx) -> OpCtx {
    test.app.context(who.actor.clone(), "test".to_owned())
}

pub(super) fn id_of(who: &OpCtx) -> UserId {
    who.user().expect("a person").id
}

/// An administrator.
pub(super) async fn admin(test: &TestApp, email: &str) -> OpCtx {
    let mut who = person(test, email, &[]).await;
    let (ctx, parsed) = (
        test.app.task_context("test"),
        Email::parse(email).expect("fine"),
    );
    let grant = move |tx: &mut dyn Tx| auth::grant(tx, &ctx, &parsed, Role::Admin);
    test.app
        .db
        .write("test.grant", grant)
        .await
        .expect("granted");
    if let Actor::User(user) = &mut who.actor {
        user.roles.insert(Role::Admin);
    }
    who
}

/// Gives an account money, as if it came by the network.
pub(super) async fn fund(test: &TestApp, account: Account, atomic: i64, key: &str) {
    let (ctx, asset) = (test.app.task_context("test"), asset(test));
    let posting = Posting {
        asset,
        debit: Account::External("sandbox".to_owned()),
        credit: account,
        amount: amount(atomic),
        cause: Cause::SandboxGrant(key.to_owned()),
    };
    let post = move |tx: &mut dyn Tx| ledger::post(tx, &ctx, &posting);
    test.app.db.write("test.fund", post).await.expect("funded");
}

/// A provider who earned so much and is paid at an address.
pub(super) async fn provider(test: &TestApp, atomic: i64, to: Address) -> OpCtx {
    let who = person(test, "provider@example.org", &["provider"]).await;
    fund(
        test,
        Account::ProviderAvailable(id_of(&who)),
        atomic,
        "earned",
    )
    .await;
    name_address(test, &who, to).await.expect("an address");
    who
}

pub(super) async fn name_address(
    test: &TestApp,
    who: &OpCtx,
    to: Address,
) -> Result<address::Destination> {
    let (ctx, payouts) = (now(test, who), Arc::clone(&test.app.payouts));
    let change = move |tx: &mut dyn Tx| {
        let hold_ms = payouts.rules.address_hold_ms;
        address::change(tx, &ctx, &payouts.postbox, to, hold_ms)
    };
    test.app.db.write("test.address", change).await
}

/// Asks for a payout as a person does.
pub(super) async fn ask(test: &TestApp, who: &OpCtx, kind: Kind, atomic: i64) -> Result<Payout> {
    let (ctx, payouts) = (now(test, who), Arc::clone(&test.app.payouts));
    let money = Money {
        amount: amount(atomic),
        currency: asset(test),
    };
    let ask = move |tx: &mut dyn Tx| {
        let way = payouts.rails[0].way();
        let checks = (&payouts.kyc, &*payouts.postbox);
        payouts::ask(tx, &ctx, (&payouts.rules, &way), checks, kind, &money)
    };
    test.app.db.write("test.ask", ask).await
}

pub(super) async fn payout(test: &TestApp, id: PayoutId) -> Payout {
    let find = move |tx: &mut dyn Tx| payouts::find(tx, id);
    test.app.db.read("test.payout", find).await.expect("found")
}

pub(super) async fn balance(test: &TestApp, account: Account) -> i64 {
    let asset = asset(test);
    let read = move |tx: &mut dyn Tx| ledger::standing(tx, asset, &account);
    test.app.db.read("test.balance", read).await.expect("read")
}

/// What a wallet has in the sandbox's network.
pub(super) async fn on_network(test: &TestApp, of: Address) -> i64 {
    let sandbox = TestApp::beside(test);
    let rail = sandbox.app.payouts.rails[0].clone();
    let chain = rail.chain.expect("the sandbox shows its tables");
    let has = chain.balance(rail.network, &rail.token, &of).await;
    has.expect("it answers")
}

/// Lets the market send what is due again and again, time passing, until a payout is over.
pub(super) async fn until_over(test: &TestApp, id: PayoutId) -> Payout {
    for _ in 0..400 {
        let found = payout(test, id).await;
        if found.state.is_final() {
            return found;
        }
        test.app.payouts.pass().await.expect("a pass");
        test.clock.advance_ms(10_000);
    }
    panic!("it doesn't end: {:?}", payout(test, id).await)
}

/// The books add up, and a payout that was paid has left once.
pub(super) async fn holds(test: &TestApp) {
    let report = books::check(&test.app.db, test.app.clock.now())
        .await
        .expect("a report");
    assert!(report.holds(), "{report:#?}");
}

pub(super) fn is_paid(payout: &Payout) -> bool {
    payout.state == State::Paid && payout.tx_hash.is_some()
}
