//! Disputes on both databases: the meter stops at the report, the evidence stays, a decision moves money once and adds up.

#![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::{
    clock::Clock as _,
    id::{DisputeId, RentalId},
    money::Amount,
};

use super::*;
use crate::{
    context::Role,
    domain::{
        auth::{self, model::Email},
        settlement::{self, model::next_span},
    },
    params,
    testing::{
        Answer, TestApp,
        market::{Market, rental_of},
        on_both_stores,
    },
};

on_both_stores!(
    the_meter_stops_at_the_report,
    a_decision_gives_back_once_and_the_books_add_up,
    what_the_provider_has_no_more_is_the_platforms_and_never_below_zero,
    only_who_rents_it_reports_it_and_not_for_ever,
    two_coordinators_hear_of_one_dispute,
    what_was_seen_and_said_stays
);

async fn admin(test: &TestApp) -> String {
    let token = test.signup("admin@example.org", &[]).await;
    let email = Email::parse("admin@example.org").expect("fine");
    let ctx = test.app.task_context("test");
    let grant = move |tx: &mut dyn Tx| auth::grant(tx, &ctx, &email, Role::Admin);
    test.app.db.write("test", grant).await.expect("granted");
    token
}

/// Signs in again: access tokens live for minutes only.
async fn sign_in(test: &TestApp, email: &str) -> String {
    let body = json!({"email": email, "password": "a long password"});
    text(
        &test.post("/api/v1/auth/login", "", &body).await,
        "access_token",
    )
}

/// Decides as an administrator who has just proven who they are.
async fn decide(test: &TestApp, dispute: &str, refund: &Value) -> Answer {
    // logins are counted by the minute
    test.clock.advance_ms(30_000);
    let admin = &sign_in(test, "admin@example.org").await;
    let proof = json!({"password": "a long password"});
    let proven = test.post("/api/v1/auth/step-up", admin, &proof).await;
    assert_eq!(proven.status, StatusCode::NO_CONTENT, "{proven:?}");
    let body = json!({"refund": refund, "reason": "the journal shows it"});
    let path = format!("/api/v1/admin/disputes/{dispute}/decision");
    test.post(&path, admin, &body).await
}

async fn report(test: &TestApp, id: RentalId, token: &str) -> Answer {
    let body = json!({"reason": "unreachable", "text": "the port never answered"});
    let path = format!("/api/v1/rentals/{id}/report");
    test.post(&path, token, &body).await
}

fn code(answer: &Answer) -> (u16, String) {
    let code = answer.json()["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status.as_u16(), code)
}

fn text(answer: &Answer, field: &str) -> String {
    let found = answer.json()[field].as_str().map(str::to_owned);
    found.unwrap_or_else(|| panic!("{field} of {answer:?}"))
}

fn token_of(market: &Market, id: RentalId) -> String {
    market.test.app.rental_tokens.mint(id).expose().clone()
}

/// A rental of somebody with an account that runs.
async fn running(market: &mut Market, consumer: &str) -> RentalId {
    let order = market.order(3_600);
    let bought = market
        .payer
        .buy(&market.test, "/api/v1/rentals", consumer, &order)
        .await;
    let id = rental_of(&bought);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    id
}

/// Its node stops it, as it is told to, and its money is split.
async fn stops(market: &mut Market, id: RentalId) {
    market.pass(10_000).await;
    market.settle().await;
    let rental = market.rental(id).await;
    assert!(rental.settled_at.is_some(), "{rental:?}");
}

async fn balance(market: &Market, account: Account) -> i64 {
    let asset = shared::money::Asset::from_code("USDC").expect("known");
    let read = move |tx: &mut dyn Tx| ledger::balance(tx, asset, &account);
    let held = market.test.app.db.read("test.balance", read).await;
    held.expect("a balance").atomic()
}

async fn the_meter_stops_at_the_report(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3_600).await;
    market.pass(600_137).await;
    let token = token_of(&market, id);
    let told = report(&market.test, id, &token).await;
    assert_eq!(told.status, StatusCode::CREATED, "{told:?}");
    let at = market.test.clock.now();
    let rental = market.rental(id).await;
    assert_eq!(rental.stop_reason, Some(EndReason::Reported));
    // pure: whatever evidence comes later, the next window ends there
    let late = at.plus_ms(500_000);
    let span = next_span(&rental, late, Some(at)).expect("something is left");
    assert!(span.end <= at && next_span(&rental, late, None).expect("more").end > at);

    // the machine hears of it a minute later, and meters until then
    market.cut_off(60_000).await;
    stops(&mut market, id).await;
    let ended = market.rental(id).await;
    assert!(ended.finished_at.is_some_and(|finished| finished > at));
    assert_eq!(ended.end_reason, Some(EndReason::Reported), "{ended:?}");
    let windows = market.windows(id).await;
    assert!(windows.iter().all(|window| window.span.end <= at));
    assert!(
        (595_000..=600_137).contains(&ended.billed_ms),
        "{}",
        ended.billed_ms
    );
    market.check_books().await;
    let mails = market.test.mails().await;
    assert!(
        mails.iter().any(|mail| mail.contains("was reported")),
        "{mails:?}"
    );
    // the same report again finds it
    let again = report(&market.test, id, &token).await;
    assert_eq!(
        (again.status, text(&again, "id")),
        (StatusCode::OK, text(&told, "id"))
    );
}

