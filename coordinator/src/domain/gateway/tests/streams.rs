//! Streams into rentals: over links held here, over those that another coordinator holds, and what becomes of them when those go.

use std::time::Duration;

use shared::{
    id::RentalId,
    link::open::{Exec, LogsQuery, Open},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use crate::{
    error::Kind,
    testing::{
        TestApp,
        link::ScriptedLink,
        market::Market,
        served::{self, listen},
    },
};

/// What isn't there by then isn't coming.
const PATIENCE: Duration = Duration::from_secs(30);

fn dial(rental: RentalId, port: u16) -> Open {
    Open::Dial {
        rental_id: rental,
        host: "localhost".to_owned(),
        port,
    }
}

async fn echoes(test: &TestApp, rental: RentalId) {
    let mut stream = test
        .app
        .gateway
        .open(rental, &dial(rental, 7))
        .await
        .expect("a stream");
    stream.write_all(b"there and back").await.expect("written");
    stream.shutdown().await.expect("ended");
    let mut said = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut said)).await;
    read.expect("in time").expect("whole");
    assert_eq!(said, "there and back");
}

async fn refusal(test: &TestApp, rental: RentalId, open: &Open) -> (Kind, &'static str) {
    let opened = test.app.gateway.open(rental, open).await;
    let error = opened.expect_err("it is refused");
    (error.kind(), error.code())
}

#[tokio::test]
async fn a_stream_goes_to_the_rentals_node_and_what_is_refused_says_why() {
    let mut market = Market::open(TestApp::new().await).await;
    let rental = market.run(600).await;
    let test = &market.test;
    let away = (Kind::Unavailable { retry_after_s: 5 }, "node_unreachable");
    assert_eq!(refusal(test, rental, &dial(rental, 7)).await, away);
    let link = ScriptedLink::hold(test, market.node.id).await;
    echoes(test, rental).await;
    let closed = refusal(test, rental, &dial(rental, 8)).await;
    assert_eq!(closed, (Kind::Conflict, "port_not_open"));
    let missing = Open::Exec {
        rental_id: rental,
        exec: Exec {
            command: vec!["missing".to_owned()],
            ..Exec::default()
        },
    };
    let missing = refusal(test, rental, &missing).await;
    assert_eq!(missing, (Kind::Conflict, "command_not_started"));
    for address in [
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "fe80::1",
        "[fd00::1]",
        "::ffff:10.0.0.1",
    ] {
        let open = Open::Dial {
            rental_id: rental,
            host: address.to_owned(),
            port: 7,
        };
        let refused = refusal(test, rental, &open).await;
        assert_eq!(
            refused,
            (Kind::Forbidden, "address_not_allowed"),
            "{address}"
        );
    }
    // a quote takes two bytes on its way
    let quotes = Open::Exec {
        rental_id: rental,
        exec: Exec {
            command: vec!["\"".repeat(33_000)],
            ..Exec::default()
        },
    };
    let quotes = refusal(test, rental, &quotes).await;
    assert_eq!(quotes, (Kind::BadRequest, "stream_request_too_large"));
    link.cut().await;
    assert_eq!(refusal(test, rental, &dial(rental, 7)).await, away);
}

#[tokio::test]
async fn of_a_rental_that_is_over_only_what_is_kept_is_reached() {
    let mut market = Market::open(TestApp::new().await).await;
    let rental = market.run(600).await;
    let _link = ScriptedLink::hold(&market.test, market.node.id).await;
    market
        .node
        .finish(rental, 0, shared::wire::observed::ExitCause::Itself);
    market.node.beat(&market.test).await;
    let test = &market.test;
    let over = refusal(test, rental, &dial(rental, 7)).await;
    assert_eq!(over, (Kind::Conflict, "rental_not_running"));
    let logs = Open::Logs {
        rental_id: rental,
        query: LogsQuery::default(),
    };
    test.app.gateway.open(rental, &logs).await.expect("kept");
    let goes_on = test.app.db.read("test.goes_on", move |tx| {
        crate::domain::gateway::access::may_go_on(tx, rental)
    });
    assert!(!goes_on.await.expect("read"));
}

#[tokio::test]
async fn a_link_that_breaks_is_no_end_of_its_streams() {
    let mut market = Market::open(TestApp::new().await).await;
    let rental = market.run(600).await;
    let test = &market.test;
    let link = ScriptedLink::hold(test, market.node.id).await;
    let open = dial(rental, 7);
    let mut stream = test
        .app
        .gateway
        .open(rental, &open)
        .await
        .expect("a stream");
    stream.write_all(b"x").await.expect("written");
    assert_eq!(stream.read_u8().await.expect("echoed"), b'x');
    link.cut().await;
    let read = timeout(PATIENCE, stream.read_u8()).await.expect("in time");
    let cut = read.expect_err("cut").kind();
    assert_eq!(cut, std::io::ErrorKind::ConnectionReset);
    // the agent links anew, and again before the old link is known to be dead
    let older = ScriptedLink::hold(test, market.node.id).await;
    echoes(test, rental).await;
    let _newer = ScriptedLink::hold(test, market.node.id).await;
    timeout(PATIENCE, older.gone()).await.expect("replaced");
    echoes(test, rental).await;
}

