//! Tickets: one stream, once, soon, and no longer than who asked for it may be there.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Place, rented_by_account};
use crate::testing::{TestApp, on_both_stores};

on_both_stores!(a_ticket_opens_one_stream_once);

async fn a_ticket_opens_one_stream_once(test: TestApp) {
    let place = Place::open(test).await;
    let ticket = async |verb: Value| {
        let made = place
            .test()
            .post(&place.path("tickets"), &place.token(), &verb)
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.json()["ticket"].as_str().expect("a ticket").to_owned()
    };
    let by = async |ticket: &str| {
        let path = place.path(&format!("logs?ticket={ticket}"));
        place.test().get(&path, "").await.status
    };
    let logs = json!({"verb": "logs"});
    let once = ticket(logs.clone()).await;
    let beside = place.test().beside();
    assert_eq!(by(&once).await, StatusCode::OK);
    assert_eq!(by(&once).await, StatusCode::UNAUTHORIZED, "used");
    let path = place.path(&format!("logs?ticket={once}"));
    assert_eq!(beside.get(&path, "").await.status, StatusCode::UNAUTHORIZED);
    // for something else, which uses it up
    let exec = ticket(json!({"verb": "exec"})).await;
    assert_eq!(by(&exec).await, StatusCode::UNAUTHORIZED);
    let port = ticket(json!({"verb": "port", "port": 7})).await;
    let other = place.path(&format!("ports/8?ticket={port}"));
    assert_eq!(place.socket(&other, &[]).await.expect_err("refused"), 401);
    let port = ticket(json!({"verb": "port", "port": 7})).await;
    let right = place.path(&format!("ports/7?ticket={port}"));
    drop(place.socket(&right, &[]).await.expect("a socket"));
    // too late
    let late = ticket(logs.clone()).await;
    place.test().clock.advance_ms(30_001);
    assert_eq!(by(&late).await, StatusCode::UNAUTHORIZED);
    assert_eq!(by("rmk_guessed").await, StatusCode::UNAUTHORIZED);
    // unused ones are forgotten
    let db = &place.test().app.db;
    ticket(logs).await;
    place.test().clock.advance_ms(30_001);
    let now = place.test().app.task_context("test").now;
    let gone = crate::domain::gateway::tickets::forget(db, now).await;
    assert_eq!(gone.expect("forgotten"), 1);
    let odd = json!({"verb": "exec", "port": 7});
    let odd = place
        .test()
        .post(&place.path("tickets"), &place.token(), &odd)
        .await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn who_is_signed_out_is_let_in_by_no_ticket() {
    let mut place = Place::open(TestApp::new().await).await;
    let (rental, token) = rented_by_account(&mut place).await;
    let test = place.test();
    let path = format!("/api/v1/rentals/{rental}");
    let asked = json!({"verb": "logs"});
    let made = test.post(&format!("{path}/tickets"), &token, &asked).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let ticket = made.json()["ticket"].as_str().expect("a ticket").to_owned();
    sign_out(test, &token).await;
    let answer = test.get(&format!("{path}/logs?ticket={ticket}"), "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
}

/// Ends the session of an access token.
pub(super) async fn sign_out(test: &TestApp, token: &str) {
    let sessions = test.get("/api/v1/sessions", token).await.json();
    let own = sessions["items"].as_array().expect("sessions");
    let own = own.iter().find(|session| session["current"] == true);
    let id = own.expect("the own one")["id"].as_str().expect("an id");
    let path = format!("/api/v1/sessions/{id}");
    let ended = test
        .send(crate::testing::request(
            "DELETE",
            &path,
            token,
            &Value::Null,
        ))
        .await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{ended:?}");
}
