//! Tests of waiting: who fails again and again waits twice as long each time, and nobody is locked out.

use std::net::SocketAddr;

use axum::{
    extract::ConnectInfo,
    http::{StatusCode, header},
};
use serde_json::{Value, json};

use super::{LOGIN, ada, text};
use crate::{
    domain::auth::testing::AuthenticatorApp,
    testing::{Answer, TestApp, on_both_stores, request},
};

const STEP_UP: &str = "/api/v1/auth/step-up";

/// How long the answer says that one must wait; nothing when it wasn't refused for that.
fn wait_s(answer: &Answer) -> Option<i64> {
    let refused = answer.status == StatusCode::TOO_MANY_REQUESTS
        && text(answer, "detail").contains("attempts failed");
    let told = answer.headers.get(header::RETRY_AFTER);
    let told = told.filter(|_| refused)?.to_str().expect("text");
    Some(told.parse().expect("seconds"))
}

async fn fails(test: &TestApp, body: &Value) {
    let answer = test.post(LOGIN, "", body).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
}

/// Fails so often in a row, each time after the limit of a minute and the wait are over.
async fn fails_in_a_row(test: &TestApp, body: &Value, times: u32) {
    for _ in 0..times {
        fails(test, body).await;
        test.clock.advance_ms(960_000);
    }
}

on_both_stores!(
    each_failure_doubles_the_wait_of_an_account_up_to_a_bound,
    coordinators_count_together_and_who_gets_in_is_forgiven,
    an_address_waits_later_and_others_do_not,
    codes_and_proofs_count_and_a_right_password_alone_forgives_nothing,
    a_new_password_by_mail_ends_the_wait,
);

/// Whoever tries from another address each time, so that only the account counts.
#[derive(Default)]
struct Roamer(u8);

impl Roamer {
    async fn tries(&mut self, test: &TestApp, body: &Value) -> Answer {
        self.0 += 1;
        login_from(test, self.0, body).await
    }
}

async fn each_failure_doubles_the_wait_of_an_account_up_to_a_bound(test: TestApp) {
    test.signup("ada@example.org", &[]).await;
    let nobody = json!({"email": "nobody@example.org", "password": "a wrong password"});
    let mut roamer = Roamer::default();
    for wrong in [ada("a wrong password"), nobody] {
        for _ in 0..4 {
            let answer = roamer.tries(&test, &wrong).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
        }
        let mut waits = Vec::new();
        for _ in 5..=17 {
            test.clock.advance_ms(60_000);
            let answer = roamer.tries(&test, &wrong).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
            let told = wait_s(&roamer.tries(&test, &wrong).await).expect("it must wait");
            waits.push(told);
            test.clock.advance_ms(told * 1_000 - 1);
            assert_eq!(wait_s(&roamer.tries(&test, &wrong).await), Some(1));
            test.clock.advance_ms(1);
        }
        let expected = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900];
        assert_eq!(waits, expected);
        test.clock.advance_ms(60_000);
    }
    // after a day without a failure all is forgotten
    test.clock.advance_ms(86_400_000);
    fails(&test, &ada("a wrong password")).await;
    let login = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(login.status, StatusCode::OK, "{login:?}");
}

async fn coordinators_count_together_and_who_gets_in_is_forgiven(test: TestApp) {
    test.signup("ada@example.org", &[]).await;
    let other = test.beside();
    for app in [&test, &other, &test, &other, &test] {
        fails(app, &ada("a wrong password")).await;
    }
    for app in [&test, &other] {
        let right = app.post(LOGIN, "", &ada("a long password")).await;
        assert_eq!(wait_s(&right), Some(1), "{right:?}");
    }
    test.clock.advance_ms(60_000);
    let right = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(right.status, StatusCode::OK, "{right:?}");
    fails(&test, &ada("a wrong password")).await;
    let right = other.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(right.status, StatusCode::OK, "{right:?}");
}

async fn login_from(test: &TestApp, address: u8, body: &Value) -> Answer {
    let mut request = request("POST", LOGIN, "", body);
    let peer = SocketAddr::from(([10, 0, 0, address], 1));
    request.extensions_mut().insert(ConnectInfo(peer));
    test.send(request).await
}

async fn an_address_waits_later_and_others_do_not(test: TestApp) {
    test.signup("ada@example.org", &[]).await;
    for n in 0..21 {
        let body = json!({"email": format!("u{n}@example.org"), "password": "a wrong password"});
        let answer = login_from(&test, 1, &body).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{n}: {answer:?}");
        test.clock.advance_ms(3_000);
    }
    let right = ada("a long password");
    let late = login_from(&test, 1, &right).await;
    assert_eq!(late.status, StatusCode::OK, "the wait was 2 s: {late:?}");
    let body = json!({"email": "u0@example.org", "password": "a wrong password"});
    login_from(&test, 1, &body).await;
    let early = login_from(&test, 1, &right).await;
    assert_eq!(wait_s(&early), Some(4), "signing in forgives no address");
    let elsewhere = login_from(&test, 2, &right).await;
    assert_eq!(elsewhere.status, StatusCode::OK, "{elsewhere:?}");
}

async fn codes_and_proofs_count_and_a_right_password_alone_forgives_nothing(test: TestApp) {
    let access = test.signup("ada@example.org", &[]).await;
    for _ in 0..5 {
        let body = json!({"password": "a wrong password"});
        let answer = test.post(STEP_UP, &access, &body).await;
        assert_eq!(answer.json()["code"], "proof_refused");
    }
    test.clock.advance_ms(999);
    let right = json!({"password": "a long password"});
    let early = test.post(STEP_UP, &access, &right).await;
    assert_eq!(early.status, StatusCode::TOO_MANY_REQUESTS, "{early:?}");
    test.clock.advance_ms(60_000);
    let proven = test.post(STEP_UP, &access, &right).await;
    assert_eq!(proven.status, StatusCode::NO_CONTENT, "{proven:?}");

    let begun = test.post("/api/v1/auth/totp", &access, &Value::Null).await;
    let app = AuthenticatorApp::scan(&text(&begun, "secret"));
    let code = json!({"code": app.code(&test)});
    test.post("/api/v1/auth/totp/confirm", &access, &code).await;
    test.clock.advance_ms(60_000);
    for n in 0..6 {
        let login = test.post(LOGIN, "", &ada("a long password")).await;
        let body = json!({"challenge": text(&login, "challenge"), "code": "no code"});
        let refused = test.post("/api/v1/auth/login/totp", "", &body).await;
        assert_eq!(refused.json()["code"], "code_refused", "{n}");
        test.clock.advance_ms(if n < 5 { 60_000 } else { 0 });
    }
    let login = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(wait_s(&login), Some(2), "{login:?}");
}

async fn a_new_password_by_mail_ends_the_wait(test: TestApp) {
    test.signup("ada@example.org", &[]).await;
    fails_in_a_row(&test, &ada("a wrong password"), 16).await;
    fails(&test, &ada("a wrong password")).await;
    let right = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(wait_s(&right), Some(900), "{right:?}");
    super::mailed::forgotten(&test, "ada@example.org").await;
    let (_, token) = super::mailed::link_to(&test, "ada@example.org").await;
    let body = json!({"token": token, "password": "an entirely other one"});
    let reset = test.post("/api/v1/auth/password/reset", "", &body).await;
    assert_eq!(reset.status, StatusCode::NO_CONTENT, "{reset:?}");
    let login = test.post(LOGIN, "", &ada("an entirely other one")).await;
    assert_eq!(login.status, StatusCode::OK, "{login:?}");
}
