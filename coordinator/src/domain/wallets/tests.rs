//! A wallet without an account comes back to its rentals, and to nothing else.

use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::testing::{
    Answer, TestApp,
    market::{Market, rental_of},
    on_both_stores,
    payer::Payer,
    request,
};

on_both_stores!(
    a_wallet_comes_back_to_what_it_paid_for,
    a_challenge_is_used_once_whichever_coordinator_is_asked,
    a_wallet_reports_its_rental_and_reads_its_invoice,
);

const CHALLENGE: &str = "/api/v1/auth/wallet/challenge";
const RENTALS: &str = "/api/v1/rentals";

fn bearing(method: &Method, path: &str, claim: &str, body: &Value) -> Request<axum::body::Body> {
    let mut request = request(method.as_str(), path, "", body);
    let claim = claim.parse().expect("a header value");
    request.headers_mut().insert("sign-in-with-x", claim);
    request
}

async fn claim(test: &TestApp, payer: &Payer) -> String {
    let asked = test.get(CHALLENGE, "").await;
    assert_eq!(asked.status, StatusCode::OK, "{asked:?}");
    assert_eq!(asked.headers["cache-control"], "no-store");
    payer.sign_in(&asked.json())
}

/// Asks as a wallet, under a new challenge.
async fn ask(test: &TestApp, payer: &Payer, method: Method, path: &str) -> Answer {
    let claim = claim(test, payer).await;
    test.send(bearing(&method, path, &claim, &Value::Null))
        .await
}

fn refused(answer: &Answer, status: StatusCode, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["code"], code, "{answer:?}");
}

