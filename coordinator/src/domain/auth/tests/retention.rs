//! Tests of forgetting: what is over goes, in bounded steps; what may still matter stays.

use axum::http::StatusCode;
use serde_json::json;
use shared::{
    clock::Clock as _,
    id::{SessionId, UserId},
};

use super::{LOGIN, ada, refresh, text};
use crate::{
    domain::auth::{retention, store::sessions},
    params,
    store::Tx,
    testing::{TestApp, on_both_stores},
};

const DAY_MS: i64 = 86_400_000;

async fn rows(test: &TestApp, table: &'static str) -> i64 {
    let count = move |tx: &mut dyn Tx| {
        let rows = tx.query(&format!("SELECT COUNT(*) FROM {table}"), &[])?;
        Ok(rows[0].int(0)?)
    };
    test.app
        .db
        .read("test.count", count)
        .await
        .expect("counted")
}

on_both_stores!(
    what_is_over_goes_and_what_may_matter_stays,
    a_session_goes_after_its_tokens_in_bounded_steps,
);

async fn what_is_over_goes_and_what_may_matter_stays(test: TestApp) {
    let old = test
        .post("/api/v1/auth/signup", "", &ada("a long password"))
        .await;
    refresh(&test, &text(&old, "refresh_token")).await;
    let wrong = test.post(LOGIN, "", &ada("a wrong password")).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let forget = async || {
        let now = test.clock.now();
        retention::forget(&test.app.db, now)
            .await
            .expect("forgotten")
    };
    assert_eq!(forget().await, retention::Forgotten::default());
    // the session ends after 30 days, and is kept for a week
    test.clock.advance_ms(37 * DAY_MS);
    let login = test.post(LOGIN, "", &ada("a long password")).await;
    let first = text(&login, "refresh_token");
    let next = refresh(&test, &first).await;
    let forgot = json!({"email": "ada@example.org"});
    test.post("/api/v1/auth/password/forgot", "", &forgot).await;
    test.app.background.close();
    test.app.background.wait().await;
    test.app.background.reopen();
    let kept = forget().await;
    assert_eq!(
        (kept.sessions, kept.links, kept.delays),
        (0, 1, 1),
        "{kept:?}"
    );
    test.clock.advance_ms(1);
    let done = forget().await;
    assert_eq!(
        (done.sessions, done.links),
        (3, 0),
        "a session and its two tokens"
    );
    assert_eq!(forget().await, retention::Forgotten::default());
    let left = (
        rows(&test, "sessions").await,
        rows(&test, "refresh_tokens").await,
        rows(&test, "account_links").await,
        rows(&test, "sign_in_delays").await,
    );
    assert_eq!(
        left,
        (1, 2, 1, 0),
        "the login just now and the link to choose a new password"
    );
    // the reuse of a token that stayed is still noticed
    test.clock.advance_ms(11_000);
    let reused = refresh(&test, &first).await;
    assert_eq!(reused.status, StatusCode::UNAUTHORIZED);
    let ended = refresh(&test, &text(&next, "refresh_token")).await;
    assert_eq!(ended.status, StatusCode::UNAUTHORIZED);
}

async fn a_session_goes_after_its_tokens_in_bounded_steps(test: TestApp) {
    let signup = test
        .post("/api/v1/auth/signup", "", &ada("a long password"))
        .await;
    let user: UserId = signup.json()["user"]["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("one");
    let (id, now) = (test.app.ids.mint::<SessionId>(), test.clock.now());
    let insert = move |tx: &mut dyn Tx| {
        tx.execute(
            "INSERT INTO sessions (id, user_id, created_us, ends_us) VALUES ($1, $2, $3, $3)",
            params![id, user, now.plus_ms(-1_000)],
        )?;
        for n in 0_u32..25 {
            let hash = n.to_be_bytes().to_vec();
            sessions::insert_refresh(tx, hash, id, now, now)?;
        }
        Ok(())
    };
    test.app
        .db
        .write("test.insert", insert)
        .await
        .expect("inserted");
    let mut steps = Vec::new();
    loop {
        let step = move |tx: &mut dyn Tx| sessions::forget_ended(tx, now, 10);
        let removed = test
            .app
            .db
            .write("test.forget", step)
            .await
            .expect("removed");
        steps.push((removed, rows(&test, "sessions").await));
        if removed < 10 {
            break;
        }
    }
    assert_eq!(steps, [(10, 2), (10, 2), (6, 1)]);
    assert_eq!(
        rows(&test, "refresh_tokens").await,
        1,
        "the one of the signup"
    );
}
