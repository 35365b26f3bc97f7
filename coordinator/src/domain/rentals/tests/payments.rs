//! Paying for a rental: one credit and one rental or none, whatever the facilitator does and wherever the process dies.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use shared::{
    id::PaymentId,
    x402::header::{PAYMENT_RESPONSE, decode},
};

use crate::{
    domain::{
        payments::{model::PaymentState, ports::Facilitator},
        rentals::{
            find,
            model::{EndReason, State},
        },
    },
    params,
    testing::{
        Answer, TestApp,
        facilitator::{Double, Turn},
        market::{Market, RAM_BYTES, rental_of, settle},
        on_both_stores,
        payer::{Payer, paid},
    },
};

on_both_stores!(
    a_payment_survives_a_crash_at_each_step,
    an_unclear_outcome_is_asked_again_and_credited_once,
    a_quote_is_used_once_however_many_pay_it,
    no_two_payers_share_a_quote,
    money_for_a_rental_that_ended_meanwhile_goes_back,
    the_last_room_goes_to_one_of_many_payers,
    one_payment_sent_many_times_is_one_rental,
);

pub(super) const RENT: &str = "/api/v1/rentals";
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn facilitator_of(test: &TestApp) -> Arc<dyn Facilitator> {
    let mut routes = test.app.purchases.routes.all();
    Arc::clone(&routes.next().expect("a route").facilitator)
}

pub(super) async fn with_double(test: TestApp, plan: &[Turn]) -> (Market, Arc<Double>) {
    let double = Double::new(&facilitator_of(&test), plan);
    let test = test.paid_through(Arc::clone(&double) as Arc<_>);
    (Market::open(test).await, double)
}

pub(super) async fn count(market: &Market, sql: &'static str) -> i64 {
    let db = &market.test.app.db;
    let counted = db.read("test.count", move |tx| {
        let rows = tx.query(sql, params![])?;
        Ok(rows[0].int(0)?)
    });
    counted.await.expect("rows are counted")
}

/// One payment in the books, one rental, and all adds up.
pub(super) async fn exactly_one(market: &Market) {
    let credits = "SELECT COUNT(*) FROM transfers WHERE code = 'payment'";
    assert_eq!(count(market, credits).await, 1);
    let lives = "SELECT COUNT(*) FROM rentals WHERE state <> 'ended'";
    assert_eq!(count(market, lives).await, 1);
    let charged = "SELECT COUNT(*) FROM sandbox_settlements";
    assert_eq!(count(market, charged).await, 1);
    market.check_books().await;
}

async fn a_payment_survives_a_crash_at_each_step(test: TestApp) {
    let (mut market, mut double) = with_double(test, &[]).await;
    let steps = [
        ("received", Turn::HangInVerify, ""),
        (
            "verified",
            Turn::HangInVerify,
            "UPDATE payments SET state = 'verified' WHERE state = 'received'",
        ),
        ("settling", Turn::HangInSettle, ""),
        ("settled", Turn::HangAfterSettle, ""),
    ];
    let mut expected = 0;
    for (step, turn, sql) in steps {
        double.plan(turn);
        let order = market.order(600);
        let asked = market.test.post(RENT, "", &order).await;
        let signed = market.payer.sign(&asked, &market.test);
        let request = || paid(RENT, "", &order, &signed.header_v2);
        tokio::select! {
            answer = market.test.send(request()) => panic!("{step}: {answer:?}"),
            () = double.begun.notified() => {}
        }
        if !sql.is_empty() {
            let db = &market.test.app.db;
            let moved = db.write("test.move", move |tx| Ok(tx.execute(sql, params![])?));
            assert_eq!(moved.await.ok(), Some(1), "{step}");
        }
        // the process dies; another one takes up what it left
        let test = market.test.restarted();
        double = Double::new(&facilitator_of(&test), &[]);
        market.test = test.paid_through(Arc::clone(&double) as Arc<_>);
        market.test.start_ingest();
        market.node.beat(&market.test).await;
        market.test.clock.advance_ms(80_000);
        market.node.beat(&market.test).await;
        let ended = market.test.app.purchases.reconcile().await;
        ended.expect("payments are taken up");
        let answer = market.test.send(request()).await;
        let id = rental_of(&answer);
        let again = market.test.send(request()).await;
        assert_eq!(rental_of(&again), id, "{step}");
        expected += 1;
        let credits = "SELECT COUNT(*) FROM transfers WHERE code = 'payment'";
        assert_eq!(count(&market, credits).await, expected, "{step}");
        let moved = "SELECT COUNT(*) FROM sandbox_settlements";
        assert_eq!(count(&market, moved).await, expected, "{step}");
        let lives = "SELECT COUNT(*) FROM rentals";
        assert_eq!(count(&market, lives).await, expected, "{step}");
        market.check_books().await;
    }
}