async fn a_wallet_comes_back_to_what_it_paid_for(test: TestApp) {
    let mut market = Market::open(test).await;
    let order = market.order(600);
    let bought = market.payer.buy(&market.test, RENTALS, "", &order).await;
    let mine = rental_of(&bought);
    market.node.beat(&market.test).await;
    market.node.start(mine);
    market.node.beat(&market.test).await;
    let mut other = Payer::numbered(2);
    let theirs = rental_of(&other.buy(&market.test, RENTALS, "", &order).await);
    // of an account, though the same wallet paid
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    let bound = market.payer.buy(&market.test, RENTALS, &ada, &order).await;
    let bound = rental_of(&bound);

    let payer = &market.payer;
    let list = ask(&market.test, payer, Method::GET, RENTALS).await.json();
    let ids: Vec<&Value> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| &item["id"])
        .collect();
    assert_eq!(ids, [&json!(mine)], "{list}");
    let path = format!("{RENTALS}/{mine}");
    for what in ["", "/events", "/usage", "/receipts"] {
        let answer = ask(&market.test, payer, Method::GET, &format!("{path}{what}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
    }
    for (id, who) in [(theirs, payer), (bound, payer), (mine, &other)] {
        for (method, what) in [
            (Method::GET, ""),
            (Method::GET, "/events"),
            (Method::GET, "/usage"),
            (Method::GET, "/receipts"),
            (Method::POST, "/stop"),
            (Method::POST, "/token"),
        ] {
            let path = format!("{RENTALS}/{id}{what}");
            refused(
                &ask(&market.test, who, method, &path).await,
                StatusCode::NOT_FOUND,
                "not_found",
            );
        }
    }
    // a fresh token is the one that the payment was answered with
    let renewed = ask(&market.test, payer, Method::POST, &format!("{path}/token")).await;
    assert_eq!(renewed.status, StatusCode::CREATED, "{renewed:?}");
    assert_eq!(
        renewed.json()["rental_token"],
        bought.json()["rental_token"]
    );
    // more time costs money, as ever; what is an account's isn't a wallet's
    let more = claim(&market.test, payer).await;
    let body = json!({"duration_seconds": 60});
    let extend = bearing(&Method::POST, &format!("{path}/extend"), &more, &body);
    let asked = market.test.send(extend).await;
    assert_eq!(asked.status, StatusCode::PAYMENT_REQUIRED, "{asked:?}");
    for closed in [
        "/api/v1/balance",
        "/api/v1/auth/me",
        "/api/v1/events",
        "/api/v1/nodes",
        "/api/v1/admin/users",
    ] {
        refused(
            &ask(&market.test, payer, Method::GET, closed).await,
            StatusCode::FORBIDDEN,
            "forbidden",
        );
    }
    let stopped = ask(&market.test, payer, Method::POST, &format!("{path}/stop")).await;
    assert_eq!(stopped.json()["state"], "stopping", "{stopped:?}");
    // somebody else's challenge in a 402 is as good
    let offered = market.test.post(RENTALS, "", &order).await;
    let terms: Value = shared::x402::header::decode(offered.headers["payment-required"].as_bytes())
        .expect("terms");
    let signed = payer.sign_in(&terms["extensions"]["sign-in-with-x"]);
    let back = bearing(&Method::GET, &path, &signed, &Value::Null);
    assert_eq!(market.test.send(back).await.status, StatusCode::OK);
}

/// Of what it paid for without an account, and of nothing else.
async fn a_wallet_reports_its_rental_and_reads_its_invoice(test: TestApp) {
    let mut market = Market::open(test).await;
    let mine = market.run(600).await;
    let other = Payer::numbered(2);
    let path = format!("{RENTALS}/{mine}/report");
    let body = json!({"reason": "unreachable", "text": "the port never answered"});
    let say = async |who: &Payer, path: &str, body: &Value| {
        let claim = claim(&market.test, who).await;
        let request = bearing(&Method::POST, path, &claim, body);
        market.test.send(request).await
    };
    refused(
        &say(&other, &path, &body).await,
        StatusCode::NOT_FOUND,
        "not_found",
    );
    let reported = say(&market.payer, &path, &body).await;
    assert_eq!(reported.status, StatusCode::CREATED, "{reported:?}");
    // it comes back to its dispute by reporting again
    let again = say(&market.payer, &path, &body).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    let id = again.json()["id"].as_str().expect("an id").to_owned();
    let dispute = format!("/api/v1/disputes/{id}");
    let evidence = format!("{dispute}/evidence");
    let more = json!({"text": "it answers nobody"});
    let said = say(&market.payer, &evidence, &more).await;
    assert_eq!(said.status, StatusCode::CREATED, "{said:?}");
    refused(
        &say(&other, &evidence, &more).await,
        StatusCode::NOT_FOUND,
        "not_found",
    );
    market.pass(10_000).await;
    market.settle().await;
    let (test, payer) = (&market.test, &market.payer);
    let seen = ask(test, payer, Method::GET, &dispute).await;
    assert_eq!(
        seen.json()["statements"].as_array().map(Vec::len),
        Some(1),
        "{seen:?}"
    );
    let invoice = format!("{RENTALS}/{mine}/invoice");
    let issued = ask(test, payer, Method::GET, &invoice).await;
    assert_eq!(issued.status, StatusCode::OK, "{issued:?}");
    assert_eq!(issued.json()["payer"]["wallet"], json!(payer.address()));
    let id = issued.json()["id"].as_str().expect("an id").to_owned();
    for path in [
        dispute,
        invoice,
        format!("/api/v1/invoices/{id}"),
        format!("/api/v1/invoices/{id}/transfers"),
    ] {
        let answer = ask(test, payer, Method::GET, &path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        refused(
            &ask(test, &other, Method::GET, &path).await,
            StatusCode::NOT_FOUND,
            "not_found",
        );
    }
}

async fn a_challenge_is_used_once_whichever_coordinator_is_asked(test: TestApp) {
    let market = Market::open(test).await;
    let (payer, test) = (&market.payer, &market.test);
    let other = test.beside();
    let signed = claim(test, payer).await;
    let get = |signed: &str| bearing(&Method::GET, RENTALS, signed, &Value::Null);
    assert_eq!(other.send(get(&signed)).await.status, StatusCode::OK);
    for again in [test, &other] {
        refused(
            &again.send(get(&signed)).await,
            StatusCode::UNAUTHORIZED,
            "wallet_nonce",
        );
    }
    // of many at once, one
    let signed = claim(test, payer).await;
    let at_once = (0..10).map(|n| [test, &other][n % 2].send(get(&signed)));
    let answers = futures_util::future::join_all(at_once).await;
    let good = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK);
    assert_eq!(good.count(), 1, "{answers:?}");
    // late, and never ours
    let late = claim(test, payer).await;
    test.clock.advance_ms(300_001);
    refused(
        &test.send(get(&late)).await,
        StatusCode::UNAUTHORIZED,
        "wallet_signature",
    );
    let mut asked = test.get(CHALLENGE, "").await.json();
    asked["info"]["nonce"] = json!("0123456789abcdef0123456789abcdef");
    refused(
        &test.send(get(&payer.sign_in(&asked))).await,
        StatusCode::UNAUTHORIZED,
        "wallet_nonce",
    );
    let mut asked = test.get(CHALLENGE, "").await.json();
    asked["info"]["domain"] = json!("evil.example");
    refused(
        &test.send(get(&payer.sign_in(&asked))).await,
        StatusCode::UNAUTHORIZED,
        "wallet_signature",
    );
    for garbage in ["x", "e30=", "bnVsbA=="] {
        refused(
            &test.send(get(garbage)).await,
            StatusCode::UNAUTHORIZED,
            "wallet_signature",
        );
    }
    let forgotten = super::forget(&test.app.db, shared::clock::Clock::now(&test.clock)).await;
    assert_eq!(forgotten.ok(), Some(0));
    test.clock.advance_ms(2 * 300_000 + 1);
    let forgotten = super::forget(&test.app.db, shared::clock::Clock::now(&test.clock)).await;
    assert_eq!(forgotten.ok(), Some(2));
}