async fn a_decision_gives_back_once_and_the_books_add_up(test: TestApp) {
    admin(&test).await;
    let consumer = test.signup("consumer@example.org", &["consumer"]).await;
    let mut market = Market::open(test).await;
    let id = running(&mut market, &consumer).await;
    market.pass(1_800_000).await;
    let consumer = sign_in(&market.test, "consumer@example.org").await;
    let dispute = text(&report(&market.test, id, &consumer).await, "id");
    let early = decide(&market.test, &dispute, &json!("all")).await;
    assert_eq!(code(&early), (409, "dispute_not_settled".to_owned()));
    stops(&mut market, id).await;
    let rental = market.rental(id).await;
    let (paid, charged, fee) = (
        rental.paid.atomic(),
        rental.charged.atomic(),
        rental.fee.atomic(),
    );
    assert!(charged > 200, "{charged}");

    let too_much =
        json!({"amount": Amount::from_atomic(charged + 1).expect("positive"), "currency": "USDC"});
    let refused = decide(&market.test, &dispute, &too_much).await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{refused:?}"
    );
    market.check_books().await;

    let half =
        json!({"amount": Amount::from_atomic(charged / 2).expect("positive"), "currency": "USDC"});
    let decided = decide(&market.test, &dispute, &half).await;
    assert_eq!(decided.status, StatusCode::OK, "{decided:?}");
    let again = decide(&market.test, &dispute, &json!("all")).await;
    assert_eq!(code(&again), (409, "dispute_decided".to_owned()));
    market.check_books().await;

    let split = json!({"rental_id": id});
    let split = market
        .test
        .post("/api/v1/payments/settle", &consumer, &split)
        .await
        .json();
    let part = |name: &str| -> i64 {
        let amount: Amount = split[name]["amount"]
            .as_str()
            .expect(name)
            .parse()
            .expect("an amount");
        amount.atomic()
    };
    let of_fee = fee * (charged / 2) / charged;
    assert_eq!(part("platform_fee"), fee - of_fee, "{split}");
    assert_eq!(part("refund"), paid - charged + charged / 2, "{split}");
    let sum = part("provider") + part("platform_fee") + part("refund");
    assert_eq!((sum, part("platform_goodwill")), (paid, 0), "{split}");
    assert_eq!(balance(&market, Account::PlatformFees).await, fee - of_fee);
    let own = market.test.get("/api/v1/disputes", &consumer).await.json();
    assert_eq!(
        own["items"][0]["decision"]["reason"], "the journal shows it",
        "{own}"
    );
    let mails = market.test.mails().await;
    let told = mails
        .iter()
        .filter(|mail| mail.contains("A dispute was decided"));
    assert_eq!(told.count(), 2, "both parties: {mails:?}");
    // goodwill besides: what is left of the charge, and no more
    let rest = Amount::from_atomic(charged - charged / 2 + 1).expect("positive");
    let body = json!({"rental_id": id, "amount": {"amount": rest, "currency": "USDC"}, "reason": "a test"});
    market.test.clock.advance_ms(30_000);
    let admin = sign_in(&market.test, "admin@example.org").await;
    let mut request = crate::testing::request("POST", "/api/v1/admin/refunds", &admin, &body);
    let key = axum::http::HeaderValue::from_static("one");
    request.headers_mut().insert("idempotency-key", key);
    let refused = market.test.send(request).await;
    assert_eq!(
        refused.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{refused:?}"
    );
}

