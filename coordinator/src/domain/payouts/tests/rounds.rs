//! What goes out by itself: earnings by schedule, and what is left of rentals that wallets without an account paid.

use super::desk::{
    ONE, amount, at_once, balance, fund, holds, id_of, on_network, provider, wallet,
};
use crate::{
    domain::ledger::model::Account,
    tasks::{Task as _, payouts::Payouts, settlement::Settlement},
    testing::{TestApp, facilitator::Turn, market::Market, on_both_stores},
};

on_both_stores!(
    earnings_go_out_by_schedule,
    a_wallet_gets_back_what_its_rental_did_not_use,
    dust_waits_until_it_is_worth_it,
    a_refund_that_fails_is_tried_again_the_next_day,
);

async fn turn(test: &TestApp) -> serde_json::Value {
    let turn = Payouts::new(test.app.clone()).activate().await;
    turn.expect("it runs")
}

async fn earnings_go_out_by_schedule(test: TestApp) {
    let test = at_once(test, |_| ());
    let who = provider(&test, 7 * ONE, wallet(9)).await;
    let mut task = Payouts::new(test.app.clone());
    let done = task.activate().await.expect("it runs");
    assert_eq!((&done["earnings"], &done["ended"]), (&1.into(), &1.into()));
    assert_eq!(on_network(&test, wallet(9)).await, 7 * ONE);
    let earned = Account::ProviderAvailable(id_of(&who));
    fund(&test, earned.clone(), 2 * ONE, "more").await;
    let done = task.activate().await.expect("it runs");
    assert_eq!(done["earnings"], 0, "not before the next round");
    test.clock.advance_ms(86_400_000);
    let done = task.activate().await.expect("it runs");
    assert_eq!(done["earnings"], 1);
    assert_eq!(on_network(&test, wallet(9)).await, 9 * ONE);
    // less than the minimum stays
    fund(&test, earned.clone(), ONE - 1, "a little").await;
    test.clock.advance_ms(86_400_000);
    task.activate().await.expect("it runs");
    assert_eq!(balance(&test, earned).await, ONE - 1);
    holds(&test).await;
}

/// Paid by a wallet, used for a part of its time, earned and refunded: at the end the network has what the books say, to the unit.
async fn a_wallet_gets_back_what_its_rental_did_not_use(test: TestApp) {
    let test = at_once(test, |payouts| {
        payouts.rules.dust = amount(1);
        payouts.rules.minimum = amount(1);
    });
    let mut market = Market::open(test).await;
    let payer = market.payer.address().parse().expect("an address");
    let id = market.run(3_600).await;
    let paid = market.rental(id).await.paid.atomic();
    assert_eq!(on_network(&market.test, payer).await, -paid);
    market.pass(600_000).await;
    market
        .node
        .finish(id, 0, shared::wire::observed::ExitCause::Itself);
    market.pass(10_000).await;
    market.settle().await;
    let rental = market.rental(id).await;
    let back = rental.refunded.atomic();
    assert!(back > 0 && rental.settled_at.is_some(), "{rental:?}");
    let done = turn(&market.test).await;
    assert_eq!(
        (&done["refunds"], &done["ended"]),
        (&1.into(), &1.into()),
        "{done}"
    );
    assert_eq!(on_network(&market.test, payer).await, back - paid);
    let done = turn(&market.test).await;
    assert_eq!((&done["refunds"], &done["ended"]), (&0.into(), &0.into()));
    let reserves = market.test.app.payouts.reserves().await.expect("asked");
    let reserve = reserves[0].expect("a quiet moment");
    assert!(reserve.is_exact(), "{reserve:?}");
    assert_eq!(reserve.on_chain, paid - back);
    holds(&market.test).await;
    // the provider's part waits out the dispute window, and the market keeps its fee
    market.test.clock.advance_ms(86_400_000);
    let mut task = Settlement::new(market.test.app.clone());
    task.activate().await.expect("it runs");
    let earned = rental.charged.minus(rental.fee).expect("fits").atomic();
    let account = Account::ProviderAvailable(rental.provider);
    assert_eq!(balance(&market.test, account).await, earned);
    holds(&market.test).await;
}

async fn dust_waits_until_it_is_worth_it(test: TestApp) {
    let test = at_once(test, |_| ());
    let payer = wallet(9).to_string();
    let owed = Account::PayerRefunds(payer);
    fund(&test, owed.clone(), 9_999, "dust").await;
    assert_eq!(turn(&test).await["refunds"], 0);
    assert_eq!(turn(&test).await["refunds"], 0);
    fund(&test, owed.clone(), 1, "a grain").await;
    let done = turn(&test).await;
    assert_eq!((&done["refunds"], &done["ended"]), (&1.into(), &1.into()));
    assert_eq!(on_network(&test, wallet(9)).await, 10_000);
    assert_eq!(balance(&test, owed).await, 0);
    holds(&test).await;
}

async fn a_refund_that_fails_is_tried_again_the_next_day(test: TestApp) {
    let (test, double) = super::desk::with_plan(test, &[], true);
    let owed = Account::PayerRefunds(wallet(9).to_string());
    fund(&test, owed.clone(), ONE, "owed").await;
    for _ in 0..400 {
        double.plan(Turn::Refuse);
    }
    assert_eq!(turn(&test).await["refunds"], 1);
    for _ in 0..300 {
        if balance(&test, owed.clone()).await == ONE {
            break;
        }
        test.clock.advance_ms(10_000);
        assert_eq!(turn(&test).await["refunds"], 0);
    }
    assert_eq!(balance(&test, owed.clone()).await, ONE);
    assert_eq!(turn(&test).await["refunds"], 0, "not again at once");
    test.clock.advance_ms(86_400_000);
    let working = at_once(test.beside(), |_| ());
    assert_eq!(turn(&working).await["refunds"], 1);
    assert_eq!(on_network(&working, wallet(9)).await, ONE);
    holds(&working).await;
}
