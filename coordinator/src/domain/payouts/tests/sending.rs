//! Sent once: whatever the facilitator does, wherever the process dies, and however many coordinators work on it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::join_all;

use super::desk::{
    ONE, ask, at_once, balance, fund, holds, id_of, is_paid, on_network, payout, person, provider,
    until_over, wallet, with_plan,
};
use crate::{
    domain::{
        ledger::model::Account,
        payouts::model::{Kind, SIGNATURES_MAX, State},
    },
    testing::{TestApp, facilitator::Turn, on_both_stores},
};

on_both_stores!(
    earnings_reach_the_address,
    a_balance_is_withdrawn,
    whatever_the_facilitator_does_it_is_paid_once,
    without_a_chain_it_is_paid_once_by_the_facilitators_word,
    a_process_that_dies_leaves_it_to_the_next,
    what_is_refused_until_it_expires_goes_back,
    what_can_not_be_proven_unpaid_stays,
    two_coordinators_send_once,
    without_a_key_it_waits_for_the_operator,
);

/// How long a test waits for a call that hangs: its process is dead then.
const DEAD_AFTER: Duration = Duration::from_millis(400);

async fn earnings_reach_the_address(test: TestApp) {
    let test = at_once(test, |_| ());
    let who = provider(&test, 7 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let asked = asked.expect("asked for");
    let (user, earned) = (id_of(&who), Account::ProviderAvailable(id_of(&who)));
    assert_eq!(asked.state, State::Requested);
    assert_eq!(balance(&test, Account::UserHeld(user)).await, 5 * ONE);
    assert_eq!(balance(&test, earned.clone()).await, 2 * ONE);
    holds(&test).await;
    assert_eq!(test.app.payouts.pass().await.expect("a pass"), 1);
    let paid = payout(&test, asked.id).await;
    assert!(is_paid(&paid), "{paid:?}");
    assert_eq!(on_network(&test, wallet(9)).await, 5 * ONE);
    assert_eq!(balance(&test, Account::UserHeld(user)).await, 0);
    assert_eq!(balance(&test, Account::PayoutClearing).await, 0);
    let outside = Account::External(paid.network.clone());
    assert_eq!(balance(&test, outside).await, 5 * ONE);
    assert_eq!(test.app.payouts.pass().await.expect("a pass"), 0);
    assert_eq!(on_network(&test, wallet(9)).await, 5 * ONE);
    holds(&test).await;
}

async fn a_balance_is_withdrawn(test: TestApp) {
    let test = at_once(test, |_| ());
    let who = person(&test, "consumer@example.org", &["consumer"]).await;
    let available = Account::UserAvailable(id_of(&who));
    fund(&test, available.clone(), 3 * ONE, "money").await;
    super::desk::name_address(&test, &who, wallet(8))
        .await
        .expect("an address");
    let too_much = ask(&test, &who, Kind::Withdrawal, 4 * ONE).await;
    assert_eq!(too_much.expect_err("too much").code(), "insufficient_funds");
    let asked = ask(&test, &who, Kind::Withdrawal, 2 * ONE).await;
    until_over(&test, asked.expect("asked for").id).await;
    assert_eq!(on_network(&test, wallet(8)).await, 2 * ONE);
    assert_eq!(balance(&test, available).await, ONE);
    holds(&test).await;
}

/// A payout under one plan, to its end.
async fn under(test: TestApp, plan: &[Turn], chain: bool) -> TestApp {
    let (test, double) = with_plan(test, plan, chain);
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let id = asked.expect("asked for").id;
    for _ in plan {
        // a call that hangs is a process that died there
        let pass = tokio::time::timeout(DEAD_AFTER, test.app.payouts.pass());
        if let Ok(done) = pass.await {
            done.expect("a pass");
        }
        holds(&test).await;
        // whoever began is left alone with it for a while
        test.clock.advance_ms(80_000);
    }
    let paid = until_over(&test, id).await;
    assert_eq!(paid.state, State::Paid, "{plan:?}: {paid:?}");
    assert!(double.settles.load(Ordering::SeqCst) >= 1);
    assert_eq!(on_network(&test, wallet(9)).await, 5 * ONE, "{plan:?}");
    assert_eq!(balance(&test, Account::PayoutClearing).await, 0);
    holds(&test).await;
    test
}

const PLANS: [&[Turn]; 7] = [
    &[Turn::Unclear],
    &[Turn::UnclearAfterSettle],
    &[Turn::Refuse],
    &[Turn::HangInSettle],
    &[Turn::HangAfterSettle],
    &[Turn::Refuse, Turn::UnclearAfterSettle],
    &[Turn::Unclear, Turn::HangInSettle, Turn::HangAfterSettle],
];

async fn whatever_the_facilitator_does_it_is_paid_once(test: TestApp) {
    let (last, first) = PLANS.split_last().expect("some");
    let test = under(test, last, true).await;
    drop(test);
    for plan in first {
        under(TestApp::new().await, plan, true).await;
    }
}

async fn without_a_chain_it_is_paid_once_by_the_facilitators_word(test: TestApp) {
    let (last, first) = PLANS.split_last().expect("some");
    let test = under(test, last, false).await;
    drop(test);
    for plan in first {
        under(TestApp::new().await, plan, false).await;
    }
}

/// It died after it had made it durable that it asks: nobody knows whether it did.
async fn a_process_that_dies_leaves_it_to_the_next(test: TestApp) {
    for settled in [false, true] {
        let turn = if settled {
            Turn::HangAfterSettle
        } else {
            Turn::HangInSettle
        };
        let fresh = if settled {
            TestApp::new().await
        } else {
            test.beside()
        };
        let (dying, double) = with_plan(fresh, &[turn], true);
        let who = provider(&dying, 5 * ONE, wallet(9)).await;
        let asked = ask(&dying, &who, Kind::Earnings, 5 * ONE).await;
        let id = asked.expect("asked for").id;
        let pass = tokio::time::timeout(DEAD_AFTER, dying.app.payouts.pass());
        assert!(pass.await.is_err(), "it hangs");
        assert_eq!(payout(&dying, id).await.state, State::Sending);
        assert_eq!(double.settles.load(Ordering::SeqCst), 1);
        holds(&dying).await;
        // another one comes up, and leaves it alone until its time
        let next = at_once(dying.beside(), |_| ());
        assert_eq!(next.app.payouts.pass().await.expect("a pass"), 0);
        next.clock.advance_ms(80_000);
        assert_eq!(next.app.payouts.pass().await.expect("a pass"), 1);
        let paid = payout(&next, id).await;
        assert!(is_paid(&paid), "{paid:?}");
        assert_eq!(on_network(&next, wallet(9)).await, 5 * ONE);
        holds(&next).await;
    }
}

async fn what_is_refused_until_it_expires_goes_back(test: TestApp) {
    let plan = vec![Turn::Refuse; 400];
    let (test, _double) = with_plan(test, &plan, true);
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let failed = until_over(&test, asked.expect("asked for").id).await;
    assert_eq!(failed.state, State::Failed, "{failed:?}");
    assert_eq!(failed.signatures, SIGNATURES_MAX);
    let note = failed.note.expect("why");
    assert!(note.contains("insufficient_funds"), "{note}");
    let earned = Account::ProviderAvailable(id_of(&who));
    assert_eq!(balance(&test, earned).await, 5 * ONE);
    assert_eq!(on_network(&test, wallet(9)).await, 0);
    holds(&test).await;
    let mails = test.mails().await.join("\n");
    assert!(mails.contains("A payout failed"), "{mails}");
    // what went back may be asked for again on the same day
    let again = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    assert!(again.is_ok(), "{again:?}");
}

async fn what_can_not_be_proven_unpaid_stays(test: TestApp) {
    let plan = vec![Turn::Unclear; 400];
    let (test, _double) = with_plan(test, &plan, false);
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let id = asked.expect("asked for").id;
    for _ in 0..40 {
        test.app.payouts.pass().await.expect("a pass");
        test.clock.advance_ms(60_000);
    }
    let open = payout(&test, id).await;
    assert!(open.state.is_in_flight(), "{open:?}");
    assert!(open.doubtful);
    assert_eq!(balance(&test, Account::PayoutClearing).await, 5 * ONE);
    holds(&test).await;
}

async fn two_coordinators_send_once(test: TestApp) {
    let (test, double) = with_plan(test, &[], true);
    let who = provider(&test, 6 * ONE, wallet(9)).await;
    let mut asked = Vec::new();
    for _ in 0..3 {
        let one = ask(&test, &who, Kind::Earnings, 2 * ONE).await;
        asked.push(one.expect("asked for").id);
    }
    let facilitator = Arc::clone(&double);
    let other = at_once(test.beside(), |payouts| {
        payouts.rails[0].facilitator = facilitator;
    });
    let turns = (0..6).flat_map(|_| [&test, &other]);
    let passes = join_all(turns.map(|one| one.app.payouts.pass())).await;
    for pass in &passes {
        assert!(pass.is_ok(), "{passes:?}");
    }
    for id in asked {
        let paid = until_over(&test, id).await;
        assert!(is_paid(&paid), "{paid:?}");
        assert_eq!(paid.attempts, 1, "{paid:?}");
    }
    assert_eq!(double.settles.load(Ordering::SeqCst), 3);
    assert_eq!(on_network(&test, wallet(9)).await, 6 * ONE);
    holds(&test).await;
}

async fn without_a_key_it_waits_for_the_operator(test: TestApp) {
    let test = at_once(test, |payouts| payouts.wallet = None);
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let asked = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    let id = asked.expect("asked for").id;
    assert_eq!(test.app.payouts.pass().await.expect("a pass"), 0);
    assert_eq!(payout(&test, id).await.state, State::Requested);
    // the key is there later
    let later = at_once(test, |_| ());
    assert_eq!(later.app.payouts.pass().await.expect("a pass"), 1);
    holds(&later).await;
}
