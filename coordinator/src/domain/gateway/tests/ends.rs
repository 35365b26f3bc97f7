//! What ends a stream that nobody closes: silence, access that is gone, a reader that never reads.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::wire::observed::ExitCause;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{interval, timeout},
};

use super::{
    PATIENCE, Place, rented_by_account,
    sockets::close_code,
    web::{echoes, place_with, status},
};
use crate::{
    context::Actor,
    domain::{
        auth::account,
        gateway::web::{self, WebPort},
    },
    store::Tx,
    testing::{TestApp, on_both_stores, request},
};

/// Returns when the other side has closed, with what it said until then.
async fn until_end(connection: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
    // whether in good order is the kernel's to say
    drop(ended.expect("it ends"));
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn an_upgraded_connection_and_an_answer_that_fall_silent_are_ended() {
    let place = place_with(|gateway| gateway.idle_s = 1).await;
    place.put(80, true).await;
    place.put(82, true).await;
    let mut upgraded = place.upgraded().await;
    echoes(&mut upgraded).await;
    until_end(&mut upgraded).await;
    let mut half = TcpStream::connect(&place.host).await.expect("connected");
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", place.name("82-"));
    half.write_all(head.as_bytes()).await.expect("sent");
    let said = until_end(&mut half).await;
    assert_eq!(status(&said), "200", "{said}");
    assert!(said.ends_with("half "), "{said}");
    place.until_no_stream().await;
}

#[tokio::test]
async fn an_answer_that_doesnt_begin_isnt_waited_for() {
    let place = place_with(|gateway| gateway.answer_s = 1).await;
    place.put(81, true).await;
    let answer = place.ask(&place.name("81-"), "/", "").await;
    assert_eq!(status(&answer), "504", "{answer}");
    place.until_no_stream().await;
}

#[tokio::test]
async fn who_may_not_visit_a_port_any_more_is_disconnected() {
    let place = place_with(|gateway| gateway.recheck_s = 1).await;
    place.put(80, true).await;
    let mut visitor = place.upgraded().await;
    echoes(&mut visitor).await;
    place.put(80, false).await;
    until_end(&mut visitor).await;
    place.put(80, true).await;
    let mut visitor = place.upgraded().await;
    let (path, token) = (place.path("ports/80"), place.token());
    let closed = request("DELETE", &path, &token, &Value::Null);
    let closed = place.test().send(closed).await;
    assert_eq!(closed.status, StatusCode::NO_CONTENT);
    until_end(&mut visitor).await;
    place.until_no_stream().await;
}

#[tokio::test]
async fn a_rentals_end_is_the_end_of_its_visits() {
    let mut place = place_with(|gateway| gateway.recheck_s = 1).await;
    place.put(80, true).await;
    let mut visitor = place.upgraded().await;
    echoes(&mut visitor).await;
    let rental = place.rental;
    place.market.node.finish(rental, 0, ExitCause::Itself);
    place.market.node.beat(&place.market.test).await;
    until_end(&mut visitor).await;
    place.until_no_stream().await;
}

on_both_stores!(what_a_visitor_was_let_in_to_decides_whether_they_stay);

async fn what_a_visitor_was_let_in_to_decides_whether_they_stay(test: TestApp) {
    let place = Place::open(test).await;
    let rental = place.rental;
    let db = &place.test().app.db;
    let put = async |public: bool| {
        place.test().clock.advance_ms(1);
        let ctx = place.test().app.task_context("test");
        let ctx = ctx.acting_as(Actor::RentalToken(rental));
        let body = move |tx: &mut dyn Tx| web::open(tx, &ctx, rental, 80, public);
        db.write("test.open_port", body).await.expect("opened")
    };
    let stays = async |before: WebPort| {
        let look = move |tx: &mut dyn Tx| web::is_still_open(tx, &before);
        db.read("test.still_open", look).await.expect("read")
    };
    let private = put(false).await;
    assert!(stays(private).await);
    let public = put(true).await;
    assert!(stays(private).await && stays(public).await, "everybody may");
    let again = put(true).await;
    assert!(stays(public).await && stays(again).await);
    let private = put(false).await;
    assert!(!stays(again).await && stays(private).await);
    let renewed = put(false).await;
    assert!(!stays(private).await && stays(renewed).await, "a new token");
}

#[tokio::test]
async fn a_stream_by_a_ticket_ends_with_the_key_that_asked_for_it() {
    let test = TestApp::with(|config| config.gateway.recheck_s = 1).await;
    let mut place = Place::open(test).await;
    let (rental, token) = rented_by_account(&mut place).await;
    let test = place.test();
    let wish = json!({"name": "a program", "scopes": ["rentals:reach"]});
    let key = test.post("/api/v1/api-keys", &token, &wish).await.json();
    let text = key["key"].as_str().expect("a key");
    let path = format!("/api/v1/rentals/{rental}");
    let asked = json!({"verb": "port", "port": 7});
    let made = test.post(&format!("{path}/tickets"), text, &asked).await;
    let ticket = made.json()["ticket"].as_str().expect("a ticket").to_owned();
    let by_ticket = place
        .socket(&format!("{path}/ports/7?ticket={ticket}"), &[])
        .await;
    let mut by_ticket = by_ticket.expect("let in");
    let own = format!("/api/v1/api-keys/{}", key["id"].as_str().expect("an id"));
    let gone = request("DELETE", &own, &token, &Value::Null);
    assert_eq!(test.send(gone).await.status, StatusCode::NO_CONTENT);
    test.clock.advance_ms(30_001);
    assert_eq!(close_code(&mut by_ticket).await, 1008);
    place.until_no_stream().await;
}

#[tokio::test]
async fn nobody_reaches_what_a_disabled_account_rents() {
    let test = TestApp::with(|config| config.gateway.recheck_s = 1).await;
    let mut place = Place::open(test).await;
    let (rental, _) = rented_by_account(&mut place).await;
    let token = place.test().app.rental_tokens.mint(rental);
    let bearer = format!("Bearer {}", token.expose());
    let path = format!("/api/v1/rentals/{rental}/ports/7");
    let by = [("authorization", &*bearer)];
    let mut open = place.socket(&path, &by).await.expect("let in");
    let found = place.market.rental(rental).await;
    let user = found.consumer.expect("an account");
    let ctx = place.test().app.task_context("test");
    let disable = move |tx: &mut dyn Tx| account::set_disabled(tx, &ctx, user, true);
    let db = &place.test().app.db;
    assert!(db.write("test.disable", disable).await.expect("disabled"));
    assert_eq!(close_code(&mut open).await, 1008);
    assert_eq!(place.socket(&path, &by).await.expect_err("refused"), 403);
    place.until_no_stream().await;
}

#[tokio::test]
async fn a_reader_of_a_port_that_never_reads_is_dropped() {
    let test = TestApp::with(|config| config.gateway.stall_s = 1).await;
    let place = Place::open(test).await;
    let socket = place.own_socket("ports/19").await;
    let mut look = interval(std::time::Duration::from_millis(20));
    let begun = async {
        while place.link.flooded_bytes() == 0 {
            look.tick().await;
        }
    };
    timeout(PATIENCE, begun).await.expect("it is written");
    place.until_no_stream().await;
    // what waits on the way: windows of the link, and buffers of the kernel
    assert!(place.link.flooded_bytes() < 64 << 20);
    drop(socket);
}
