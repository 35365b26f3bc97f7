//! Tests of the stream: placed once, in order, seen by whom it concerns, resumed without gap or repetition.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::StatusCode};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use shared::id::{RentalId, UserId};
use tokio::time::timeout;

use super::{Event, Feed, Relay, append};
use crate::testing::{TestApp, request};

const PATIENCE: Duration = Duration::from_secs(20);

async fn write(test: &TestApp, consumer: Option<UserId>, rental: Option<RentalId>, number: u32) {
    let ctx = test.app.task_context("test");
    test.app
        .db
        .write("test", move |tx| {
            let mut event = Event::new("test.happened", json!({ "number": number }));
            (event.consumer, event.rental) = (consumer, rental);
            append(tx, &ctx, event)
        })
        .await
        .expect("written");
}

async fn take(feed: &mut Feed, count: usize) -> Vec<i64> {
    let mut seqs = Vec::new();
    for _ in 0..count {
        let event = timeout(PATIENCE, feed.next()).await.expect("in time");
        seqs.push(event.expect("read").expect("an event").seq);
    }
    seqs
}

#[tokio::test]
async fn an_event_of_a_transaction_that_failed_never_was() {
    let test = TestApp::new().await;
    let ctx = test.app.task_context("test");
    let outcome: crate::error::Result<()> = test
        .app
        .db
        .write("test", move |tx| {
            append(tx, &ctx, Event::new("test.happened", Value::Null))?;
            Err(crate::error::Error::conflict("no", "no"))
        })
        .await;
    assert!(outcome.is_err());
    let ran = Relay::default().run(&test.app.db, &test.app.events).await;
    assert_eq!(ran.expect("ran"), (0, 0));
}

#[tokio::test]
async fn several_relays_place_each_event_once_on_sqlite() {
    several_relays_place_each_event_once(&TestApp::new().await).await;
}

#[tokio::test]
async fn several_relays_place_each_event_once_on_postgres() {
    several_relays_place_each_event_once(&TestApp::on_postgres().await).await;
}

async fn several_relays_place_each_event_once(test: &TestApp) {
    let other = super::Events::new(1);
    let (db, here) = (&test.app.db, &test.app.events);
    let mut relays = (Relay::default(), Relay::default());
    relays.0.run(db, here).await.expect("ran");
    relays.1.run(db, &other).await.expect("ran");
    let mut feeds = (
        Feed::open(db, here, None).await.expect("open"),
        Feed::open(db, &other, None).await.expect("open"),
    );
    for round in 0..30 {
        write(test, None, None, round).await;
        let (one, two) = tokio::join!(relays.0.run(db, here), relays.1.run(db, &other));
        let placed = one.expect("ran").0 + two.expect("ran").0;
        assert_eq!(placed, 1);
    }
    // whoever lost the last race sees the event at its next turn
    relays.0.run(db, here).await.expect("ran");
    relays.1.run(db, &other).await.expect("ran");
    let all: Vec<i64> = (1..=30).collect();
    assert_eq!(take(&mut feeds.0, 30).await, all);
    assert_eq!(take(&mut feeds.1, 30).await, all);
}

#[tokio::test]
async fn a_feed_goes_from_history_to_live_and_survives_lag_on_sqlite() {
    a_feed_goes_from_history_to_live_and_survives_lag(&TestApp::new().await).await;
}

#[tokio::test]
async fn a_feed_goes_from_history_to_live_and_survives_lag_on_postgres() {
    a_feed_goes_from_history_to_live_and_survives_lag(&TestApp::on_postgres().await).await;
}

async fn a_feed_goes_from_history_to_live_and_survives_lag(test: &TestApp) {
    let (db, events) = (&test.app.db, &test.app.events);
    let mut relay = Relay::default();
    relay.run(db, events).await.expect("ran");
    for number in 0..450 {
        write(test, None, None, number).await;
    }
    relay.run(db, events).await.expect("ran");
    let mut feed = Feed::open(db, events, Some(3)).await.expect("open");
    // while the history is read, more happens than the live end holds
    assert_eq!(take(&mut feed, 10).await, (4..=13).collect::<Vec<_>>());
    let ctx = test.app.task_context("test");
    db.write("test", move |tx| {
        for number in 0..1_500 {
            append(
                tx,
                &ctx,
                Event::new("test.happened", json!({ "number": number })),
            )?;
        }
        Ok(())
    })
    .await
    .expect("written");
    relay.run(db, events).await.expect("ran");
    assert_eq!(
        take(&mut feed, 1_937).await,
        (14..=1_950).collect::<Vec<_>>()
    );
    write(test, None, None, 0).await;
    relay.run(db, events).await.expect("ran");
    assert_eq!(take(&mut feed, 1).await, [1_951]);
    // a place that was never given begins at the end
    let mut ahead = Feed::open(db, events, Some(99_999)).await.expect("open");
    write(test, None, None, 0).await;
    relay.run(db, events).await.expect("ran");
    assert_eq!(take(&mut ahead, 1).await, [1_952]);
}

