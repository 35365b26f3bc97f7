//! The books under random postings, at once and one by one, and under a tampering hand.

#![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]

use std::sync::Arc;

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use shared::{id::UserId, money::Amount, time::Timestamp};

mod generated;

use super::{model::Cause, *};
use crate::{
    books,
    error::Kind,
    params,
    store::Db,
    testing::{TestApp, market::Market, on_both_stores},
};

on_both_stores!(
    random_postings_keep_the_books,
    postings_at_once_keep_the_books,
    transfers_are_append_only,
    each_tampering_is_found,
);

/// A posting between four accounts: 0 is the outside world.
#[derive(Debug, Clone)]
struct Step {
    from: u8,
    to: u8,
    amount: i64,
    cause: u8,
}

fn step() -> impl Strategy<Value = Step> {
    (0..4_u8, 0..4_u8, 0..500_i64, 0..40_u8).prop_map(|(from, to, amount, cause)| Step {
        from,
        to,
        amount,
        cause,
    })
}

fn account(number: u8, users: &[UserId; 2]) -> Account {
    match number {
        0 => Account::External("test".to_owned()),
        1 => Account::UserAvailable(users[0]),
        2 => Account::ProviderAvailable(users[1]),
        _ => Account::PlatformFees,
    }
}

async fn post_step(test: &TestApp, users: [UserId; 2], step: Step) -> Result<Posted> {
    let ctx = test.app.task_context("test");
    let posting = Posting {
        asset: Asset::USDC,
        debit: account(step.from, &users),
        credit: account(step.to, &users),
        amount: Amount::from_atomic(step.amount)?,
        cause: Cause::SandboxGrant(format!("cause-{}", step.cause)),
    };
    let db = &test.app.db;
    db.write("test.post", move |tx| post(tx, &ctx, &posting))
        .await
}

/// What a posting may come to; anything else is a bug.
fn tolerable(step: &Step, outcome: &Result<Posted>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) if error.code() == "insufficient_funds" => step.from != 0,
        // the cause was used with other figures
        Err(error) if error.kind() == Kind::Internal => true,
        // to itself
        Err(_) => step.from == step.to,
    }
}

async fn holds(db: &Db) {
    let report = books::check(db, Timestamp::from_secs(0))
        .await
        .expect("a report");
    assert!(report.holds(), "{report:#?}");
}

async fn random_postings_keep_the_books(test: TestApp) {
    let users = [test.app.ids.mint(), test.app.ids.mint()];
    let mut runner = TestRunner::deterministic();
    for _ in 0..6 {
        let steps = proptest::collection::vec(step(), 1..40)
            .new_tree(&mut runner)
            .expect("steps")
            .current();
        for step in steps {
            let again = step.clone();
            let outcome = post_step(&test, users, step.clone()).await;
            assert!(tolerable(&step, &outcome), "{step:?}: {outcome:?}");
            if outcome.is_ok() && again.amount > 0 {
                let repeated = post_step(&test, users, again).await;
                assert_eq!(repeated.ok(), Some(Posted::Before), "{step:?}");
            }
            holds(&test.app.db).await;
        }
    }
    let db = &test.app.db;
    let size = books::check(db, Timestamp::from_secs(0))
        .await
        .expect("a report")
        .size;
    assert!(size.transfers > 5, "{size:?}");
}

async fn postings_at_once_keep_the_books(test: TestApp) {
    let users = [test.app.ids.mint(), test.app.ids.mint()];
    let fund = Step {
        from: 0,
        to: 1,
        amount: 1_000,
        cause: 200,
    };
    post_step(&test, users, fund).await.expect("it is funded");
    let test = Arc::new(test);
    // 40 want 100 each of 1,000; every cause comes twice at once
    let takers = (0..80_u8).map(|number| {
        let test = Arc::clone(&test);
        tokio::spawn(async move {
            let take = Step {
                from: 1,
                to: 2 + number % 2,
                amount: 100,
                cause: number / 2,
            };
            let take = Step { to: 2, ..take };
            post_step(&test, users, take).await
        })
    });
    let mut moved = 0;
    for taken in futures_util::future::join_all(takers).await {
        match taken.expect("no panic") {
            Ok(Posted::Now) => moved += 1,
            Ok(Posted::Before) => {}
            Err(error) => assert_eq!(error.code(), "insufficient_funds", "{error}"),
        }
    }
    assert_eq!(moved, 10);
    holds(&test.app.db).await;
}

