//! Watching the books: nothing is said of good ones, a tampered row holds money back until it is mended, and folds mend themselves.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::{clock::Clock as _, money::Amount};

use super::{
    sweep::{self, Place},
    watch::{self, Passed},
};
use crate::{
    context::{Actor, Role},
    domain::{
        auth,
        ledger::{
            self,
            check::Finding,
            halt,
            model::{Account, Cause, Posting},
        },
    },
    params,
    store::Tx,
    tasks::{Task as _, ledger_check::LedgerCheck},
    testing::{
        TestApp,
        market::{Market, rental_of},
        on_both_stores,
        payer::paid,
    },
};

on_both_stores!(
    good_books_pass,
    a_tampered_row_holds_money_back_until_it_is_mended,
    a_pass_finds_what_was_tampered_with,
    an_old_row_is_found_by_the_sweep,
    a_late_transfer_makes_a_fold_anew_and_no_alarm,
    journals_and_the_audit_log_are_followed,
    what_the_chain_lacks_holds_money_back_at_the_second_look,
);

const RENT: &str = "/api/v1/rentals";

async fn pass(market: &Market) -> Passed {
    let now = market.test.clock.now();
    watch::pass(&market.test.app.db, now).await.expect("a pass")
}

fn broken(findings: &[Finding]) -> Vec<&'static str> {
    let broken = findings.iter().filter(|it| !it.broken.is_empty());
    broken.map(|finding| finding.invariant).collect()
}

async fn run(market: &Market, sql: &'static str) {
    let db = &market.test.app.db;
    let done = db.write("test.tamper", move |tx| Ok(tx.execute(sql, params![])?));
    let changed = done.await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert!(changed > 0, "{sql} changed nothing");
}

async fn administrator(test: &TestApp) -> String {
    let token = test.signup("root@example.org", &[]).await;
    let ctx = test.app.context(Actor::System, "test".to_owned());
    let grant = move |tx: &mut dyn Tx| {
        let email = auth::model::Email::parse("root@example.org")?;
        auth::grant(tx, &ctx, &email, Role::Admin)
    };
    let granted = test.app.db.write("test.grant", grant).await;
    granted.expect("granted");
    token
}

/// Two rentals, one running for six minutes, one over and settled.
async fn busy(test: TestApp) -> Market {
    let mut market = Market::open(test).await;
    market.run(3_600).await;
    let short = market.run(60).await;
    market.pass(360_000).await;
    market.settle().await;
    let settled = market.rental(short).await;
    assert!(settled.settled_at.is_some(), "{settled:?}");
    market
}

async fn good_books_pass(test: TestApp) {
    let mut market = busy(test).await;
    for _ in 0..3 {
        let passed = pass(&market).await;
        assert!(passed.findings.is_empty(), "{passed:#?}");
        assert!(passed.refolded == 0, "{passed:#?}");
        market.pass(120_000).await;
    }
    // everything that was is folded by now
    market.test.clock.advance_ms(3_600_000);
    assert!(pass(&market).await.findings.is_empty());
    let folds = "SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT), COUNT(*) FROM account_folds";
    let db = &market.test.app.db;
    let folded = db.read("test.folds", move |tx| {
        let rows = tx.query(folds, params![])?;
        Ok((rows[0].int(0)?, rows[0].int(1)?))
    });
    let (sum, count) = folded.await.expect("folds");
    assert_eq!(sum, 0);
    assert!(count >= 4, "{count}");
    market.check_books().await;
}

async fn a_tampered_row_holds_money_back_until_it_is_mended(test: TestApp) {
    let mut market = Market::open(test).await;
    let admin = administrator(&market.test).await;
    let consumer = market.test.signup("consumer@example.org", &[]).await;
    let id = market.run(3_600).await;
    market.pass(60_000).await;
    let order = market.order(600);
    let asked = market.test.post(RENT, "", &order).await;
    let signed = market.payer.sign(&asked, &market.test);
    run(
        &market,
        "UPDATE accounts SET balance = balance + 1 WHERE kind = 'rental_escrow'",
    )
    .await;
    let passed = watch::pass_and_act(&market.test.app).await.expect("a pass");
    assert!(broken(&passed.findings).contains(&"I3"), "{passed:#?}");
    // what would take new money in
    let mut by_balance = order.clone();
    by_balance["pay_with"] = json!("balance");
    let mut top_up = crate::testing::request(
        "POST",
        "/api/v1/balance/topups",
        &consumer,
        &json!({"amount": {"amount": "1", "currency": "USDC"}}),
    );
    top_up
        .headers_mut()
        .insert("idempotency-key", "one".parse().expect("a value"));
    let mut buy = crate::testing::request("POST", RENT, &consumer, &by_balance);
    buy.headers_mut()
        .insert("idempotency-key", "two".parse().expect("a value"));
    let other = market.test.beside();
    for refused in [
        market.test.post(RENT, "", &order).await,
        other.post(RENT, "", &order).await,
        market
            .test
            .send(paid(RENT, "", &order, &signed.header_v2))
            .await,
        market.test.send(buy).await,
        market.test.send(top_up).await,
    ] {
        assert_eq!(
            refused.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{refused:?}"
        );
        assert_eq!(refused.json()["code"], "ledger_halted", "{refused:?}");
        assert!(refused.headers.contains_key("retry-after"));
    }
    // what runs goes on, is billed, and can be stopped
    let before = market.rental(id).await;
    market.pass(120_000).await;
    let after = market.rental(id).await;
    assert!(after.charged > before.charged && after.lease_until > before.lease_until);
    let token = market.test.app.rental_tokens.mint(id).expose().clone();
    let stop = format!("{RENT}/{id}/stop");
    let stopped = market.test.post(&stop, &token, &Value::Null).await;
    assert!(stopped.status.is_success(), "{stopped:?}");
    // administrators hear of it, once
    let again = watch::pass_and_act(&market.test.app).await;
    again.expect("a pass");
    let mails = market.test.mails().await;
    let told = mails.iter().filter(|it| it.contains("don't add up"));
    assert_eq!(told.count(), 1, "{mails:?}");
    resume(&market, &admin).await;
    let order = market.order(600);
    rental_of(&market.payer.buy(&market.test, RENT, "", &order).await);
}