#[tokio::test]
async fn streams_of_a_rental_are_bounded_and_their_places_come_back() {
    let test = TestApp::with(|config| config.gateway.streams_per_rental_max = 3).await;
    let mut market = Market::open(test).await;
    let rental = market.run(600).await;
    let test = &market.test;
    let _link = ScriptedLink::hold(test, market.node.id).await;
    let open = dial(rental, 7);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(test.app.gateway.open(rental, &open).await.expect("room"));
    }
    let many = refusal(test, rental, &open).await;
    assert_eq!(
        many,
        (Kind::TooMany { retry_after_s: 5 }, "too_many_streams")
    );
    streams.clear();
    echoes(test, rental).await;
}

/// Two coordinators on one PostgreSQL that reach each other.
async fn two() -> (TestApp, TestApp) {
    let (one, one_url) = listen().await;
    let (two, two_url) = listen().await;
    let first = TestApp::on_postgres_with(|config| config.gateway.peer_url = Some(one_url)).await;
    let second = first.beside_with(|config| config.gateway.peer_url = Some(two_url));
    first.serve(one);
    second.serve(two);
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_another_coordinator_holds_is_reached_over_it() {
    let (first, second) = two().await;
    let mut market = Market::open(first).await;
    let rental = market.run(600).await;
    let node = market.node.id;
    let first = &market.test;
    let link = ScriptedLink::hold(&second, node).await;
    echoes(first, rental).await;
    echoes(&second, rental).await;
    // refusals come as they are
    let closed = refusal(first, rental, &dial(rental, 8)).await;
    assert_eq!(closed, (Kind::Conflict, "port_not_open"));
    // many streams share the connection
    let open = dial(rental, 7);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(
            first
                .app
                .gateway
                .open(rental, &open)
                .await
                .expect("a stream"),
        );
    }
    for (number, stream) in (0..).zip(&mut streams) {
        stream.write_u8(number).await.expect("written");
        assert_eq!(stream.read_u8().await.expect("echoed"), number);
    }
    // a link that breaks there is known here
    link.cut().await;
    let read = timeout(PATIENCE, streams[0].read_u8()).await;
    read.expect("in time").expect_err("cut");
    let away = (Kind::Unavailable { retry_after_s: 5 }, "node_unreachable");
    assert_eq!(refusal(first, rental, &open).await, away);
    // the agent comes to the first one
    let _link = ScriptedLink::hold(first, node).await;
    echoes(&second, rental).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_died_keeps_nobody_waiting() {
    let (first, second) = two().await;
    let mut market = Market::open(first).await;
    let rental = market.run(600).await;
    let node = market.node.id;
    let first = &market.test;
    let lost = ScriptedLink::hold(&second, node).await;
    echoes(first, rental).await;
    // its row stays
    second.app.shutdown.cancel();
    let begun = Instant::now();
    let away = (Kind::Unavailable { retry_after_s: 5 }, "node_unreachable");
    assert_eq!(refusal(first, rental, &dial(rental, 7)).await, away);
    assert_eq!(refusal(first, rental, &dial(rental, 7)).await, away);
    assert!(begun.elapsed() < PATIENCE);
    let _link = ScriptedLink::hold(first, node).await;
    echoes(first, rental).await;
    drop(lost);
}

#[tokio::test]
async fn only_coordinators_connect_where_coordinators_do() {
    let (listener, url) = listen().await;
    let own = url.clone();
    let test = TestApp::with(|config| config.gateway.peer_url = Some(own)).await;
    test.serve(listener);
    let alone = TestApp::new().await;
    let path = crate::domain::gateway::relay::PATH;
    assert_eq!(alone.get(path, "").await.status, 404);
    let answer = test.get(path, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_str()),
        (401, Some("peer_proof"))
    );
    // one that holds another secret
    let (_, other_url) = served::listen().await;
    let stranger = TestApp::with(|config| config.gateway.peer_url = Some(other_url)).await;
    let relay = stranger.app.gateway.relay.as_ref().expect("there is one");
    let open = dial(stranger.app.ids.mint(), 7);
    let refused = relay.reach(&url, stranger.app.ids.mint(), &open).await;
    assert_eq!(refused.expect_err("refused").code(), "node_unreachable");
}
