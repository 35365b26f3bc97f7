//! Tests of the server over real sockets: heads are bounded, requests under way finish, streams end, the rest is fast.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use serde_json::json;

use super::start;
use crate::{
    domain::events::{self, Event},
    lifecycle::Lifecycle,
    testing::TestApp,
};

const PATIENCE: Duration = Duration::from_secs(20);

async fn running() -> (TestApp, Lifecycle, std::net::SocketAddr) {
    let test = TestApp::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let lifecycle = Lifecycle::new(test.app.shutdown.clone());
    start(&test.app, (listener, None), &lifecycle).expect("started");
    (test, lifecycle, address)
}

/// Reads until `until` was seen, or the end.
async fn read(stream: &mut TcpStream, until: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .expect("in time");
        let count = count.expect("read");
        text.extend_from_slice(&buffer[..count]);
        let seen = String::from_utf8_lossy(&text);
        if count == 0 || seen.contains(until) {
            return seen.into_owned();
        }
    }
}

async fn ask(address: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(head.as_bytes()).await.expect("sent");
    read(&mut stream, "\r\n\r\n").await
}

#[tokio::test]
async fn heads_are_bounded() {
    let (_test, lifecycle, address) = running().await;
    let fine = ask(address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
    for (count, length, in_words) in [
        (65, 1, true),
        (129, 1, false),
        (1, 20_000, true),
        (1, 65_536, false),
    ] {
        let headers = format!("a: {}\r\n", "b".repeat(length)).repeat(count);
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let answer = ask(address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{count}: {answer}");
        assert_eq!(answer.contains("application/problem+json"), in_words);
    }
    lifecycle.stop().await.expect("in good order");
}

#[tokio::test]
async fn stopping_lets_a_request_finish_and_ends_streams() {
    let (test, lifecycle, address) = running().await;
    let token = test.signup("ada@example.org", &[]).await;
    let mut events = TcpStream::connect(address).await.expect("connect");
    let head =
        format!("GET /api/v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    events.write_all(head.as_bytes()).await.expect("sent");
    assert!(
        read(&mut events, "ramarket")
            .await
            .contains("text/event-stream")
    );
    // half of a body is there when the end begins
    let mut login = TcpStream::connect(address).await.expect("connect");
    let body = r#"{"email":"ada@example.org","password":"a long password"}"#;
    let head = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    login.write_all(head.as_bytes()).await.expect("sent");
    // the handler asks for the body: it is running now
    assert!(read(&mut login, "\r\n\r\n").await.contains("100 Continue"));
    let (half, rest) = body.split_at(20);
    login.write_all(half.as_bytes()).await.expect("sent");
    let stop = tokio::spawn(async move { lifecycle.stop().await });
    read(&mut events, "\r\n0\r\n\r\n").await;
    login.write_all(rest.as_bytes()).await.expect("sent");
    let answer = read(&mut login, "access_token").await;
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    stop.await.expect("no panic").expect("in good order");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn rentals_and_the_console_are_never_on_one_listener_where_there_are_two() {
    let test = TestApp::with(|config| {
        config.gateway.tenant_domain = Some("apps.test".to_owned());
        config.gateway.tenant_listen = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let console = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let rentals = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let ours = console.local_addr().expect("an address");
    let theirs = rentals.local_addr().expect("an address");
    let lifecycle = Lifecycle::new(test.app.shutdown.clone());
    start(&test.app, (console, Some(rentals)), &lifecycle).expect("started");
    let get = async |address, path: &str, host: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(head.as_bytes()).await.expect("sent");
        read(&mut stream, "</html>").await
    };
    let rental = "80-rnt-00000000000000000000000000000000.apps.test";
    for path in [
        "/healthz",
        "/",
        "/login",
        "/api/v1/offers",
        "/metrics",
        "/internal/streams",
    ] {
        for host in ["127.0.0.1", "market.test", "xapps.test", ""] {
            let answer = get(theirs, path, host).await;
            assert!(
                answer.starts_with("HTTP/1.1 421"),
                "{path} at {host}: {answer}"
            );
        }
        for host in ["apps.test", "www.apps.test", rental] {
            let answer = get(theirs, path, host).await;
            assert!(
                answer.starts_with("HTTP/1.1 404"),
                "{path} at {host}: {answer}"
            );
            let answer = get(ours, path, host).await;
            assert!(
                answer.starts_with("HTTP/1.1 421"),
                "{path} at {host}: {answer}"
            );
        }
    }
    let fine = ask(ours, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
    lifecycle.stop().await.expect("in good order");
}

#[tokio::test]
async fn a_follower_of_events_that_never_reads_is_cut_off() {
    let test = TestApp::with(|config| config.http.stall_s = 1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let lifecycle = Lifecycle::new(test.app.shutdown.clone());
    start(&test.app, (listener, None), &lifecycle).expect("started");
    let token = test.signup("ada@example.org", &[]).await;
    let me = test.get("/api/v1/auth/me", &token).await.json();
    let me = me["id"].as_str().expect("an id").parse().expect("an id");
    let mut events = TcpStream::connect(address).await.expect("connect");
    let head =
        format!("GET /api/v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    events.write_all(head.as_bytes()).await.expect("sent");
    read(&mut events, "ramarket").await;
    let free = test.app.events.places_free();
    // more than buffers hold: 40 MiB
    for _ in 0..20 {
        let ctx = test.app.task_context("test");
        let much = move |tx: &mut dyn crate::store::Tx| {
            for _ in 0..160 {
                let event = Event {
                    consumer: Some(me),
                    ..Event::new("test.much", json!({"text": "x".repeat(13_000)}))
                };
                events::append(tx, &ctx, event)?;
            }
            Ok::<_, crate::error::Error>(())
        };
        test.app.db.write("test.much", much).await.expect("written");
    }
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let cut_off = async {
        while test.app.events.places_free() == free {
            look.tick().await;
        }
    };
    timeout(PATIENCE * 3, cut_off).await.expect("it is cut off");
    drop(events);
    lifecycle.stop().await.expect("in good order");
}