/// Refused while it is broken; done once it is mended; recorded.
async fn resume(market: &Market, admin: &str) {
    let path = "/api/v1/admin/ledger/resume";
    let reason = json!({"reason": "mended by hand"});
    let check = market.test.get("/api/v1/admin/ledger/check", admin).await;
    assert_eq!(check.json()["halted"]["invariant"], "I3", "{check:?}");
    let refused = market.test.post(path, admin, &reason).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    assert_eq!(refused.json()["code"], "books_broken");
    run(
        market,
        "UPDATE accounts SET balance = balance - 1 WHERE kind = 'rental_escrow'",
    )
    .await;
    let resumed = market.test.post(path, admin, &reason).await;
    assert_eq!(resumed.status, StatusCode::OK, "{resumed:?}");
    assert_eq!(resumed.json()["halted"], Value::Null);
    let audit = market
        .test
        .get("/api/v1/admin/audit?action=ledger.resumed", admin)
        .await;
    assert_eq!(
        audit.json()["items"][0]["reason"],
        "mended by hand",
        "{audit:?}"
    );
}

/// Statement, the statement that mends it, and an invariant that must break.
const TAMPERINGS: [(&str, &str, &str); 8] = [
    (
        "UPDATE accounts SET balance = balance + 7 WHERE kind = 'platform_fees'",
        "UPDATE accounts SET balance = balance - 7 WHERE kind = 'platform_fees'",
        "I3",
    ),
    (
        "UPDATE accounts SET asset = 'XXXX' WHERE kind = 'platform_fees'",
        "UPDATE accounts SET asset = 'USDC' WHERE kind = 'platform_fees'",
        "I1",
    ),
    (
        "UPDATE rentals SET paid = paid + 1 WHERE settled_at IS NOT NULL",
        "UPDATE rentals SET paid = paid - 1 WHERE settled_at IS NOT NULL",
        "I4",
    ),
    (
        "UPDATE rentals SET paid = paid + 1 WHERE settled_at IS NULL",
        "UPDATE rentals SET paid = paid - 1 WHERE settled_at IS NULL",
        "I5",
    ),
    (
        "UPDATE rentals SET billed_ms = billed_ms + 100000000 WHERE settled_at IS NULL",
        "UPDATE rentals SET billed_ms = billed_ms - 100000000 WHERE settled_at IS NULL",
        "I6",
    ),
    (
        "UPDATE rentals SET fee_bps = fee_bps + 2000",
        "UPDATE rentals SET fee_bps = fee_bps - 2000",
        "I6",
    ),
    (
        "UPDATE billing_windows SET billable_ms = billable_ms - 1",
        "UPDATE billing_windows SET billable_ms = billable_ms + 1",
        "I6",
    ),
    (
        "UPDATE payments SET state = 'rejected' WHERE state = 'credited'",
        "UPDATE payments SET state = 'credited' WHERE state = 'rejected'",
        "I7",
    ),
];

async fn a_pass_finds_what_was_tampered_with(test: TestApp) {
    let market = busy(test).await;
    // the clock stands still, so that each pass looks at the same
    for (tamper, mend, expected) in TAMPERINGS {
        let start = "UPDATE ledger_positions SET checked_at = 0";
        run(&market, start).await;
        run(&market, tamper).await;
        let passed = pass(&market).await;
        assert!(
            broken(&passed.findings).contains(&expected),
            "{tamper}: {passed:#?}"
        );
        run(&market, mend).await;
        run(&market, start).await;
        let passed = pass(&market).await;
        assert!(passed.findings.is_empty(), "{mend}: {passed:#?}");
    }
}

