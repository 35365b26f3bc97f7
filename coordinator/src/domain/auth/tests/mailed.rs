//! Tests of what goes by mail: verified addresses, forgotten and changed passwords, other addresses.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{LOGIN, ME, SIGNUP, ada, text};
use crate::testing::{Answer, TestApp, on_both_stores};

const FORGOT: &str = "/api/v1/auth/password/forgot";
const RESET: &str = "/api/v1/auth/password/reset";
const CHANGE: &str = "/api/v1/auth/password";
const VERIFY: &str = "/api/v1/auth/email/verify";

/// The page and the token of the link in the newest mail to `to`.
pub(super) async fn link_to(test: &TestApp, to: &str) -> (String, String) {
    let mails = test.mails().await;
    let head = format!("To: {to}\r\n");
    let mail = mails.iter().rev().find(|mail| mail.contains(&head));
    let mail = mail.unwrap_or_else(|| panic!("no mail to {to} in {mails:?}"));
    let url = mail
        .lines()
        .find(|line| line.contains("?token="))
        .expect("a link");
    let url = url.strip_prefix(&test.app.config.http.public_url());
    let (page, token) = url.expect("ours").split_once("?token=").expect("a token");
    (page.to_owned(), token.to_owned())
}

pub(super) async fn forgotten(test: &TestApp, email: &str) -> Answer {
    let answer = test.post(FORGOT, "", &json!({ "email": email })).await;
    // it goes on after the answer
    test.app.background.close();
    test.app.background.wait().await;
    test.app.background.reopen();
    answer
}

async fn submit(test: &TestApp, page: &str, body: &str, site: &str) -> Answer {
    let request = Request::post(page)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", site)
        .body(Body::from(body.to_owned()))
        .expect("a request");
    test.send(request).await
}

on_both_stores!(
    an_address_is_verified_by_its_link_once,
    a_forgotten_password_is_reset_once_and_ends_sessions,
    a_changed_password_ends_other_sessions,
    an_address_changes_by_a_link_to_the_new_one,
);

async fn an_address_is_verified_by_its_link_once(test: TestApp) {
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let access = text(&signup, "access_token");
    assert_eq!(test.get(ME, &access).await.json()["email_verified"], false);
    let (page, token) = link_to(&test, "ada@example.org").await;
    assert_eq!(page, "/account/verify-email");
    // a reset takes no link of another purpose
    let body = json!({"token": token, "password": "another long password"});
    assert_eq!(
        test.post(RESET, "", &body).await.json()["code"],
        "link_invalid"
    );
    let used = test.post(VERIFY, "", &json!({ "token": token })).await;
    assert_eq!(used.status, StatusCode::NO_CONTENT, "{used:?}");
    assert_eq!(test.get(ME, &access).await.json()["email_verified"], true);
    let again = test.post(VERIFY, "", &json!({ "token": token })).await;
    assert_eq!(
        (again.status, text(&again, "code").as_str()),
        (StatusCode::UNPROCESSABLE_ENTITY, "link_invalid")
    );
    // a newer link replaces the older, and an old one is dead
    let request = "/api/v1/auth/email/verify/request";
    for _ in 0..2 {
        let asked = test.post(request, &access, &Value::Null).await;
        assert_eq!(asked.status, StatusCode::ACCEPTED);
    }
    let newest = link_to(&test, "ada@example.org").await.1;
    test.clock.advance_ms(3_600_000);
    let late = test.post(VERIFY, "", &json!({ "token": newest })).await;
    assert_eq!(late.json()["code"], "link_invalid");
}

async fn a_forgotten_password_is_reset_once_and_ends_sessions(test: TestApp) {
    let access = test.signup("ada@example.org", &[]).await;
    let before = test.mails().await.len();
    let unknown = forgotten(&test, "nobody@example.org").await;
    assert_eq!(test.mails().await.len(), before);
    let known = forgotten(&test, "ada@example.org").await;
    assert_eq!(known.status, StatusCode::ACCEPTED);
    assert_eq!((known.status, &known.body), (unknown.status, &unknown.body));
    let (page, token) = link_to(&test, "ada@example.org").await;
    assert_eq!(page, "/account/reset-password");

    // opening the link changes nothing, however often
    for _ in 0..2 {
        let shown = test.get(&format!("{page}?token={token}"), "").await;
        assert_eq!(shown.status, StatusCode::OK);
        assert_eq!(shown.headers[header::REFERRER_POLICY], "no-referrer");
        assert_eq!(shown.headers[header::CACHE_CONTROL], "no-store");
        let html = String::from_utf8_lossy(&shown.body).into_owned();
        assert!(html.contains("method=\"post\"") && !html.contains("<script"));
    }
    let easy = format!("token={token}&password=password123");
    let refused = submit(&test, &page, &easy, "same-origin").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(String::from_utf8_lossy(&refused.body).contains("first that attackers try"));
    let good = format!("token={token}&password=an+entirely+other+one");
    let foreign = submit(&test, &page, &good, "cross-site").await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert_eq!(test.get(ME, &access).await.status, StatusCode::OK);
    let done = submit(&test, &page, &good, "same-origin").await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    assert_eq!(test.get(ME, &access).await.status, StatusCode::UNAUTHORIZED);
    let again = submit(&test, &page, &good, "same-origin").await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);

    let old = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
    let new = test.post(LOGIN, "", &ada("an entirely other one")).await;
    assert_eq!(new.status, StatusCode::OK);
    assert_eq!(new.json()["user"]["email_verified"], true);
    let mails = test.mails().await;
    assert!(
        mails
            .iter()
            .any(|mail| mail.contains("Your password was changed"))
    );
}

