//! Documents on both databases: they say what the ledger did, their numbers have no gaps, whoever issues and whoever dies meanwhile;
//! statements begin and end with the ledger's balances, and a closed month never changes.

#![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]

use axum::http::StatusCode;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use shared::{clock::Clock as _, money::Amount, wire::observed::ExitCause};

use super::{statement::Month, *};
use crate::{
    context::{Role, User},
    domain::{
        admin::{self, Refund},
        disputes::{self, Report, model::Reason, model::Wanted},
        ledger::{
            self,
            check::Finding,
            model::{Cause, Posting},
        },
        payments::idempotency::IdempotencyKey,
    },
    params,
    testing::{
        TestApp,
        market::{Market, rental_of},
        on_both_stores,
    },
};

on_both_stores!(
    a_settled_rental_has_one_invoice_that_says_what_the_ledger_did,
    documents_and_ledger_agree_whatever_happens,
    two_coordinators_issue_at_once_without_a_gap,
    what_dies_before_its_commit_leaves_no_gap,
    a_closed_month_never_changes
);

fn rules(tax_bps: u32) -> Rules {
    Rules {
        tax_bps,
        ..Rules {
            issuer: model::Issuer {
                name: "A market".to_owned(),
                address: String::new(),
                tax_id: String::new(),
            },
            tax_name: "VAT".to_owned(),
            tax_bps: 0,
        }
    }
}

async fn sign_in(test: &TestApp, email: &str) -> String {
    let body = json!({"email": email, "password": "a long password"});
    let answer = test.post("/api/v1/auth/login", "", &body).await;
    let token = answer.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("{answer:?}"))
}

async fn check(test: &TestApp) {
    let read = test.app.db.read("test.check", check::check);
    let finding: Finding = read.await.expect("checked");
    assert!(finding.broken.is_empty(), "{finding:#?}");
}

async fn issue(test: &TestApp, id: RentalId) -> Vec<Invoice> {
    let (ctx, rules) = (test.app.task_context("test"), rules(1_900));
    let write = test
        .app
        .db
        .write("test.issue", move |tx| document(tx, &ctx, &rules, id));
    write.await.expect("issued")
}

async fn rented(market: &mut Market, consumer: &str, seconds: i64) -> RentalId {
    let order = market.order(seconds);
    let bought = market
        .payer
        .buy(&market.test, "/api/v1/rentals", consumer, &order);
    let id = rental_of(&bought.await);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    id
}