async fn swept(market: &Market) -> Vec<&'static str> {
    let (mut found, mut place) = (Vec::new(), Some(Place::beginning()));
    while let Some(at) = place {
        let db = &market.test.app.db;
        let page = db.read("test.sweep", move |tx| sweep::page(tx, &at));
        let (findings, next) = page.await.expect("a page");
        found.extend(broken(&findings));
        place = next;
    }
    found
}

async fn an_old_row_is_found_by_the_sweep(test: TestApp) {
    let market = busy(test).await;
    market.test.clock.advance_ms(3_600_000);
    pass(&market).await;
    assert!(swept(&market).await.is_empty());
    for (tamper, mend, expected) in TAMPERINGS {
        if expected == "I1" {
            // of a stretch only: all accounts of an asset still sum up
            continue;
        }
        run(&market, tamper).await;
        let found = swept(&market).await;
        assert!(found.contains(&expected), "{tamper}: {found:?}");
        run(&market, mend).await;
    }
    assert!(swept(&market).await.is_empty());
}

async fn a_late_transfer_makes_a_fold_anew_and_no_alarm(test: TestApp) {
    let market = busy(test).await;
    let early = market.test.app.task_context("late");
    market.test.clock.advance_ms(3_600_000);
    pass(&market).await;
    // a transaction that began an hour ago commits now
    let user = market.test.app.ids.mint();
    let (db, late) = (&market.test.app.db, early);
    let asset = Amount::from_atomic(5).expect("an amount");
    let rental = market_asset(&market).await;
    let posted = db.write("test.post", move |tx| {
        let posting = Posting {
            asset: rental,
            debit: Account::External("sandbox".to_owned()),
            credit: Account::UserAvailable(user),
            amount: asset,
            cause: Cause::SandboxGrant("late".to_owned()),
        };
        ledger::post(tx, &late, &posting)
    });
    posted.await.expect("posted");
    // nobody looks at it until something else touches its account
    let now = market.test.app.task_context("now");
    let posted = db.write("test.post", move |tx| {
        let posting = Posting {
            asset: rental,
            debit: Account::External("sandbox".to_owned()),
            credit: Account::UserAvailable(user),
            amount: asset,
            cause: Cause::SandboxGrant("in time".to_owned()),
        };
        ledger::post(tx, &now, &posting)
    });
    posted.await.expect("posted");
    market.test.clock.advance_ms(1);
    let passed = pass(&market).await;
    assert!(passed.findings.is_empty(), "{passed:#?}");
    assert!(passed.refolded >= 1, "{passed:#?}");
    let passed = pass(&market).await;
    assert_eq!(
        (passed.refolded, passed.findings.len()),
        (0, 0),
        "{passed:#?}"
    );
}

async fn market_asset(market: &Market) -> shared::money::Asset {
    let db = &market.test.app.db;
    let code = db.read("test.asset", |tx| {
        let rows = tx.query("SELECT asset FROM rentals LIMIT 1", params![])?;
        Ok(rows[0].text(0)?.to_owned())
    });
    let code = code.await.expect("an asset");
    shared::money::Asset::from_code(&code).expect("a known asset")
}

async fn journals_and_the_audit_log_are_followed(test: TestApp) {
    let market = busy(test).await;
    assert!(pass(&market).await.findings.is_empty());
    let start = "UPDATE ledger_positions SET checked_at = 0";
    run(&market, start).await;
    run(
        &market,
        "UPDATE usage_records SET body = REPLACE(body, '\"seq\":2,', '\"seq\":2000,') WHERE seq = 2",
    )
    .await;
    assert_eq!(broken(&pass(&market).await.findings), ["I12"]);
    run(&market, start).await;
    run(
        &market,
        "UPDATE usage_records SET body = REPLACE(body, '\"seq\":2000,', '\"seq\":2,') WHERE seq = 2",
    )
    .await;
    assert!(pass(&market).await.findings.is_empty());
    // a head that doesn't fit its log: the log was cut off, or written past us
    administrator(&market.test).await;
    run(
        &market,
        "UPDATE audit_head SET hash = (SELECT prev_hash FROM audit_log WHERE seq = 1)",
    )
    .await;
    assert_eq!(broken(&pass(&market).await.findings), ["I12"]);
}

async fn what_the_chain_lacks_holds_money_back_at_the_second_look(test: TestApp) {
    let market = busy(test).await;
    let app = &market.test.app;
    let mut watching = LedgerCheck::new(std::sync::Arc::clone(app));
    let look = watching.activate().await.expect("it looks");
    assert_eq!(look["reserves"], "hold", "{look}");
    run(&market, "UPDATE sandbox_wallets SET balance = 0").await;
    let halted = async || {
        app.db
            .read("test.halted", halt::current)
            .await
            .expect("read")
    };
    let look = watching.activate().await.expect("it looks");
    assert!(look["reserves"][0].is_string(), "{look}");
    assert!(halted().await.is_none(), "a node may lag behind");
    watching.activate().await.expect("it looks");
    let halted = halted().await.expect("money is held back");
    assert_eq!(halted.invariant, "I8");
}
