//! A device asks, a person confirms on the page, the device redeems; and everything else that may come.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::model::{HOLDS_MS, INTERVAL_S};
use crate::{
    domain::auth,
    tasks::{Task as _, forgetting::Forgetting},
    testing::{Answer, TestApp, on_both_stores},
};

const BEGIN: &str = "/api/v1/auth/device";
const REDEEM: &str = "/api/v1/auth/device/token";
const ME: &str = "/api/v1/auth/me";

on_both_stores!(
    a_person_confirms_and_the_device_gets_its_key_once,
    what_is_refused_or_too_old_gets_nothing
);

async fn begin(test: &TestApp) -> Value {
    let wish =
        json!({"client_name": "<b>laptop</b>", "scopes": ["account:read"], "expires_in_days": 7});
    let begun = test.post(BEGIN, "", &wish).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    assert_eq!(begun.headers["cache-control"], "no-store");
    begun.json()
}

async fn redeem(test: &TestApp, begun: &Value) -> Answer {
    let body = json!({"device_code": begun["device_code"]});
    test.post(REDEEM, "", &body).await
}

fn code(answer: &Answer) -> String {
    answer.json()["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The page of a code, with somebody's cookie.
async fn page(test: &TestApp, token: &str, begun: &Value) -> (StatusCode, String) {
    let code = begun["user_code"].as_str().expect("a code");
    let request = Request::get(format!("/device?code={code}"))
        .header(header::COOKIE, format!("at={token}"))
        .body(Body::empty());
    let answer = test.send(request.expect("a request")).await;
    (answer.status, text(&answer))
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn mark_of(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"mark\" value=\"").expect("a mark");
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// Sends the form; from `site`, as browsers say.
async fn decide(
    test: &TestApp,
    token: &str,
    begun: &Value,
    (mark, decision, site): (&str, &str, &str),
) -> Answer {
    let code = begun["user_code"].as_str().expect("a code");
    let request = Request::post("/device")
        .header(header::COOKIE, format!("at={token}"))
        .header("sec-fetch-site", site)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(format!(
            "code={code}&mark={mark}&decision={decision}"
        )));
    test.send(request.expect("a request")).await
}

async fn a_person_confirms_and_the_device_gets_its_key_once(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let begun = begin(&test).await;
    let link = begun["verification_uri_complete"].as_str().expect("a link");
    assert!(link.contains("/device?code="), "{link}");
    assert_eq!(code(&redeem(&test, &begun).await), "authorization_pending");
    assert_eq!(code(&redeem(&test, &begun).await), "slow_down");
    // whoever isn't signed in learns nothing, and comes back by the login
    let (status, stranger) = page(&test, "", &begun).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        stranger.contains("/login?next=%2Fdevice%3Fcode%3D"),
        "{stranger}"
    );
    assert!(!stranger.contains("laptop"));
    let (status, shown) = page(&test, &ada, &begun).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        shown.contains("&lt;b&gt;laptop") && shown.contains("account:read"),
        "{shown}"
    );
    let mark = mark_of(&shown);
    for (mark, site) in [
        (mark.as_str(), "cross-site"),
        ("0", "same-origin"),
        (&mark, "same-site"),
    ] {
        let forged = decide(&test, &ada, &begun, (mark, "approve", site)).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN, "{site}: {forged:?}");
    }
    // another person's mark isn't theirs
    let eve = test.signup("eve@example.org", &[]).await;
    let stolen = decide(&test, &eve, &begun, (&mark, "approve", "same-origin")).await;
    assert_eq!(stolen.status, StatusCode::FORBIDDEN);
    let done = decide(&test, &ada, &begun, (&mark, "approve", "same-origin")).await;
    assert_eq!(done.status, StatusCode::OK, "{}", text(&done));
    let again = decide(&test, &ada, &begun, (&mark, "deny", "same-origin")).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    test.clock.advance_ms(INTERVAL_S * 1_000);
    let redeemed = redeem(&test, &begun).await;
    assert_eq!(redeemed.status, StatusCode::OK, "{redeemed:?}");
    let key = redeemed.json()["access_token"]
        .as_str()
        .expect("a key")
        .to_owned();
    assert_eq!(test.get(ME, &key).await.json()["email"], "ada@example.org");
    assert_eq!(redeemed.json()["scope"], "account:read");
    assert_eq!(
        code(&redeem(&test, &begun).await),
        "expired_token",
        "it is redeemed once"
    );
    let keys = test.get("/api/v1/api-keys", &ada).await.json();
    assert_eq!(keys["items"][0]["name"], "<b>laptop</b>");
}

async fn what_is_refused_or_too_old_gets_nothing(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let refused = begin(&test).await;
    let (_, shown) = page(&test, &ada, &refused).await;
    let mark = mark_of(&shown);
    let done = decide(&test, &ada, &refused, (&mark, "deny", "same-origin")).await;
    assert_eq!(done.status, StatusCode::OK);
    assert_eq!(code(&redeem(&test, &refused).await), "access_denied");
    assert_eq!(code(&redeem(&test, &refused).await), "expired_token");
    // a proof of who it is that is too old
    let late = begin(&test).await;
    let (_, shown) = page(&test, &ada, &late).await;
    test.clock.advance_ms(auth::session::FRESH_MS + 1);
    let (status, stale) = page(&test, &ada, &late).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        stale.contains("Sign in again") && !stale.contains("laptop"),
        "{stale}"
    );
    let mark = mark_of(&shown);
    let done = decide(&test, &ada, &late, (&mark, "approve", "same-origin")).await;
    assert_eq!(done.status, StatusCode::FORBIDDEN);
    // ten minutes
    test.clock.advance_ms(HOLDS_MS);
    assert_eq!(code(&redeem(&test, &late).await), "expired_token");
    let task = Forgetting(test.app.clone()).activate().await;
    assert_eq!(task.expect("done")["device_logins"], 1);
    let unknown = json!({"device_code": "x".repeat(2_000)});
    let unknown = test.post(REDEEM, "", &unknown).await;
    assert_eq!(code(&unknown), "expired_token");
}

#[tokio::test]
async fn codes_are_not_guessed() {
    let test = TestApp::new().await;
    let ada = test.signup("ada@example.org", &[]).await;
    let guess = json!({"user_code": "BCDF-GHJK"});
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(page(&test, &ada, &guess).await.0);
    }
    assert!(
        answers[..10]
            .iter()
            .all(|status| *status == StatusCode::NOT_FOUND),
        "{answers:?}"
    );
    assert_eq!(answers[11], StatusCode::TOO_MANY_REQUESTS);
    let begins = json!({"client_name": "x", "scopes": ["account:read"]});
    let mut last = StatusCode::OK;
    for _ in 0..21 {
        last = test.post(BEGIN, "", &begins).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    for bad in [
        json!({"client_name": "", "scopes": ["account:read"]}),
        json!({"client_name": "x", "scopes": []}),
        json!({"client_name": "x", "scopes": ["everything"]}),
        json!({"client_name": "x", "scopes": ["account:read"], "expires_in_days": 91}),
    ] {
        test.clock.advance_ms(60_000);
        let refused = test.post(BEGIN, "", &bad).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}
