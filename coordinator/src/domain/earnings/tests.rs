//! Earnings ripen: nothing is payable before its time, all of it afterwards, once, and what is disputed can be taken back until then.

#![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]

use super::*;
use crate::{
    domain::{ledger::model::Account, settlement},
    store::Db,
    tasks::{Task as _, settlement::Settlement},
    testing::{TestApp, market::Market, on_both_stores},
};

on_both_stores!(
    an_hour_becomes_payable_after_the_window,
    a_long_rental_ripens_in_parts_while_it_runs,
    what_is_not_payable_can_be_taken_back,
    two_that_release_move_the_money_once,
);

const DAY_MS: i64 = 86_400_000;
/// What an hour of a quarter of a GiB earns.
const EARNED: i64 = 475;

/// (pending, available) of whoever provided for a rental.
async fn accounts(market: &Market, id: RentalId) -> (i64, i64) {
    let rental = market.rental(id).await;
    let read = move |tx: &mut dyn Tx| {
        let pending =
            ledger::balance(tx, rental.asset, &Account::ProviderPending(rental.provider))?;
        let account = Account::ProviderAvailable(rental.provider);
        let available = ledger::balance(tx, rental.asset, &account)?;
        Ok((pending.atomic(), available.atomic()))
    };
    let db = &market.test.app.db;
    db.read("test.accounts", read).await.expect("read")
}

/// Lets the timer come by; returns how many rentals it released something of.
async fn pass(market: &Market) -> i64 {
    let done = Settlement::new(market.test.app.clone()).activate().await;
    let done = done.expect("it runs");
    assert_eq!(done["failed"], 0, "{done}");
    market.check_books().await;
    done["earnings_released"].as_i64().expect("a number")
}

async fn releases_of(db: &Db) -> i64 {
    let count = |tx: &mut dyn Tx| {
        let sql = "SELECT COUNT(*) FROM transfers WHERE code = 'earnings_released'";
        Ok(tx.query(sql, &[])?[0].int(0)?)
    };
    db.read("test.releases", count).await.expect("read")
}

/// A rental of an hour that is over and settled.
async fn an_hour(market: &mut Market) -> RentalId {
    let id = market.run(3_600).await;
    market.pass(3_610_000).await;
    market.settle().await;
    id
}

async fn an_hour_becomes_payable_after_the_window(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = an_hour(&mut market).await;
    assert_eq!(accounts(&market, id).await, (EARNED, 0));
    assert_eq!(pass(&market).await, 0);
    // all but the last windows are old enough, the last is not
    market.test.clock.advance_ms(DAY_MS - 60_000);
    pass(&market).await;
    let (pending, available) = accounts(&market, id).await;
    assert!(pending > 0 && pending + available == EARNED, "{pending}");
    market.test.clock.advance_ms(60_000);
    assert_eq!(pass(&market).await, 1);
    assert_eq!(accounts(&market, id).await, (0, EARNED));
    // the first window's share, and the rest in one: not one for each of the sixty windows
    assert_eq!(releases_of(&market.test.app.db).await, 2);
    assert_eq!(pass(&market).await, 0);
}

async fn a_long_rental_ripens_in_parts_while_it_runs(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3 * 3_600).await;
    let rental = market.rental(id).await;
    let window_ms = 600_000;
    let mut most = 0;
    for _ in 0..16 {
        market.pass(600_000).await;
        let release = {
            let (ctx, now) = (
                market.test.app.task_context("test"),
                market.test.app.clock.now(),
            );
            move |tx: &mut dyn Tx| release(tx, &ctx, id, now.plus_ms(-window_ms))
        };
        let db = &market.test.app.db;
        db.write("test.release", release).await.expect("released");
        market.check_books().await;
        let (pending, available) = accounts(&market, id).await;
        let now = market.rental(id).await;
        let all = now.charged.minus(now.fee).expect("fits").atomic();
        assert_eq!(pending + available, all);
        assert!(available >= most);
        most = available;
    }
    assert!(rental.ended_at.is_none() && most > 0, "{most}");
    let (pending, _) = accounts(&market, id).await;
    // at most two windows' worth waits, and the billing minute
    assert!(pending <= EARNED * 22 / 60, "{pending}");
}

async fn what_is_not_payable_can_be_taken_back(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = an_hour(&mut market).await;
    let rental = market.rental(id).await;
    let ctx = market.test.app.task_context("test");
    let take = |amount: i64, key: &'static str| {
        let (ctx, payer) = (ctx.clone(), rental.payer.clone().expect("a wallet"));
        move |tx: &mut dyn Tx| {
            let (credit, cause) = (
                Account::PayerRefunds(payer.as_str().into()),
                Cause::Goodwill(id, key.to_owned()),
            );
            take_back(tx, &ctx, id, Amount::from_atomic(amount)?, credit, cause)
        }
    };
    let db = &market.test.app.db;
    let too_much = db.write("test.take", take(EARNED + 1, "a")).await;
    assert_eq!(too_much.expect_err("too much").code(), "insufficient_funds");
    db.write("test.take", take(400, "b")).await.expect("taken");
    assert_eq!(accounts(&market, id).await, (EARNED - 400, 0));
    market.check_books().await;
    market.test.clock.advance_ms(DAY_MS);
    pass(&market).await;
    assert_eq!(accounts(&market, id).await, (0, EARNED - 400));
    let too_late = db.write("test.take", take(1, "c")).await;
    assert_eq!(too_late.expect_err("too late").code(), "insufficient_funds");
    market.check_books().await;
}

async fn two_that_release_move_the_money_once(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = an_hour(&mut market).await;
    market.test.clock.advance_ms(DAY_MS);
    let turns = (0..8).map(|_| {
        let ctx = market.test.app.task_context("test");
        let release = move |tx: &mut dyn Tx| settlement::release(tx, &ctx, id, DAY_MS);
        market.test.app.db.write("test.release", release)
    });
    let outcomes = futures_util::future::join_all(turns).await;
    let released = outcomes.iter().filter(|out| matches!(out, Ok(true)));
    assert_eq!(released.count(), 1, "{outcomes:?}");
    assert_eq!(accounts(&market, id).await, (0, EARNED));
    market.check_books().await;
}