async fn transfers_are_append_only(test: TestApp) {
    let users = [test.app.ids.mint(), test.app.ids.mint()];
    let fund = Step {
        from: 0,
        to: 1,
        amount: 1_000,
        cause: 1,
    };
    post_step(&test, users, fund).await.expect("it is funded");
    for sql in [
        "UPDATE transfers SET amount = 1",
        "UPDATE transfers SET code = 'other'",
        "DELETE FROM transfers",
    ] {
        let done = test.app.db.write("test.tamper", move |tx| {
            tx.execute(sql, params![])?;
            Ok(())
        });
        let error = done.await.expect_err(sql);
        assert_eq!(error.kind(), Kind::Internal, "{sql}: {error}");
    }
    holds(&test.app.db).await;
}

/// Statement, the statement that mends it, and the invariants that must break.
const TAMPERINGS: [(&str, &str, &[&str]); 8] = [
    (
        "UPDATE accounts SET balance = balance + 1 WHERE kind = 'platform_fees'",
        "UPDATE accounts SET balance = balance - 1 WHERE kind = 'platform_fees'",
        &["I1", "I3"],
    ),
    (
        "UPDATE accounts SET balance = balance - 1 WHERE kind = 'rental_escrow'",
        "UPDATE accounts SET balance = balance + 1 WHERE kind = 'rental_escrow'",
        &["I1", "I3", "I5"],
    ),
    (
        "UPDATE rentals SET paid = paid + 1",
        "UPDATE rentals SET paid = paid - 1",
        &["I5"],
    ),
    (
        "UPDATE rentals SET billed_ms = billed_ms + 1",
        "UPDATE rentals SET billed_ms = billed_ms - 1",
        &["I6"],
    ),
    (
        "UPDATE billing_windows SET billable_ms = billable_ms - 1",
        "UPDATE billing_windows SET billable_ms = billable_ms + 1",
        &["I6"],
    ),
    (
        "UPDATE nodes SET free_ram_bytes = free_ram_bytes + 1",
        "UPDATE nodes SET free_ram_bytes = free_ram_bytes - 1",
        &["C1"],
    ),
    (
        "UPDATE payments SET state = 'rejected' WHERE state = 'credited'",
        "UPDATE payments SET state = 'credited' WHERE state = 'rejected'",
        &["I7"],
    ),
    (
        "DELETE FROM billing_windows",
        "DELETE FROM billing_windows",
        &["I6"],
    ),
];

async fn each_tampering_is_found(test: TestApp) {
    let mut market = Market::open(test).await;
    market.run(3_600).await;
    market.pass(330_000).await;
    market.check_books().await;
    let db = market.test.app.db.clone();
    let last = TAMPERINGS.len() - 1;
    for (number, (tamper, mend, expected)) in TAMPERINGS.into_iter().enumerate() {
        run(&db, tamper).await;
        let report = books::check(&db, Timestamp::from_secs(0))
            .await
            .expect("a report");
        let broken: Vec<&str> = report
            .findings
            .iter()
            .filter(|finding| !finding.broken.is_empty())
            .map(|finding| finding.invariant)
            .collect();
        for invariant in expected {
            assert!(broken.contains(invariant), "{tamper}: only {broken:?}");
        }
        if number < last {
            run(&db, mend).await;
            market.check_books().await;
        }
    }
}

async fn run(db: &Db, sql: &'static str) {
    let done = db.write("test.tamper", move |tx| Ok(tx.execute(sql, params![])?));
    let changed = done.await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert!(changed > 0, "{sql} changed nothing");
}
