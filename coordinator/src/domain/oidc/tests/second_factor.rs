//! Tests of accounts with a second factor, or without a password, whose owners sign in elsewhere.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{
    refused, signed_in,
    visitor::{Place, Visitor},
};
use crate::{
    domain::auth::testing::AuthenticatorApp,
    testing::{Answer, TestApp},
};

/// An account of one identity, whose owner just proved to the issuer who they are, with a second factor.
async fn with_second_factor(place: &Place) -> (Visitor, AuthenticatorApp) {
    let now_s = place.test.app.clock.now().as_secs();
    place.one.script().claims = json!({"auth_time": now_s});
    let (mut ada, answer) = place.sign_in().await;
    signed_in(&answer);
    let begun = ada
        .visit(place, "POST", "/api/v1/auth/totp", &Value::Null)
        .await;
    assert_eq!(begun.status, StatusCode::CREATED, "{begun:?}");
    let app = AuthenticatorApp::scan(begun.json()["secret"].as_str().expect("a secret"));
    let code = json!({"code": app.code(&place.test)});
    let set = ada
        .visit(place, "POST", "/api/v1/auth/totp/confirm", &code)
        .await;
    assert_eq!(set.status, StatusCode::OK, "{set:?}");
    place.pass_ms(30_000);
    (ada, app)
}

#[tokio::test]
async fn who_signs_in_elsewhere_owes_the_code_on_sqlite() {
    owes_the_code(Place::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_in_elsewhere_owes_the_code_on_postgres() {
    owes_the_code(Place::on_postgres().await).await;
}

async fn owes_the_code(place: Place) {
    let (_, app) = with_second_factor(&place).await;
    // a program is answered as after a password
    let (mut other, answer) = place.sign_in().await;
    refused(&answer, StatusCode::UNAUTHORIZED, "second_factor_required");
    assert_eq!(answer.cookie("rt"), None);
    assert_eq!(other.me(&place).await["code"], "sign_in_required");
    let challenge = answer.json()["challenge"].clone();
    let finish = async |code: &str| {
        let body = json!({"challenge": challenge, "code": code});
        place.test.post("/api/v1/auth/login/totp", "", &body).await
    };
    refused(
        &finish("no code").await,
        StatusCode::UNAUTHORIZED,
        "code_refused",
    );
    let answer = finish(&app.code(&place.test)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let log = place.audited().await;
    let count = |action: &str| log.iter().filter(|entry| entry.0 == action).count();
    assert_eq!(
        (count("identity.signed_in"), count("identity.code_asked")),
        (1, 1)
    );
}

/// What a browser sends: a form of our own page, or a visit.
async fn browse(test: &TestApp, method: &str, path: &str, cookie: &str, form: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::COOKIE, cookie)
        .header(header::ACCEPT, "text/html,application/xhtml+xml")
        .header("sec-fetch-site", "same-origin")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .expect("a request");
    test.send(request).await
}

#[tokio::test]
async fn a_browser_is_led_to_the_page_that_asks_for_the_code() {
    let place = Place::new().await;
    let (_, app) = with_second_factor(&place).await;
    let mut ada = Visitor::default();
    let back = ada.go(&place, "one", &place.one, "").await;
    let attempt = format!("oidc={}", ada.cookies["oidc"]);
    let answer = browse(&place.test, "GET", &back, &attempt, "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    assert_eq!(
        answer.headers[header::LOCATION],
        "/login/code?next=%2Frentals"
    );
    assert_eq!(answer.cookie("at"), None);
    let challenge = format!("code={}", answer.cookie("code").expect("a challenge"));

    let wrong = browse(&place.test, "POST", "/login/code", &challenge, "code=x").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(String::from_utf8_lossy(&wrong.body).contains("the code is wrong"));
    let form = format!("code={}&next=/rentals", app.code(&place.test));
    let none = browse(&place.test, "POST", "/login/code", "", &form).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    let answer = browse(&place.test, "POST", "/login/code", &challenge, &form).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    assert_eq!(answer.headers[header::LOCATION], "/rentals");
    assert_eq!(answer.cookie("code").as_deref(), Some(""));
    let access = answer.cookie("at").expect("signed in");
    let me = place.test.get("/api/v1/auth/me", &access).await;
    assert_eq!(me.json()["email"], "ada@example.org");
}

#[tokio::test]
async fn an_account_without_a_password_gets_one_by_mail_and_nothing_else_passes_for_it() {
    let place = Place::new().await;
    let (mut ada, _) = place.sign_in().await;
    for password in ["!", "a long password"] {
        let body = json!({"password": password});
        let answer = ada
            .visit(&place, "POST", "/api/v1/auth/step-up", &body)
            .await;
        refused(&answer, StatusCode::FORBIDDEN, "no_password");
        let body = json!({"current_password": password, "new_password": "an entirely other one"});
        let answer = ada
            .visit(&place, "POST", "/api/v1/auth/password", &body)
            .await;
        refused(&answer, StatusCode::FORBIDDEN, "no_password");
    }
    let body = json!({"email": "ada@example.org"});
    let path = "/api/v1/auth/password/forgot";
    let answer = ada.visit(&place, "POST", path, &body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    place.test.app.background.close();
    place.test.app.background.wait().await;
    place.test.app.background.reopen();
    let mails = place.test.mails().await;
    let link = mails.iter().flat_map(|mail| mail.lines());
    let link = link.rev().find_map(|line| line.split_once("?token="));
    let token = link.expect("a link").1;
    let body = json!({"token": token, "password": "an entirely other one"});
    let path = "/api/v1/auth/password/reset";
    let answer = ada.visit(&place, "POST", path, &body).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
    let body = json!({"email": "ada@example.org", "password": "an entirely other one"});
    let answer = ada.visit(&place, "POST", "/api/v1/auth/login", &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    // and the identity is no longer the last way in
    let id = ada.identities(&place).await[0]["id"].clone();
    let path = format!("/api/v1/auth/identities/{}", id.as_str().expect("an id"));
    let answer = ada.visit(&place, "DELETE", &path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
    let mails = place.test.mails().await;
    let told = |subject: &str| mails.iter().filter(|mail| mail.contains(subject)).count();
    assert_eq!(told("Subject: A way to sign in was removed"), 1);
}