async fn what_the_provider_has_no_more_is_the_platforms_and_never_below_zero(test: TestApp) {
    admin(&test).await;
    let mut market = Market::open(test).await;
    let first = market.run(3_600).await;
    market.pass(1_800_000).await;
    let token = token_of(&market, first);
    let dispute = text(&report(&market.test, first, &token).await, "id");
    stops(&mut market, first).await;
    let rental = market.rental(first).await;
    // it was paid out
    let (ctx, provider, asset) = (
        market.test.app.task_context("test"),
        rental.provider,
        rental.asset,
    );
    let pay_out = move |tx: &mut dyn Tx| {
        assert!(!settlement::release(tx, &ctx, first, 0)?, "it is disputed");
        // as if that had been before the report
        assert!(earnings::release(tx, &ctx, first, ctx.now)?);
        let debit = Account::ProviderAvailable(provider);
        let amount = ledger::balance(tx, asset, &debit)?;
        let posting = Posting {
            asset,
            debit,
            credit: Account::External("elsewhere".to_owned()),
            amount,
            cause: Cause::SandboxGrant("paid out by a test".to_owned()),
        };
        ledger::post(tx, &ctx, &posting).map(|_| amount)
    };
    let gone = market.test.app.db.write("test.payout", pay_out).await;
    assert!(gone.expect("posted").atomic() > 0);
    let uncovered = decide(&market.test, &dispute, &json!("all")).await;
    assert_eq!(code(&uncovered), (409, "dispute_uncovered".to_owned()));
    let little = json!({"amount": "0.000005", "currency": "USDC"});
    let decided = decide(&market.test, &dispute, &little).await;
    assert_eq!(decided.status, StatusCode::OK, "{decided:?}");
    market.check_books().await;
    let given = market
        .test
        .app
        .db
        .read("test.given", move |tx| given_back::total(tx, first));
    let given = given.await.expect("read");
    assert_eq!(
        (given.of_provider.atomic(), given.goodwill.atomic()),
        (0, 5)
    );
    let rental = market.rental(first).await;
    let split = settlement::split(&rental, &given).expect("adds up");
    let parts = [split.provider, split.fee, split.refund].map(Amount::atomic);
    assert_eq!(
        parts.iter().sum::<i64>(),
        split.paid.atomic() + split.goodwill.atomic()
    );
}

async fn only_who_rents_it_reports_it_and_not_for_ever(test: TestApp) {
    let admin = admin(&test).await;
    let other = test.signup("other@example.org", &["consumer"]).await;
    let mut market = Market::open(test).await;
    let id = market.run(600).await;
    let held = market.rent(600).await;
    for (who, status) in [(&market.provider, 404), (&other, 404), (&admin, 403)] {
        let answer = report(&market.test, id, who).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
    let wrong = token_of(&market, held);
    assert_eq!(
        report(&market.test, id, &wrong).await.status,
        StatusCode::NOT_FOUND
    );
    market.pass(620_000).await;
    market.settle().await;
    assert!(market.rental(id).await.settled_at.is_some());
    let window_s = market.test.app.config.market.dispute_window_s;
    market
        .test
        .clock
        .advance_ms(i64::from(window_s) * 1_000 + 1);
    let late = report(&market.test, id, &token_of(&market, id)).await;
    assert_eq!(code(&late), (409, "dispute_window_over".to_owned()));
}

async fn two_coordinators_hear_of_one_dispute(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3_600).await;
    market.pass(60_000).await;
    let (token, beside) = (token_of(&market, id), market.test.beside());
    let settle = crate::testing::market::settle(&market.test);
    let (one, two, ()) = tokio::join!(
        report(&market.test, id, &token),
        report(&beside, id, &token),
        settle
    );
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201], "{one:?} {two:?}");
    assert_eq!(text(&one, "id"), text(&two, "id"));
    stops(&mut market, id).await;
    let at = market.test.clock.now();
    assert!(
        market
            .windows(id)
            .await
            .iter()
            .all(|window| window.span.end <= at)
    );
    market.check_books().await;
}

async fn what_was_seen_and_said_stays(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3_600).await;
    market.pass(130_000).await;
    let token = token_of(&market, id);
    let dispute = text(&report(&market.test, id, &token).await, "id");
    let path = format!("/api/v1/disputes/{dispute}");
    let seen = market.test.get(&path, &token).await.json();
    for pointer in [
        "/evidence/windows/0/billable_ms",
        "/evidence/coverage/newest/0/start",
        "/evidence/receipts/0/hash",
        "/evidence/node/availability",
        "/evidence/offer/prices/ram_gib_hour",
        "/evidence/rental/phase",
    ] {
        let found = seen.pointer(pointer);
        assert!(
            found.is_some_and(|value| !value.is_null()),
            "{pointer}: {seen}"
        );
    }
    market.pass(120_000).await;
    let say = json!({"text": "it answers from here"});
    let said = market
        .test
        .post(&format!("{path}/evidence"), &market.provider, &say)
        .await;
    assert_eq!(
        (said.status, text(&said, "author")),
        (StatusCode::CREATED, "provider".to_owned())
    );
    let later = market.test.get(&path, &market.provider).await.json();
    assert_eq!(later["evidence"], seen["evidence"]);
    assert_eq!(later["statements"][0]["text"], "it answers from here");
    let id: DisputeId = dispute.parse().expect("an id");
    for sql in [
        "UPDATE disputes SET evidence = '{}' WHERE id = $1",
        "DELETE FROM disputes WHERE id = $1",
        "UPDATE dispute_statements SET statement = 'no' WHERE dispute_id = $1",
        "DELETE FROM dispute_statements WHERE dispute_id = $1",
    ] {
        let change = move |tx: &mut dyn Tx| Ok(tx.execute(sql, params![id])?);
        let refused = market.test.app.db.write("test.change", change).await;
        assert!(refused.is_err(), "{sql}");
    }
}
