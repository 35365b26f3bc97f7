//! Tests of the list of sessions, of ending them, and of what other coordinators believe meanwhile.

use axum::{
    extract::ConnectInfo,
    http::{StatusCode, header},
};
use serde_json::{Value, json};

use super::{LOGIN, ME, SIGNUP, ada, refresh, text};
use crate::testing::{Answer, TestApp, on_both_stores, request};

const SESSIONS: &str = "/api/v1/sessions";

async fn login_from(test: &TestApp, program: &str) -> Answer {
    let mut login = request("POST", LOGIN, "", &ada("a long password"));
    let headers = login.headers_mut();
    headers.insert(header::USER_AGENT, program.parse().expect("header"));
    test.send(login).await
}

async fn delete(test: &TestApp, path: &str, token: &str) -> StatusCode {
    test.send(request("DELETE", path, token, &Value::Null))
        .await
        .status
}

on_both_stores!(
    people_see_and_end_their_sessions,
    reuse_is_over_everywhere_within_a_minute,
    a_hundred_sessions_are_kept,
);

async fn people_see_and_end_their_sessions(test: TestApp) {
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    test.clock.advance_ms(1_000);
    let browser = login_from(&test, "Browser/1.0").await;
    test.clock.advance_ms(1_000);
    let phone = login_from(&test, &"x".repeat(500)).await;
    let (mine, token) = (text(&browser, "access_token"), text(&phone, "access_token"));
    test.clock.advance_ms(60_000);
    refresh(&test, &text(&browser, "refresh_token")).await;

    let list = test.get(SESSIONS, &mine).await.json();
    let items = list["items"].as_array().expect("items").clone();
    assert_eq!(items.len(), 3);
    let current: Vec<bool> = items.iter().map(|item| item["current"] == true).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(items[0]["user_agent"].as_str().expect("text").len(), 200);
    assert_ne!(items[1]["last_used_at"], items[1]["created_at"]);
    assert_eq!(items[2]["last_used_at"], items[2]["created_at"]);

    // another person neither sees nor ends them
    let eve = test.signup("eve@example.org", &[]).await;
    let path = format!("{SESSIONS}/{}", items[0]["id"].as_str().expect("id"));
    assert_eq!(delete(&test, &path, &eve).await, StatusCode::NOT_FOUND);
    assert_eq!(test.get(ME, &token).await.status, StatusCode::OK);
    assert_eq!(delete(&test, &path, &mine).await, StatusCode::NO_CONTENT);
    assert_eq!(test.get(ME, &token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(delete(&test, &path, &mine).await, StatusCode::NOT_FOUND);
    assert_eq!(delete(&test, SESSIONS, &mine).await, StatusCode::NO_CONTENT);
    assert_eq!(test.get(ME, &mine).await.status, StatusCode::OK);
    let other = text(&signup, "access_token");
    assert_eq!(test.get(ME, &other).await.status, StatusCode::UNAUTHORIZED);
    let left = test.get(SESSIONS, &mine).await.json();
    assert_eq!(left["items"].as_array().expect("items").len(), 1);
    assert_eq!(
        test.get(SESSIONS, &eve).await.json()["items"][0]["current"],
        true
    );
}

/// Two coordinators on one database; the one that notices the reuse isn't the one that remembers the session.
async fn reuse_is_over_everywhere_within_a_minute(test: TestApp) {
    let other = test.beside();
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let first = text(&signup, "refresh_token");
    let second = refresh(&test, &first).await;
    let third = refresh(&other, &text(&second, "refresh_token")).await;
    let access = text(&third, "access_token");
    assert_eq!(test.get(ME, &access).await.status, StatusCode::OK);
    assert_eq!(other.get(ME, &access).await.status, StatusCode::OK);
    assert_eq!(
        refresh(&test, &first).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(test.get(ME, &access).await.status, StatusCode::UNAUTHORIZED);
    // the other one has it in memory, and asks again after half a minute
    assert_eq!(other.get(ME, &access).await.status, StatusCode::OK);
    test.clock.advance_ms(30_000);
    assert_eq!(
        other.get(ME, &access).await.status,
        StatusCode::UNAUTHORIZED
    );
    let dead = refresh(&other, &text(&third, "refresh_token")).await;
    assert_eq!(dead.status, StatusCode::UNAUTHORIZED);
    // once more is no second mail
    refresh(&test, &first).await;
    let told = test.mails().await;
    let told: Vec<_> = told
        .iter()
        .filter(|mail| mail.contains("was used twice"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let noted = noted(&test).await;
    assert!(noted.contains(&"session.ended".to_owned()), "{noted:?}");
}

async fn noted(test: &TestApp) -> Vec<String> {
    let read = test.app.db.read("test.audit", |tx| {
        tx.query("SELECT action FROM audit_log ORDER BY seq", &[])?
            .iter()
            .map(|row| Ok(row.text(0)?.to_owned()))
            .collect()
    });
    read.await.expect("read")
}

async fn a_hundred_sessions_are_kept(test: TestApp) {
    let first = test.post(SIGNUP, "", &ada("a long password")).await;
    let email = super::super::model::Email::parse("ada@example.org").expect("fine");
    for _ in 0..crate::domain::auth::SESSIONS_MAX {
        test.clock.advance_ms(1);
        let app = test.app.clone();
        let (ctx, email) = (app.task_context("test"), email.clone());
        let body = move |tx: &mut dyn crate::store::Tx| {
            let account = super::super::find_account(tx, &email)?.expect("there").0;
            let login = super::super::Login::new(&app.config, &account.roles, Default::default())?;
            super::super::begin_session(tx, &ctx, &account, &login).map(|_| ())
        };
        test.app.db.write("test", body).await.expect("begun");
    }
    let access = text(&first, "access_token");
    assert_eq!(test.get(ME, &access).await.status, StatusCode::UNAUTHORIZED);
}

async fn refresh_from(test: &TestApp, address: u8, token: &str) -> Answer {
    let body = json!({ "refresh_token": token });
    let mut request = request("POST", super::REFRESH, "", &body);
    let peer = std::net::SocketAddr::from(([10, 0, 0, address], 1));
    request.extensions_mut().insert(ConnectInfo(peer));
    test.send(request).await
}

#[tokio::test]
async fn refreshing_is_limited_per_session_and_per_address() {
    let test = TestApp::with(|config| config.limits.refreshes_per_minute = 30).await;
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let other = test.post(LOGIN, "", &ada("a long password")).await;
    let mut token = text(&signup, "refresh_token");
    for n in 0..30 {
        let answer = refresh_from(&test, n, &token).await;
        assert_eq!(answer.status, StatusCode::OK);
        token = text(&answer, "refresh_token");
    }
    let answer = refresh_from(&test, 30, &token).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let answer = refresh_from(&test, 30, &text(&other, "refresh_token")).await;
    assert_eq!(answer.status, StatusCode::OK);
    test.clock.advance_ms(2_000);
    let answer = refresh_from(&test, 30, &token).await;
    assert_eq!(answer.status, StatusCode::OK);
    // tokens that nobody was given count by address
    let guess = "A".repeat(43);
    for _ in 0..30 {
        let answer = refresh_from(&test, 200, &guess).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let answer = refresh_from(&test, 200, &guess).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}