async fn a_changed_password_ends_other_sessions(test: TestApp) {
    let mine = test.signup("ada@example.org", &[]).await;
    let login = test.post(LOGIN, "", &ada("a long password")).await;
    let other = text(&login, "access_token");
    assert_eq!(test.get(ME, &other).await.status, StatusCode::OK);
    let change = async |current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        test.post(CHANGE, &mine, &body).await
    };
    let wrong = change("a wrong password", "an entirely other one").await;
    assert_eq!(wrong.json()["code"], "proof_refused");
    let easy = change("a long password", "Ada.Example1").await;
    assert_eq!(easy.json()["errors"][0]["pointer"], "/new_password");
    let done = change("a long password", "an entirely other one").await;
    assert_eq!(done.status, StatusCode::NO_CONTENT, "{done:?}");
    assert_eq!(test.get(ME, &mine).await.status, StatusCode::OK);
    assert_eq!(test.get(ME, &other).await.status, StatusCode::UNAUTHORIZED);
    let dead = super::refresh(&test, &text(&login, "refresh_token")).await;
    assert_eq!(dead.status, StatusCode::UNAUTHORIZED);
    let old = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
}

async fn an_address_changes_by_a_link_to_the_new_one(test: TestApp) {
    let access = test.signup("ada@example.org", &[]).await;
    test.signup("eve@example.org", &[]).await;
    let change = async |email: &str| {
        let body = json!({ "email": email });
        test.post("/api/v1/auth/email", &access, &body).await
    };
    test.clock.advance_ms(300_001);
    assert_eq!(
        change("new@example.org").await.json()["code"],
        "step_up_required"
    );
    let proof = json!({"password": "a long password"});
    test.post("/api/v1/auth/step-up", &access, &proof).await;
    // somebody else's address: the same answer, but no link
    let before = test.mails().await.len();
    assert_eq!(change("eve@example.org").await.status, StatusCode::ACCEPTED);
    assert_eq!(test.mails().await.len(), before + 1);
    assert_eq!(change("new@example.org").await.status, StatusCode::ACCEPTED);
    let mails = test.mails().await;
    let notice = mails.iter().filter(|mail| {
        mail.contains("To: ada@example.org\r\n") && mail.contains("about to change")
    });
    assert_eq!(notice.count(), 2);
    let (page, token) = link_to(&test, "new@example.org").await;
    assert_eq!(page, "/account/change-email");
    test.get(&format!("{page}?token={token}"), "").await;
    assert_eq!(
        test.get(ME, &access).await.json()["email"],
        "ada@example.org"
    );
    let done = submit(&test, &page, &format!("token={token}"), "same-origin").await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let me = test.get(ME, &access).await.json();
    assert_eq!(
        (&me["email"], &me["email_verified"]),
        (&json!("new@example.org"), &json!(true))
    );
    let login = json!({"email": "new@example.org", "password": "a long password"});
    assert_eq!(test.post(LOGIN, "", &login).await.status, StatusCode::OK);
    let again = submit(&test, &page, &format!("token={token}"), "same-origin").await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn mails_that_are_asked_for_are_limited_and_guessable_passwords_refused() {
    let test = TestApp::new().await;
    for _ in 0..3 {
        let answer = forgotten(&test, "ada@example.org").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    let answer = forgotten(&test, "ada@example.org").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    for password in ["password1", "ada@example"] {
        let answer = test.post(SIGNUP, "", &ada(password)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.json()["errors"][0]["pointer"], "/password");
    }
    let page = test
        .get("/account/reset-password?token=%3Cscript%3E", "")
        .await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!String::from_utf8_lossy(&page.body).contains("<script"));
}
