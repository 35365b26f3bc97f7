//! Large payouts need two administrators; what the market can't end, one ends by what they found out.

use std::sync::Arc;

use super::desk::{
    ONE, admin, ask, at_once, balance, holds, id_of, now, on_network, payout, provider, until_over,
    wallet, with_plan,
};
use crate::{
    context::OpCtx,
    domain::{
        ledger::model::Account,
        payouts::{
            decisions::{self, Finding},
            model::{Kind, Payout, State},
        },
    },
    error::Result,
    store::Tx,
    testing::{TestApp, facilitator::Turn, on_both_stores},
};

on_both_stores!(
    a_large_payout_needs_two_administrators,
    a_refused_payout_goes_back,
    what_was_sent_by_hand_is_noted,
    what_is_in_doubt_is_ended_by_an_administrator,
);

async fn approve(test: &TestApp, who: &OpCtx, id: shared::id::PayoutId) -> Result<Payout> {
    let ctx = now(test, who);
    let approve = move |tx: &mut dyn Tx| decisions::approve(tx, &ctx, id, "a test");
    let approved = test.app.db.write("test.approve", approve).await;
    approved.map(|(payout, _)| payout)
}

async fn resolve(
    test: &TestApp,
    who: &OpCtx,
    id: shared::id::PayoutId,
    finding: Finding,
) -> Result<Payout> {
    let (ctx, payouts) = (now(test, who), Arc::clone(&test.app.payouts));
    let resolve = move |tx: &mut dyn Tx| {
        decisions::resolve(tx, &ctx, &payouts.postbox, id, &finding, "a test")
    };
    test.app.db.write("test.resolve", resolve).await
}

fn code(outcome: Result<Payout>) -> &'static str {
    outcome.expect_err("refused").code()
}

async fn a_large_payout_needs_two_administrators(test: TestApp) {
    let test = at_once(test, |payouts| {
        payouts.rules.approval_above = super::desk::amount(4 * ONE);
    });
    let who = provider(&test, 9 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let large = asked.expect("asked for");
    assert_eq!(large.state, State::AwaitingApproval);
    assert_eq!(test.app.payouts.pass().await.expect("a pass"), 0);
    let (first, second) = (
        admin(&test, "first@example.org").await,
        admin(&test, "second@example.org").await,
    );
    let one = approve(&test, &first, large.id).await.expect("let go");
    assert_eq!(one.state, State::AwaitingApproval);
    let twice = approve(&test, &first, large.id).await;
    assert_eq!(code(twice), "payout_approved");
    assert_eq!(code(approve(&test, &who, large.id).await), "forbidden");
    // at once, and the other's word counts once
    let (one, other) = futures_util::join!(
        approve(&test, &second, large.id),
        approve(&test, &second, large.id)
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    until_over(&test, large.id).await;
    assert_eq!(on_network(&test, wallet(9)).await, 5 * ONE);
    assert_eq!(code(approve(&test, &first, large.id).await), "payout_state");
    let small = ask(&test, &who, Kind::Earnings, 4 * ONE).await;
    assert_eq!(small.expect("asked for").state, State::Requested);
    holds(&test).await;
}

async fn a_refused_payout_goes_back(test: TestApp) {
    let test = at_once(test, |payouts| {
        payouts.rules.approval_above = super::desk::amount(ONE);
    });
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let id = asked.expect("asked for").id;
    let root = admin(&test, "root@example.org").await;
    let (ctx, payouts) = (now(&test, &root), Arc::clone(&test.app.payouts));
    let reject =
        move |tx: &mut dyn Tx| decisions::reject(tx, &ctx, &payouts.postbox, id, "looks odd");
    let refused = test.app.db.write("test.reject", reject.clone()).await;
    let refused = refused.expect("refused");
    assert_eq!(refused.state, State::Failed);
    assert_eq!(refused.note.as_deref(), Some("looks odd"));
    let again = test.app.db.write("test.reject", reject).await;
    assert_eq!(code(again), "payout_state");
    let earned = Account::ProviderAvailable(id_of(&who));
    assert_eq!(balance(&test, earned).await, 5 * ONE);
    holds(&test).await;
}

async fn what_was_sent_by_hand_is_noted(test: TestApp) {
    let test = at_once(test, |payouts| payouts.wallet = None);
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let id = asked.expect("asked for").id;
    let root = admin(&test, "root@example.org").await;
    let by_hand = Finding::Paid("0xabc".to_owned());
    let paid = resolve(&test, &root, id, by_hand.clone()).await;
    assert_eq!(paid.expect("noted").state, State::Paid);
    assert_eq!(
        code(resolve(&test, &root, id, by_hand).await),
        "payout_state"
    );
    assert_eq!(balance(&test, Account::UserHeld(id_of(&who))).await, 0);
    holds(&test).await;
}

async fn what_is_in_doubt_is_ended_by_an_administrator(test: TestApp) {
    let (test, _double) = with_plan(test, &[Turn::Unclear], false);
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let id = asked.expect("asked for").id;
    test.app.payouts.pass().await.expect("a pass");
    assert_eq!(payout(&test, id).await.state, State::Sent);
    let root = admin(&test, "root@example.org").await;
    let early = resolve(&test, &root, id, Finding::NotPaid).await;
    assert_eq!(code(early), "payout_state");
    test.clock.advance_ms(21 * 60_000);
    let back = resolve(&test, &root, id, Finding::NotPaid).await;
    assert_eq!(back.expect("given back").state, State::Failed);
    let earned = Account::ProviderAvailable(id_of(&who));
    assert_eq!(balance(&test, earned).await, 5 * ONE);
    test.app.payouts.pass().await.expect("a pass");
    assert_eq!(on_network(&test, wallet(9)).await, 0);
    holds(&test).await;
}