struct Reader {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Reader {
    async fn open(test: &TestApp, token: &str, after: Option<&str>) -> Self {
        let mut request = request("GET", "/api/v1/events", token, &Value::Null);
        if let Some(after) = after {
            let value = after.parse().expect("header");
            request.headers_mut().insert("last-event-id", value);
        }
        let answer = test.open(request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            body: Body::into_data_stream(answer.into_body()),
            text: String::new(),
        }
    }

    /// Id and number of the next event; nothing at the end of the stream.
    async fn next(&mut self) -> Option<(String, i64)> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim_start_matches(": ").to_owned())
                };
                if let Some(id) = field("id") {
                    let data: Value = serde_json::from_str(&field("data")?).expect("json");
                    assert_eq!(field("event").as_deref(), Some("test.happened"));
                    return Some((id, data["payload"]["number"].as_i64().expect("number")));
                }
            }
            let bytes = timeout(PATIENCE, self.body.next())
                .await
                .expect("in time")?;
            self.text
                .push_str(&String::from_utf8_lossy(&bytes.expect("bytes")));
        }
    }
}

#[tokio::test]
async fn a_client_resumes_where_it_left_and_sees_only_its_own() {
    let test = TestApp::new().await;
    let lifecycle = test.start_tasks();
    let token = test.signup("ada@example.org", &[]).await;
    let me = test.get("/api/v1/auth/me", &token).await.json();
    let me: UserId = me["id"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("id");
    let stranger: UserId = test.app.ids.mint();
    let rental: RentalId = test.app.ids.mint();
    assert_eq!(
        test.get("/api/v1/events", "").await.status,
        StatusCode::UNAUTHORIZED
    );

    let mut reader = Reader::open(&test, &token, None).await;
    write(&test, Some(stranger), None, 1).await;
    write(&test, Some(me), Some(rental), 2).await;
    let (id, number) = reader.next().await.expect("an event");
    assert_eq!((id.as_str(), number), ("2", 2));
    drop(reader);
    // missed while away: some mine, some not
    for number in 3..=20 {
        let whose = if number % 2 == 0 { me } else { stranger };
        write(&test, Some(whose), None, number).await;
    }
    let mut reader = Reader::open(&test, &token, Some(&id)).await;
    write(&test, Some(me), None, 21).await;
    for expected in [4, 6, 8, 10, 12, 14, 16, 18, 20, 21] {
        assert_eq!(reader.next().await.expect("an event").1, expected);
    }
    let rental_token = test.app.rental_tokens.mint(rental);
    let mut of_rental = Reader::open(&test, rental_token.expose(), Some("0")).await;
    assert_eq!(of_rental.next().await.expect("an event").1, 2);
    write(&test, Some(me), None, 22).await;
    write(&test, None, Some(rental), 23).await;
    assert_eq!(of_rental.next().await.expect("an event").1, 23);
    assert_eq!(reader.next().await.expect("an event").1, 22);

    lifecycle.stop().await.expect("in good order");
    assert_eq!(reader.next().await, None);
    assert_eq!(of_rental.next().await, None);
}

#[tokio::test]
async fn streams_are_bounded_and_ids_are_checked() {
    let test = TestApp::with(|config| config.http.event_streams_max = 1).await;
    let token = test.signup("ada@example.org", &[]).await;
    let first = Reader::open(&test, &token, None).await;
    let second = test.get("/api/v1/events", &token).await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    drop(first);
    for odd in ["x", "-1", "1.5"] {
        let mut request = request("GET", "/api/v1/events", &token, &Value::Null);
        request
            .headers_mut()
            .insert("last-event-id", odd.parse().expect("header"));
        assert_eq!(
            test.send(request).await.status,
            StatusCode::BAD_REQUEST,
            "{odd}"
        );
    }
    drop(Reader::open(&test, &token, None).await);
}

#[tokio::test]
async fn in_process_listeners_hear_what_is_committed() {
    let test = TestApp::new().await;
    let mut live = test.app.events.subscribe();
    let lifecycle = test.start_tasks();
    // the relay begins at the end: wait for its first turn, or it would skip what comes before it
    let turned = test
        .app
        .tasks
        .run_now(&[crate::tasks::event_relay::NAME])
        .await;
    assert_eq!(turned.expect("ran").len(), 1);
    write(&test, None, None, 7).await;
    let event = timeout(PATIENCE, live.recv())
        .await
        .expect("in time")
        .expect("heard");
    assert_eq!(
        (event.seq, Arc::clone(&event).payload.clone()),
        (1, json!({"number": 7}))
    );
    lifecycle.stop().await.expect("in good order");
}
