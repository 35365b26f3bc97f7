//! Tests of the second factor: setting it, signing in with it, proofs, recovery, and administrators who need one.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{LOGIN, ME, SIGNUP, ada, text};
use crate::{
    config::SecondFactor,
    context::Role,
    domain::auth::testing::AuthenticatorApp,
    testing::{Answer, TestApp, dump, on_both_stores, request},
};

const BEGIN: &str = "/api/v1/auth/totp";
const CONFIRM: &str = "/api/v1/auth/totp/confirm";
const LOGIN_TOTP: &str = "/api/v1/auth/login/totp";
const STEP_UP: &str = "/api/v1/auth/step-up";

/// Sets a second factor; returns the app and the recovery codes.
async fn set_up(test: &TestApp, access: &str) -> (AuthenticatorApp, Vec<String>) {
    let begun = test.post(BEGIN, access, &Value::Null).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{begun:?}");
    let app = AuthenticatorApp::scan(&text(&begun, "secret"));
    assert!(text(&begun, "otpauth_url").contains(&text(&begun, "secret")));
    let wrong = test.post(CONFIRM, access, &json!({"code": "x"})).await;
    assert_eq!(wrong.json()["code"], "proof_refused");
    let code = json!({ "code": app.code(test) });
    let set = test.post(CONFIRM, access, &code).await;
    assert_eq!(set.status, StatusCode::OK, "{set:?}");
    let codes = set.json()["recovery_codes"]
        .as_array()
        .expect("codes")
        .clone();
    let codes = codes
        .iter()
        .map(|code| code.as_str().expect("text").to_owned());
    (app, codes.collect())
}

async fn challenge(test: &TestApp) -> String {
    let login = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(
        (login.status, text(&login, "code").as_str()),
        (StatusCode::UNAUTHORIZED, "second_factor_required")
    );
    assert!(login.cookie("at").is_none());
    text(&login, "challenge")
}

async fn finish(test: &TestApp, challenge: &str, code: &str) -> Answer {
    let body = json!({"challenge": challenge, "code": code});
    test.post(LOGIN_TOTP, "", &body).await
}

on_both_stores!(
    a_login_needs_a_code_and_a_code_works_once,
    recovery_codes_work_once_and_the_factor_can_be_removed,
    of_two_logins_with_one_code_one_gets_in,
);

async fn a_login_needs_a_code_and_a_code_works_once(test: TestApp) {
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let mine = text(&signup, "access_token");
    let other = test.post(LOGIN, "", &ada("a long password")).await;
    let (app, recovery) = set_up(&test, &mine).await;
    assert_eq!(test.get(ME, &mine).await.json()["second_factor"], true);
    let other = test.get(ME, &text(&other, "access_token")).await;
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
    let again = test.post(BEGIN, &mine, &Value::Null).await;
    assert_eq!(again.json()["code"], "second_factor_set");

    // the code that confirmed was used
    let first = challenge(&test).await;
    let used = finish(&test, &first, &app.code(&test)).await;
    assert_eq!(used.json()["code"], "code_refused");
    test.clock.advance_ms(30_000);
    let code = app.code(&test);
    let login = finish(&test, &first, &code).await;
    assert_eq!(login.status, StatusCode::OK, "{login:?}");
    let access = text(&login, "access_token");
    assert_eq!(test.get(ME, &access).await.status, StatusCode::OK);
    let replayed = finish(&test, &challenge(&test).await, &code).await;
    assert_eq!(replayed.json()["code"], "code_refused");

    // a challenge is bound to its person and its password, and dies
    test.clock.advance_ms(60_000);
    let late = challenge(&test).await;
    test.clock.advance_ms(300_000);
    let refused = finish(&test, &late, &app.code(&test)).await;
    assert_eq!(refused.json()["code"], "challenge_invalid");
    let fresh = challenge(&test).await;
    for forged in [
        fresh.replace("usr_0", "usr_1"),
        fresh.replacen('.', ".9", 1),
        "x".to_owned(),
        String::new(),
    ] {
        let refused = finish(&test, &forged, &app.code(&test)).await;
        assert_eq!(refused.json()["code"], "challenge_invalid", "{forged}");
    }
    // neither the secret nor the codes lie in clear
    let rows = format!("{:?}", dump::dump(&test.app.db, &[]).await);
    let secret = format!("{:?}", app.0);
    assert!(!rows.contains(secret.trim_matches(['[', ']'])));
    assert!(recovery.iter().all(|code| !rows.contains(code.as_str())));
}