async fn a_settled_rental_has_one_invoice_that_says_what_the_ledger_did(test: TestApp) {
    let consumer = test.signup("consumer@example.org", &["consumer"]).await;
    let mut market = Market::open(test).await;
    let id = rented(&mut market, &consumer, 300).await;
    let path = format!("/api/v1/rentals/{id}/invoice");
    let early = market.test.get(&path, &consumer).await;
    assert_eq!(early.json()["code"], "invoice_not_issued", "{early:?}");
    market.pass(320_000).await;
    market.settle().await;
    let answer = market.test.get(&path, &consumer).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let invoice = answer.json();
    let rental = market.rental(id).await;
    let total: Amount = invoice["total"]["amount"]
        .as_str()
        .expect("a total")
        .parse()
        .expect("an amount");
    assert_eq!(total, rental.charged, "{invoice}");
    assert_eq!(invoice["number"], "RM-2027-000001", "{invoice}");
    assert_eq!(invoice["payer"]["email"], "consumer@example.org");
    assert_eq!(invoice["rented"]["billed_ms"], rental.billed_ms);
    // the same again, by its token, by its provider without the payer, and by nobody else
    let token = market.test.app.rental_tokens.mint(id).expose().clone();
    assert_eq!(market.test.get(&path, &token).await.json(), invoice);
    let id_of = invoice["id"].as_str().expect("an id");
    let path = format!("/api/v1/invoices/{id_of}");
    let provider = sign_in(&market.test, "provider@example.org").await;
    let earned = market.test.get(&path, &provider).await.json();
    assert!(
        earned["payer"].is_null() && earned["prepaid"].is_null(),
        "{earned}"
    );
    assert_eq!(earned["provider_share"], invoice["provider_share"]);
    let other = market.test.signup("other@example.org", &["consumer"]).await;
    assert_eq!(
        market.test.get(&path, &other).await.status,
        StatusCode::NOT_FOUND
    );
    // its transfers add up to it
    let (mut sum, mut cursor) = (0, String::new());
    loop {
        let page = format!("{path}/transfers?limit=7{cursor}");
        let page = market.test.get(&page, &consumer).await.json();
        for item in page["items"].as_array().expect("items") {
            let amount: Amount = item["amount"]
                .as_str()
                .expect("text")
                .parse()
                .expect("an amount");
            sum += amount.atomic();
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(sum, total.atomic());
    let csv = market
        .test
        .get(&format!("{path}?format=csv"), &consumer)
        .await;
    let text = String::from_utf8(csv.body.to_vec()).expect("text");
    assert!(
        text.contains(&format!("total,0,USDC,{total},,,,,,,\r\n")),
        "{text}"
    );
    for (path, shown) in [
        (format!("/invoices/{id_of}"), total.to_string()),
        ("/statements/2027-01".to_owned(), "Statement".to_owned()),
    ] {
        let page = market.test.get(&path, &consumer).await;
        let html = String::from_utf8(page.body.to_vec()).expect("text");
        assert!(
            page.status == StatusCode::OK && html.contains(&shown),
            "{html}"
        );
        let nobody = market.test.get(&path, "").await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    }
    let id: InvoiceId = id_of.parse().expect("an id");
    for sql in [
        "UPDATE invoices SET total = 0 WHERE id = $1",
        "DELETE FROM invoices WHERE id = $1",
        "DELETE FROM invoice_transfers WHERE invoice_id = $1",
    ] {
        let change = move |tx: &mut dyn Tx| Ok(tx.execute(sql, params![id])?);
        assert!(
            market
                .test
                .app
                .db
                .write("test.change", change)
                .await
                .is_err(),
            "{sql}"
        );
    }
    check(&market.test).await;
    market.check_books().await;
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Pass(u8),
    Report,
    Decide(u8),
    Goodwill(u8),
    End,
    Settle,
    Issue,
    Extend,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => (1..20_u8).prop_map(Turn::Pass),
        1 => Just(Turn::Report),
        2 => (0..=100_u8).prop_map(Turn::Decide),
        2 => (1..=60_u8).prop_map(Turn::Goodwill),
        1 => Just(Turn::End),
        2 => Just(Turn::Settle),
        2 => Just(Turn::Issue),
        1 => Just(Turn::Extend),
    ]
}

/// The same at another moment.
fn at(ctx: &OpCtx, now: shared::time::Timestamp) -> OpCtx {
    let mut moved = ctx.clone();
    moved.now = now;
    moved
}

/// An administrator, as a context.
async fn admin(test: &TestApp) -> OpCtx {
    let body = json!({"email": "admin@example.org", "password": "a long password"});
    let answer = test.post("/api/v1/auth/signup", "", &body).await;
    let user = answer.json()["user"]["id"].as_str().map(str::to_owned);
    let now = test.clock.now();
    let user = User {
        id: user.expect("an id").parse().expect("an id"),
        roles: [Role::Admin].into(),
        session: test.app.ids.mint(),
        proven_at: now,
    };
    test.app.context(Actor::User(user), "test".to_owned())
}

/// Does one thing; what the state of things doesn't allow is refused, and changes nothing.
async fn take(market: &mut Market, admin: &OpCtx, id: RentalId, turn: Turn, count: usize) {
    let (db, ctx) = (
        market.test.app.db.clone(),
        at(admin, market.test.clock.now()),
    );
    let postbox = std::sync::Arc::clone(&market.test.app.postbox);
    let part = |charged: Amount, percent: u8| {
        Amount::from_atomic(charged.atomic() * i64::from(percent) / 100).expect("positive")
    };
    let rental = market.rental(id).await;
    let money = |percent| shared::money::Money {
        amount: part(rental.charged, percent),
        currency: rental.asset,
    };
    match turn {
        Turn::Pass(beats) => market.pass(i64::from(beats) * 5_000).await,
        Turn::Settle => market.settle().await,
        Turn::Issue => drop(issue(&market.test, id).await),
        Turn::End => {
            let runs = market.node.containers.get(&id).is_some_and(|container| {
                container.seen.phase == shared::wire::observed::Phase::Running
            });
            if runs {
                market.node.finish(id, 0, ExitCause::Itself);
            }
            market.pass(5_000).await;
        }
        Turn::Extend => {
            // money for a rental that may be over: it goes back, and the invoice is looked at again
            let (ctx, rules) = (
                market.test.app.task_context("test"),
                market.test.app.purchases.rules,
            );
            let paid = Amount::from_atomic(7).expect("positive");
            let extend = db.write("test.extend", move |tx| {
                let posting = Posting {
                    asset: rental.asset,
                    debit: Account::External("test".to_owned()),
                    credit: Account::RentalEscrow(id),
                    amount: paid,
                    cause: Cause::BalancePurchase(id, format!("test {count}")),
                };
                ledger::post(tx, &ctx, &posting)?;
                rentals::changes::extend(tx, &ctx, &rules, id, 0, paid).map(drop)
            });
            extend.await.expect("extended");
        }
        Turn::Report => {
            let token = market
                .test
                .app
                .context(Actor::RentalToken(id), "test".to_owned());
            let report = Report {
                rental: id,
                reason: Reason::Slow,
                statement: "a test".to_owned(),
            };
            let reported = db.write("test.report", move |tx| {
                disputes::report(tx, &token, &postbox, &report, 86_400_000)
            });
            drop(reported.await);
        }
        Turn::Decide(percent) => {
            let wanted = if percent == 100 {
                Wanted::All
            } else {
                Wanted::Exactly(money(percent))
            };
            let decided = db.write("test.decide", move |tx| {
                let mut viewer = ctx.clone();
                viewer.actor = Actor::RentalToken(id);
                let found = disputes::list(tx, &viewer, disputes::Side::Consumer, None, 1)?;
                let Some(dispute) = found.first() else {
                    return Ok(());
                };
                admin::decide_dispute(
                    tx,
                    &ctx,
                    (&postbox, &rules(1_900)),
                    dispute.id,
                    &wanted,
                    "a test",
                )
                .map(drop)
            });
            drop(decided.await);
        }
        Turn::Goodwill(percent) => {
            let mut headers = axum::http::HeaderMap::new();
            headers.insert("idempotency-key", axum::http::HeaderValue::from(count));
            let key = IdempotencyKey::read(&headers, &ctx, "refund", id.to_string().as_bytes())
                .expect("a key");
            let refund = Refund {
                rental: id,
                amount: money(percent),
                reason: "a test".to_owned(),
            };
            let given = db.write("test.goodwill", move |tx| {
                admin::refund(tx, &ctx, &rules(1_900), &refund, &key)
            });
            drop(given.await);
        }
    }
}

async fn documents_and_ledger_agree_whatever_happens(test: TestApp) {
    let admin = admin(&test).await;
    let mut market = Market::open(test).await;
    let mut runner = TestRunner::deterministic();
    let (mut notes, mut refused) = (0, 0);
    for round in 0..8 {
        let turns = proptest::collection::vec(turn(), 4..12)
            .new_tree(&mut runner)
            .expect("turns")
            .current();
        market.node.beat(&market.test).await;
        let id = market.run(600).await;
        for (at, turn) in turns.into_iter().enumerate() {
            take(&mut market, &admin, id, turn, round * 100 + at).await;
            check(&market.test).await;
        }
        market.pass(700_000).await;
        market.settle().await;
        for turn in [
            Turn::Report,
            Turn::Decide(50),
            Turn::Goodwill(10),
            Turn::Issue,
        ] {
            take(&mut market, &admin, id, turn, round * 100 + 50).await;
        }
        check(&market.test).await;
        market.check_books().await;
        let all = market.test.app.db.read("test.all", move |tx| {
            let back = given_back::total(tx, id)?.total()?;
            Ok((store::of_rental(tx, id)?, back))
        });
        let (all, back) = all.await.expect("read");
        let sum = |kind| -> i64 {
            all.iter()
                .filter(|one| one.kind == kind)
                .map(|one| one.total.atomic())
                .sum()
        };
        let rental = market.rental(id).await;
        assert_eq!(sum(Kind::Invoice), rental.charged.atomic(), "{all:#?}");
        assert_eq!(sum(Kind::CreditNote), back.atomic(), "{all:#?}");
        notes += all
            .iter()
            .filter(|one| one.kind == Kind::CreditNote)
            .count();
        refused += usize::from(back < rental.charged);
    }
    assert!(
        notes >= 8 && refused > 0,
        "{notes} notes: what was tried was too tame"
    );
}

/// Rentals that are over, settled, and on no document.
async fn settled(market: &mut Market, count: usize) -> Vec<RentalId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(market.run(60).await);
    }
    market.pass(80_000).await;
    market.settle().await;
    for id in &ids {
        assert!(market.rental(*id).await.settled_at.is_some());
    }
    ids
}

