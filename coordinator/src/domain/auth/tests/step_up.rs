//! Tests of the fresh proof: who gave it, for how long it counts, and that other sessions don't get it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{LOGIN, SIGNUP, ada, text};
use crate::{
    context::{Actor, OpCtx},
    domain::auth,
    testing::{TestApp, on_both_stores},
};

const STEP_UP: &str = "/api/v1/auth/step-up";

async fn context(test: &TestApp, token: &str) -> OpCtx {
    let user = auth::authenticate(&test.app, token).await.expect("holds");
    test.app.context(Actor::User(user), "test".to_owned())
}

async fn is_fresh(test: &TestApp, token: &str) -> bool {
    match auth::require_fresh(&context(test, token).await) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), "step_up_required");
            false
        }
    }
}

on_both_stores!(a_proof_is_fresh_for_five_minutes_in_its_session);

async fn a_proof_is_fresh_for_five_minutes_in_its_session(test: TestApp) {
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let login = test.post(LOGIN, "", &ada("a long password")).await;
    let (one, other) = (text(&signup, "access_token"), text(&login, "access_token"));
    assert!(is_fresh(&test, &one).await && is_fresh(&test, &other).await);
    test.clock.advance_ms(auth::session::FRESH_MS);
    assert!(is_fresh(&test, &one).await);
    test.clock.advance_ms(1);
    assert!(!is_fresh(&test, &one).await);

    let proof = json!({"password": "a long password"});
    let wrong = test
        .post(STEP_UP, &one, &json!({"password": "a wrong password"}))
        .await;
    assert_eq!(
        (wrong.status, text(&wrong, "code").as_str()),
        (StatusCode::FORBIDDEN, "proof_refused")
    );
    assert!(!is_fresh(&test, &one).await);
    let proven = test.post(STEP_UP, &one, &proof).await;
    assert_eq!(proven.status, StatusCode::NO_CONTENT, "{proven:?}");
    // at once, though the session was remembered without the proof
    assert!(is_fresh(&test, &one).await);
    assert!(!is_fresh(&test, &other).await);
    // a refresh proves nothing
    test.clock.advance_ms(auth::session::FRESH_MS + 1);
    let refreshed = super::refresh(&test, &text(&signup, "refresh_token")).await;
    assert!(!is_fresh(&test, &text(&refreshed, "access_token")).await);
}

#[tokio::test]
async fn proving_needs_a_session_and_guessing_is_limited() {
    let test = TestApp::new().await;
    let proof = json!({"password": "a long password"});
    let nobody = test.post(STEP_UP, "", &proof).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let token = test.signup("ada@example.org", &[]).await;
    let wrong = json!({"password": "a wrong password"});
    for _ in 0..5 {
        let answer = test.post(STEP_UP, &token, &wrong).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    let answer = test.post(STEP_UP, &token, &proof).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let anonymous = test.app.context(Actor::Anonymous, "test".to_owned());
    assert!(auth::require_fresh(&anonymous).is_err());
    assert_eq!(
        test.post("/api/v1/auth/step-up", &token, &Value::Null)
            .await
            .status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}
