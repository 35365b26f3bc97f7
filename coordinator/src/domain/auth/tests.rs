//! Tests of accounts and sessions through the router, on a real database.

mod credentials;
mod delays;
mod mailed;
mod retention;
mod sessions;
mod step_up;
mod totp;

use axum::http::{StatusCode, header};
use serde_json::{Value, json};

use crate::{
    context::Role,
    testing::{Answer, TestApp},
};

const SIGNUP: &str = "/api/v1/auth/signup";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const ME: &str = "/api/v1/auth/me";

fn ada(password: &str) -> Value {
    json!({"email": "ada@example.org", "password": password})
}

fn text(answer: &Answer, field: &str) -> String {
    answer.json()[field].as_str().expect(field).to_owned()
}

async fn refresh(test: &TestApp, token: &str) -> Answer {
    test.post(REFRESH, "", &json!({"refresh_token": token}))
        .await
}

#[tokio::test]
async fn from_signup_to_logout_on_sqlite() {
    from_signup_to_logout(&TestApp::new().await).await;
}

#[tokio::test]
async fn from_signup_to_logout_on_postgres() {
    from_signup_to_logout(&TestApp::on_postgres().await).await;
}

async fn from_signup_to_logout(test: &TestApp) {
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    assert_eq!(signup.status, StatusCode::CREATED);
    assert_eq!(signup.json()["user"]["roles"], json!(["consumer"]));
    assert_eq!(signup.headers[header::CACHE_CONTROL], "no-store");
    let again = test.post(SIGNUP, "", &ada("another password")).await;
    assert_eq!(
        (again.status, text(&again, "code").as_str()),
        (StatusCode::CONFLICT, "email_taken")
    );

    let body = json!({"email": " ADA@example.org ", "password": "a long password"});
    let login = test.post(LOGIN, "", &body).await;
    assert_eq!(login.status, StatusCode::OK);
    let access = text(&login, "access_token");
    let me = test.get(ME, &access).await;
    assert_eq!(
        (me.status, text(&me, "email").as_str()),
        (StatusCode::OK, "ada@example.org")
    );
    assert!(!String::from_utf8_lossy(&me.body).contains("argon2"));

    let rotated = refresh(test, &text(&login, "refresh_token")).await;
    assert_eq!(rotated.status, StatusCode::OK);
    assert_ne!(
        text(&rotated, "refresh_token"),
        text(&login, "refresh_token")
    );
    let access = text(&rotated, "access_token");
    assert_eq!(test.get(ME, &access).await.status, StatusCode::OK);

    let out = test.post(LOGOUT, &access, &Value::Null).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert_eq!(out.cookie("at").as_deref(), Some(""));
    let refused = test.get(ME, &access).await;
    assert_eq!(
        (refused.status, text(&refused, "code").as_str()),
        (StatusCode::UNAUTHORIZED, "session_ended")
    );
    let refused = refresh(test, &text(&rotated, "refresh_token")).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    // the other session, of signup, goes on
    assert_eq!(
        test.get(ME, &text(&signup, "access_token")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_lost_answer_may_be_asked_for_again_but_reuse_ends_the_family() {
    let test = TestApp::new().await;
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let first = text(&signup, "refresh_token");
    let second = text(&refresh(&test, &first).await, "refresh_token");
    test.clock.advance_ms(9_000);
    let retried = refresh(&test, &first).await;
    assert_eq!(
        (retried.status, text(&retried, "refresh_token")),
        (StatusCode::OK, second.clone())
    );

    let newest = refresh(&test, &second).await;
    let access = text(&newest, "access_token");
    assert_eq!(test.get(ME, &access).await.status, StatusCode::OK);
    // within the time of a retry, but its successor was used: somebody else has a copy
    let reused = refresh(&test, &first).await;
    assert_eq!(
        (reused.status, text(&reused, "code").as_str()),
        (StatusCode::UNAUTHORIZED, "refresh_token")
    );
    assert_eq!(test.get(ME, &access).await.status, StatusCode::UNAUTHORIZED);
    let dead = refresh(&test, &text(&newest, "refresh_token")).await;
    assert_eq!(dead.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_retry_after_ten_seconds_is_reuse() {
    let test = TestApp::new().await;
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let first = text(&signup, "refresh_token");
    let second = text(&refresh(&test, &first).await, "refresh_token");
    test.clock.advance_ms(10_001);
    assert_eq!(
        refresh(&test, &first).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        refresh(&test, &second).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn twenty_at_once_get_one_successor_on_sqlite() {
    twenty_at_once_get_one_successor(&TestApp::new().await).await;
}

#[tokio::test]
async fn twenty_at_once_get_one_successor_on_postgres() {
    twenty_at_once_get_one_successor(&TestApp::on_postgres().await).await;
}

async fn twenty_at_once_get_one_successor(test: &TestApp) {
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let first = text(&signup, "refresh_token");
    let tries = (0..20).map(|_| refresh(test, &first));
    let answers = futures_util::future::join_all(tries).await;
    let next = text(&answers[0], "refresh_token");
    for answer in &answers {
        assert_eq!(
            (answer.status, text(answer, "refresh_token")),
            (StatusCode::OK, next.clone())
        );
    }
}

#[tokio::test]
async fn sessions_end_by_themselves() {
    let test = TestApp::new().await;
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let access = text(&signup, "access_token");
    test.clock.advance_ms(629_000);
    assert_eq!(test.get(ME, &access).await.status, StatusCode::OK);
    test.clock.advance_ms(2_000);
    let expired = test.get(ME, &access).await;
    assert_eq!(
        (expired.status, text(&expired, "code").as_str()),
        (StatusCode::UNAUTHORIZED, "access_token")
    );
    assert_eq!(
        expired.headers[header::WWW_AUTHENTICATE],
        "Bearer realm=\"ramarket\""
    );
    test.clock.advance_ms(14 * 86_400_000);
    let idle = refresh(&test, &text(&signup, "refresh_token")).await;
    assert_eq!(idle.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn unknown_accounts_and_wrong_passwords_look_the_same() {
    let test = TestApp::new().await;
    test.signup("ada@example.org", &[]).await;
    let wrong = test.post(LOGIN, "", &ada("a wrong password")).await;
    let body = json!({"email": "nobody@example.org", "password": "a wrong password"});
    let unknown = test.post(LOGIN, "", &body).await;
    let short = test.post(LOGIN, "", &ada("short")).await;
    for answer in [&wrong, &unknown, &short] {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json()["detail"], wrong.json()["detail"]);
        assert_eq!(answer.json()["code"], "login_failed");
    }
}

/// Not a stopwatch: the dummy hash has the cost of a real one, and verifying against it runs.
#[tokio::test]
async fn an_unknown_account_costs_a_hash_of_the_same_cost() {
    let test = TestApp::new().await;
    let passwords = &test.app.auth.passwords;
    let secret = || shared::secret::Secret::new("a long password".to_owned());
    let known = passwords.hash(secret()).await.expect("hash");
    assert!(passwords.verify(secret(), Some(&known)).await.expect("ran"));
    assert!(!passwords.verify(secret(), None).await.expect("ran"));
    assert!(!passwords.is_outdated(&known));
    assert!(!passwords.is_outdated(passwords.nobody()));
}

#[tokio::test]
async fn a_login_renews_a_hash_of_another_cost() {
    let test = TestApp::new().await;
    test.signup("ada@example.org", &[]).await;
    let weak = argon2::Params::new(8, 1, 1, None).expect("params");
    let weak = super::password::hash_with(weak, b"a long password");
    assert!(test.app.auth.passwords.is_outdated(&weak));
    test.app
        .db
        .write("test", move |tx| {
            let set = "UPDATE users SET password_hash = $1";
            Ok(tx.execute(set, crate::params![weak.as_str()])?)
        })
        .await
        .expect("written");
    for _ in 0..2 {
        let login = test.post(LOGIN, "", &ada("a long password")).await;
        assert_eq!(login.status, StatusCode::OK);
    }
    let email = super::model::Email::parse("ada@example.org").expect("fine");
    let found = test
        .app
        .db
        .read("test", move |tx| super::find_account(tx, &email))
        .await
        .expect("read");
    assert!(
        !test
            .app
            .auth
            .passwords
            .is_outdated(&found.expect("there").1)
    );
}

#[tokio::test]
async fn guessing_is_limited_per_account_and_per_address() {
    let test = TestApp::new().await;
    for _ in 0..5 {
        let answer = test.post(LOGIN, "", &ada("a wrong password")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let sixth = test.post(LOGIN, "", &ada("a wrong password")).await;
    assert_eq!(sixth.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(sixth.headers[header::RETRY_AFTER], "12");
    for n in 0..14 {
        let body = json!({"email": format!("u{n}@example.org"), "password": "a wrong password"});
        assert_eq!(
            test.post(LOGIN, "", &body).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    let body = json!({"email": "last@example.org", "password": "a wrong password"});
    assert_eq!(
        test.post(LOGIN, "", &body).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    test.clock.advance_ms(60_000);
    assert_eq!(
        test.post(LOGIN, "", &body).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn nobody_makes_themselves_an_administrator() {
    let test = TestApp::new().await;
    let body =
        json!({"email": "eve@example.org", "password": "a long password", "roles": ["admin"]});
    let answer = test.post(SIGNUP, "", &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["errors"][0]["pointer"], "/roles");
    let access = test.signup("eve@example.org", &["provider"]).await;
    let me = test.get(ME, &access).await.json();
    assert_eq!(me["roles"], json!(["consumer", "provider"]));
}

#[tokio::test]
async fn a_role_that_is_granted_counts_within_half_a_minute() {
    let test = TestApp::new().await;
    let access = test.signup("ada@example.org", &[]).await;
    let email = super::model::Email::parse("ada@example.org").expect("fine");
    let ctx = test.app.task_context("test");
    test.app
        .db
        .write("test", move |tx| {
            super::grant(tx, &ctx, &email, Role::Admin)
        })
        .await
        .expect("granted");
    test.clock.advance_ms(30_000);
    let user = super::authenticate(&test.app, &access)
        .await
        .expect("holds");
    assert!(user.roles.contains(&Role::Admin));
}