async fn numbers(test: &TestApp) -> Vec<i64> {
    let read = test.app.db.read("test.numbers", |tx| {
        let rows = tx.query(
            "SELECT number FROM invoices WHERE series = 'RM' ORDER BY number",
            params![],
        )?;
        rows.iter()
            .map(|row| Ok(row.int(0)?))
            .collect::<Result<Vec<i64>>>()
    });
    read.await.expect("read")
}

async fn two_coordinators_issue_at_once_without_a_gap(test: TestApp) {
    let mut market = Market::open(test).await;
    let ids = settled(&mut market, 6).await;
    let beside = market.test.beside();
    let both = ids
        .iter()
        .flat_map(|id| [issue(&market.test, *id), issue(&beside, *id)]);
    let issued = futures_util::future::join_all(both).await;
    assert_eq!(issued.iter().flatten().count(), ids.len(), "each once");
    assert_eq!(numbers(&market.test).await, (1..=6).collect::<Vec<i64>>());
    check(&market.test).await;
}

async fn what_dies_before_its_commit_leaves_no_gap(test: TestApp) {
    let mut market = Market::open(test).await;
    let ids = settled(&mut market, 3).await;
    for id in &ids {
        let (ctx, id) = (market.test.app.task_context("test"), *id);
        let dies = market.test.app.db.write("test.dies", move |tx| {
            let issued = document(tx, &ctx, &rules(0), id)?;
            assert_eq!(issued.len(), 1);
            Err::<(), _>(Error::internal("the process died here"))
        });
        assert!(dies.await.is_err());
        check(&market.test).await;
        assert_eq!(issue(&market.test, id).await.len(), 1);
        assert_eq!(issue(&market.test, id).await.len(), 0);
    }
    assert_eq!(numbers(&market.test).await, [1, 2, 3]);
    check(&market.test).await;
}

