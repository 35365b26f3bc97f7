//! What a rental wrote, and what it used: as a page, and as events that are followed and gone on with.

use axum::{body::Body, http::StatusCode};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{interval, timeout},
};

use super::{PATIENCE, Place};
use crate::testing::{TestApp, request};

async fn lines(place: &Place, query: &str) -> Vec<String> {
    let path = place.path(&format!("logs{query}"));
    let answer = place.test().get(&path, &place.token()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let page = answer.json();
    assert_eq!(page["more"], false);
    let items = page["items"].as_array().expect("lines");
    let text = |line: &Value| line["line"].as_str().expect("a line").to_owned();
    items.iter().map(text).collect()
}

#[tokio::test]
async fn a_page_of_logs_is_what_was_asked_for() {
    let place = Place::open(TestApp::new().await).await;
    assert_eq!(lines(&place, "").await, ["line 1", "line 2", "line 3"]);
    assert_eq!(lines(&place, "?tail=1").await, ["line 3"]);
    assert_eq!(lines(&place, "?stream=stderr").await, ["line 2"]);
    assert_eq!(lines(&place, "?search=e%203").await, ["line 3"]);
    let since = "?since=2027-01-15T08:00:02Z";
    assert_eq!(lines(&place, since).await, ["line 2", "line 3"]);
    for bad in ["tail=10001", "stream=both", "since=yesterday", "lines=1"] {
        let path = place.path(&format!("logs?{bad}"));
        let refused = place.test().get(&path, &place.token()).await;
        assert!(refused.status.is_client_error(), "{bad}: {refused:?}");
    }
    let used = place
        .test()
        .get(&place.path("metrics"), &place.token())
        .await;
    assert_eq!(
        used.json(),
        json!({"items": [{"n": 1}, {"n": 2}, {"n": 3}], "more": false})
    );
    place.until_no_stream().await;
}

/// Reads events until one whose text contains `last`; their text.
async fn events_until(body: Body, last: &str) -> (String, axum::body::BodyDataStream) {
    let mut body = body.into_data_stream();
    let mut text = String::new();
    while !text.contains(last) {
        let piece = timeout(PATIENCE, body.next()).await.expect("in time");
        let piece = piece.expect("more").expect("whole");
        text.push_str(std::str::from_utf8(&piece).expect("text"));
    }
    (text, body)
}

#[tokio::test]
async fn logs_are_followed_and_gone_on_with_after_a_cut() {
    let place = Place::open(TestApp::new().await).await;
    let path = place.path("logs?follow=true");
    let answer = place
        .test()
        .open(request("GET", &path, &place.token(), &Value::Null))
        .await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (text, body) = events_until(answer.into_body(), "line 3").await;
    assert_eq!(text.matches("event: line").count(), 3, "{text}");
    place.link.say(4);
    let (text, body) = events_until(Body::from_stream(body), "\n\n").await;
    assert!(
        text.contains("id: 1800000004000000-1") && text.contains("line 4"),
        "{text}"
    );
    place.link.cut().await;
    let (_, body) = events_until(Body::from_stream(body), "event: cut").await;
    let rest: Vec<_> = body.collect().await;
    assert!(rest.is_empty(), "it ends");
    let _again = crate::testing::link::ScriptedLink::hold(place.test(), place.market.node.id).await;
    let path = place.path("logs");
    let mut resumed = request("GET", &path, &place.token(), &Value::Null);
    let headers = resumed.headers_mut();
    headers.insert("accept", "text/event-stream".parse().expect("a value"));
    headers.insert(
        "last-event-id",
        "1800000001000000-1".parse().expect("a value"),
    );
    let answer = place.test().open(resumed).await;
    let (text, body) = events_until(answer.into_body(), "line 3").await;
    assert!(
        !text.contains("line 1") && text.contains("line 2"),
        "{text}"
    );
    drop(body);
    place.until_no_stream().await;
    let path = place.path("metrics?follow=true");
    let answer = place
        .test()
        .open(request("GET", &path, &place.token(), &Value::Null))
        .await;
    let (text, _) = events_until(answer.into_body(), "event: end").await;
    assert_eq!(text.matches("event: sample").count(), 3, "{text}");
}

#[tokio::test]
async fn a_follower_that_never_reads_is_dropped() {
    let test = TestApp::with(|config| config.gateway.stall_s = 1).await;
    let place = Place::open(test).await;
    let mut connection = TcpStream::connect(&place.host).await.expect("connected");
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\r\n",
        place.path("logs?follow=true&search=flood"),
        place.host,
        place.token()
    );
    connection.write_all(head.as_bytes()).await.expect("sent");
    let mut look = interval(std::time::Duration::from_millis(20));
    let begun = async {
        while place.test().app.gateway.open_streams() == 0 {
            look.tick().await;
        }
    };
    timeout(PATIENCE, begun).await.expect("it follows");
    place.until_no_stream().await;
    assert!(place.link.flooded_bytes() < 64 << 20);
    drop(connection);
}