async fn an_unclear_outcome_is_asked_again_and_credited_once(test: TestApp) {
    let plan = [Turn::UnclearAfterSettle, Turn::Unclear];
    let (mut market, double) = with_double(test, &plan).await;
    let order = market.order(600);
    let asked = market.test.post(RENT, "", &order).await;
    let signed = market.payer.sign(&asked, &market.test);
    let request = || paid(RENT, "", &order, &signed.header_v2);
    let answer = market.test.send(request()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert!(answer.headers.contains_key("retry-after"));
    let payment: PaymentId =
        serde_json::from_value(answer.json()["payment_id"].clone()).expect("an id");
    let path = format!("/api/v1/payments/{payment}");
    let shown = market.test.get(&path, "").await;
    assert_eq!(shown.json()["state"], "pending", "{shown:?}");
    for expected in [PaymentState::Pending, PaymentState::Credited] {
        market.test.clock.advance_ms(61_000);
        let purchases = &market.test.app.purchases;
        purchases.reconcile().await.expect("it is taken up");
        let now = purchases.wait(payment, Duration::ZERO).await;
        assert_eq!(now.expect("a payment").state, expected);
    }
    let id = rental_of(&market.test.send(request()).await);
    assert_eq!(answer.json()["rental_id"], json!(id));
    assert_eq!(double.settles.load(std::sync::atomic::Ordering::SeqCst), 3);
    exactly_one(&market).await;
}

async fn a_quote_is_used_once_however_many_pay_it(test: TestApp) {
    let market = Market::open(test).await;
    let mut order = market.order(600);
    let quote = json!({
        "offer_id": order["offer_id"], "resources": order["resources"], "duration_seconds": 600,
    });
    let quote = market.test.post("/api/v1/payments/quote", "", &quote).await;
    order["quote_id"] = quote.json()["id"].clone();
    let asked = market.test.post(RENT, "", &order).await;
    let paying = (10..20).map(|number| {
        let signed = Payer::numbered(number).sign(&asked, &market.test);
        market.test.send(paid(RENT, "", &order, &signed.header_v2))
    });
    let answers: Vec<Answer> = futures_util::future::join_all(paying).await;
    let used = answers
        .iter()
        .filter(|answer| answer.status == 409 && answer.json()["code"] == "quote_used");
    assert_eq!(used.count(), 9, "{answers:?}");
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1);
    exactly_one(&market).await;
}

/// Without a quote's id a payment takes any open quote of the same request: who is asked again may find the one that another was
/// asked with, but no two share one.
async fn no_two_payers_share_a_quote(test: TestApp) {
    let market = Market::open(test).await;
    let order = market.order(600);
    let asked = market.test.post(RENT, "", &order).await;
    let paying = (10..20).map(|number| {
        let signed = Payer::numbered(number).sign(&asked, &market.test);
        market.test.send(paid(RENT, "", &order, &signed.header_v2))
    });
    let answers: Vec<Answer> = futures_util::future::join_all(paying).await;
    let of = |status: u16| answers.iter().filter(|a| a.status == status).count();
    assert!(of(201) >= 1 && of(201) + of(402) == 10, "{answers:?}");
    for sql in [
        "SELECT COUNT(*) FROM quotes WHERE payment_id IS NOT NULL",
        "SELECT COUNT(DISTINCT quote_id) FROM payments WHERE state = 'credited'",
        "SELECT COUNT(*) FROM sandbox_settlements",
        "SELECT COUNT(*) FROM rentals",
    ] {
        assert_eq!(
            usize::try_from(count(&market, sql).await),
            Ok(of(201)),
            "{sql}"
        );
    }
    market.check_books().await;
}

async fn the_last_room_goes_to_one_of_many_payers(test: TestApp) {
    let market = Market::open(test).await;
    let path = format!("/api/v1/nodes/{}", market.node.id);
    let room = json!({"rentable": {"ram_bytes": RAM_BYTES, "cpu_millis": 1_000}});
    let shrink = crate::testing::request("PATCH", &path, &market.provider, &room);
    let answer = market.test.send(shrink).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let order = market.order(600);
    let mut requests = Vec::new();
    for number in 10..35 {
        let asked = market.test.post(RENT, "", &order).await;
        let signed = Payer::numbered(number).sign(&asked, &market.test);
        requests.push(paid(RENT, "", &order, &signed.header_v2));
    }
    let sent = requests
        .into_iter()
        .map(|request| market.test.send(request));
    let answers: Vec<Answer> = futures_util::future::join_all(sent).await;
    let gone = answers
        .iter()
        .filter(|answer| answer.status == 409 && answer.json()["code"] == "capacity_gone");
    assert_eq!(gone.count(), 24, "{answers:?}");
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1);
    exactly_one(&market).await;
}