async fn a_closed_month_never_changes(test: TestApp) {
    test.signup("consumer@example.org", &["consumer"]).await;
    let top_up = async |test: &TestApp, key: &'static str| {
        let token = sign_in(test, "consumer@example.org").await;
        let me = test.get("/api/v1/auth/me", &token).await.json();
        let id = me["id"].as_str().or(me["user"]["id"].as_str());
        let owner: shared::id::UserId = id.expect("an id").parse().expect("an id");
        let ctx = test.app.task_context("test");
        let fill = move |tx: &mut dyn Tx| {
            let posting = Posting {
                asset: shared::money::Asset::USDC,
                debit: Account::External("test".to_owned()),
                credit: Account::UserAvailable(owner),
                amount: Amount::from_atomic(2_500_000)?,
                cause: Cause::SandboxGrant(format!("{owner}:{key}")),
            };
            ledger::post(tx, &ctx, &posting).map(drop)
        };
        test.app.db.write("test.fill", fill).await.expect("filled");
        (token, owner)
    };
    let (token, _) = top_up(&test, "one").await;
    let of = async |token: &str| {
        test.get("/api/v1/statements?month=2027-01", token)
            .await
            .json()
    };
    let running = of(&token).await;
    assert_eq!(
        (
            running["final"].clone(),
            running["accounts"][0]["after"].clone()
        ),
        (false.into(), "2.500000".into()),
        "{running}"
    );
    // February: the month is over
    let february = Month::parse("2027-02")
        .expect("a month")
        .start()
        .expect("a moment");
    test.clock
        .advance_ms(february.ms_since(test.clock.now()) + 3_600_000);
    let (token, owner) = top_up(&test, "two").await;
    let closed = of(&token).await;
    assert_eq!(
        (
            closed["final"].clone(),
            closed["accounts"][0]["after"].clone()
        ),
        (true.into(), "2.500000".into()),
        "{closed}"
    );
    // a clock that is wrong can't write into it any more
    let late = test.app.task_context("test");
    let late = at(&late, february.plus_ms(-1));
    let post = test.app.db.write("test.late", move |tx| {
        let posting = Posting {
            asset: shared::money::Asset::USDC,
            debit: Account::External("test".to_owned()),
            credit: Account::UserAvailable(owner),
            amount: Amount::from_atomic(1)?,
            cause: Cause::SandboxGrant("late".to_owned()),
        };
        ledger::post(tx, &late, &posting).map(drop)
    });
    assert!(post.await.is_err(), "the month is closed");
    assert_eq!(of(&token).await, closed);
    let next = test
        .get("/api/v1/statements?month=2027-02", &token)
        .await
        .json();
    assert_eq!(next["accounts"][0]["before"], "2.500000");
    assert_eq!(next["accounts"][0]["after"], "5.000000");
    let csv = test
        .get("/api/v1/statements?month=2027-02&format=csv", &token)
        .await;
    let text = String::from_utf8(csv.body.to_vec()).expect("text");
    assert!(
        text.contains(",play money,usr_") && text.contains("balance,,,after,,5.000000,,,,,,,\r\n"),
        "{text}"
    );
    let lines = test
        .get("/api/v1/statements/2027-01/transfers", &token)
        .await
        .json();
    assert_eq!(lines["items"].as_array().map(Vec::len), Some(1), "{lines}");
}