async fn recovery_codes_work_once_and_the_factor_can_be_removed(test: TestApp) {
    let access = test.signup("ada@example.org", &[]).await;
    let (app, recovery) = set_up(&test, &access).await;
    assert_eq!(recovery.len(), 10);
    let letters = |code: &String| code.chars().filter(char::is_ascii_alphanumeric).count();
    assert!(
        recovery.iter().all(|code| letters(code) == 26),
        "128 bits in base 32"
    );
    let typed = recovery[0].to_lowercase().replace('-', " ");
    let login = finish(&test, &challenge(&test).await, &typed).await;
    assert_eq!(login.status, StatusCode::OK, "{login:?}");
    let access = text(&login, "access_token");
    let again = finish(&test, &challenge(&test).await, &typed).await;
    assert_eq!(again.json()["code"], "code_refused");

    test.clock.advance_ms(300_001);
    let remove = async || {
        test.send(request("DELETE", BEGIN, &access, &Value::Null))
            .await
    };
    assert_eq!(remove().await.json()["code"], "step_up_required");
    // the password alone proves nothing any more
    let password = json!({"password": "a long password"});
    let alone = test.post(STEP_UP, &access, &password).await;
    assert_eq!(alone.json()["code"], "code_required");
    let wrong = test
        .post(STEP_UP, &access, &json!({"code": "000000x"}))
        .await;
    assert_eq!(wrong.json()["code"], "proof_refused");
    let proven = test
        .post(STEP_UP, &access, &json!({ "code": app.code(&test) }))
        .await;
    assert_eq!(proven.status, StatusCode::NO_CONTENT, "{proven:?}");
    assert_eq!(remove().await.status, StatusCode::NO_CONTENT);
    let login = test.post(LOGIN, "", &ada("a long password")).await;
    assert_eq!(login.status, StatusCode::OK);
    let mails = test.mails().await;
    for subject in ["A second factor was set", "Your second factor was removed"] {
        assert!(mails.iter().any(|mail| mail.contains(subject)), "{subject}");
    }
}

async fn of_two_logins_with_one_code_one_gets_in(test: TestApp) {
    let access = test.signup("ada@example.org", &[]).await;
    let (app, _) = set_up(&test, &access).await;
    test.clock.advance_ms(30_000);
    let (challenge, code) = (challenge(&test).await, app.code(&test));
    let (one, two) = tokio::join!(
        finish(&test, &challenge, &code),
        finish(&test, &challenge, &code)
    );
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test]
async fn where_it_is_required_an_administrator_without_it_is_none() {
    let test = TestApp::with(|config| {
        config.auth.admin_second_factor = SecondFactor::Required;
    })
    .await;
    let access = test.signup("ada@example.org", &[]).await;
    let email = super::super::model::Email::parse("ada@example.org").expect("fine");
    let ctx = test.app.task_context("test");
    let grant =
        move |tx: &mut dyn crate::store::Tx| super::super::grant(tx, &ctx, &email, Role::Admin);
    test.app.db.write("test", grant).await.expect("granted");
    test.clock.advance_ms(30_000);
    let is_admin = async || {
        let user = super::super::authenticate(&test.app, &access).await;
        user.expect("holds").roles.contains(&Role::Admin)
    };
    assert!(!is_admin().await);
    set_up(&test, &access).await;
    assert!(is_admin().await);
}