async fn one_payment_sent_many_times_is_one_rental(test: TestApp) {
    let mut market = Market::open(test).await;
    let order = market.order(600);
    let asked = market.test.post(RENT, "", &order).await;
    let signed = market.payer.sign(&asked, &market.test);
    let sent = (0..20).map(|_| market.test.send(paid(RENT, "", &order, &signed.header_v2)));
    let answers: Vec<Answer> = futures_util::future::join_all(sent).await;
    let first = rental_of(&answers[0]);
    for answer in &answers {
        assert_eq!(rental_of(answer), first);
    }
    exactly_one(&market).await;
}

async fn money_for_a_rental_that_ended_meanwhile_goes_back(test: TestApp) {
    let (mut market, double) = with_double(test, &[]).await;
    let order = market.order(600);
    let bought = market.payer.buy(&market.test, RENT, "", &order).await;
    let id = rental_of(&bought);
    let token = bought.json()["rental_token"].as_str().map(str::to_owned);
    let token = token.expect("a token");
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    market.pass(60_000).await;
    double.plan(Turn::Wait);
    let path = format!("{RENT}/{id}/extend");
    let more = json!({"duration_seconds": 600});
    let asked = market.test.post(&path, &token, &more).await;
    let signed = market.payer.sign(&asked, &market.test);
    let extending = market
        .test
        .send(paid(&path, &token, &more, &signed.header_v2));
    let ending = async {
        double.begun.notified().await;
        let stop = format!("{RENT}/{id}/stop");
        let answer = market.test.post(&stop, &token, &Value::Null).await;
        assert!(answer.status.is_success(), "{answer:?}");
        market.node.beat(&market.test).await;
        market.node.beat(&market.test).await;
        settle(&market.test).await;
        let db = &market.test.app.db;
        let settled = db.read("test.rental", move |tx| find(tx, id));
        let settled = settled.await.expect("there is one");
        assert_eq!(settled.end_reason, Some(EndReason::Stopped));
        assert!(settled.settled_at.is_some());
        double.go.notify_one();
        settled.refunded
    };
    let (answer, refunded) = tokio::join!(extending, ending);
    assert_eq!(answer.status, 201, "{answer:?}");
    market.check_books().await;
    market.settle().await;
    market.check_books().await;
    let rental = market.rental(id).await;
    assert_eq!(rental.state, State::Ended);
    assert!(rental.settled_at.is_some());
    assert!(rental.refunded > refunded, "{rental:?}");
    assert_eq!(rental.paid.minus(rental.charged), Ok(rental.refunded));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_payment_frees_the_room_and_says_why() {
    let (mut market, _double) = with_double(TestApp::new().await, &[Turn::Refuse]).await;
    let order = market.order(600);
    let answer = market.payer.buy(&market.test, RENT, "", &order).await;
    assert_eq!(answer.status, 402, "{answer:?}");
    assert_eq!(answer.json()["code"], "payment_rejected");
    let receipt: Value = decode(answer.headers[PAYMENT_RESPONSE].as_bytes()).expect("a receipt");
    assert_eq!(receipt["errorReason"], "insufficient_funds");
    market.check_books().await;
    let lives = "SELECT COUNT(*) FROM rentals WHERE state <> 'ended'";
    assert_eq!(count(&market, lives).await, 0);
    rental_of(&market.payer.buy(&market.test, RENT, "", &order).await);
    exactly_one(&market).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_facilitator_gets_202_and_the_same_rental_later() {
    let (mut market, double) = with_double(TestApp::new().await, &[Turn::Wait]).await;
    let order = market.order(600);
    let asked = market.test.post(RENT, "", &order).await;
    let signed = market.payer.sign(&asked, &market.test);
    let request = || paid(RENT, "", &order, &signed.header_v2);
    let answer = market.test.send(request()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    double.go.notify_one();
    let payment = serde_json::from_value(answer.json()["payment_id"].clone()).expect("an id");
    let paid = market.test.app.purchases.wait(payment, PATIENCE).await;
    assert_eq!(paid.expect("a payment").state, PaymentState::Credited);
    let id = rental_of(&market.test.send(request()).await);
    assert_eq!(answer.json()["rental_id"], json!(id));
    exactly_one(&market).await;
}
