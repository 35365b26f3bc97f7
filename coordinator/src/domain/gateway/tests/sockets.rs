//! WebSockets into a rental: what they carry, who opens them, and how they end.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use shared::{
    link::frame::{self, Exit, Frame},
    wire::observed::ExitCause,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{PATIENCE, Place, rented_by_account, tickets::sign_out};
use crate::testing::TestApp;

pub(super) type Socket = WebSocketStream<TcpStream>;

async fn next(socket: &mut Socket) -> Message {
    let message = timeout(PATIENCE, socket.next()).await.expect("in time");
    message.expect("a message").expect("whole")
}

async fn frame_of(socket: &mut Socket) -> Frame {
    let Message::Binary(bytes) = next(socket).await else {
        panic!("a binary message");
    };
    let mut bytes = &bytes[..];
    let frame = frame::read(&mut bytes).await.expect("a frame");
    assert!(bytes.is_empty(), "one a message");
    frame.expect("a frame")
}

async fn send_frame(socket: &mut Socket, frame: &Frame) {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, frame).await.expect("written");
    socket
        .send(Message::Binary(bytes.into()))
        .await
        .expect("sent");
}

/// The close code, whatever comes before it.
pub(super) async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        match next(socket).await {
            Message::Close(Some(close)) => return close.code.into(),
            Message::Close(None) => panic!("closed without a code"),
            _ => {}
        }
    }
}

async fn run(place: &Place, command: &str) -> Socket {
    let mut socket = place.own_socket("exec").await;
    let exec = json!({"command": [command], "terminal": null});
    let said = socket.send(Message::Text(exec.to_string().into())).await;
    said.expect("sent");
    socket
}

#[tokio::test]
async fn a_programs_input_and_output_go_by_frames_and_its_end_closes() {
    let place = Place::open(TestApp::new().await).await;
    let mut socket = run(&place, "cat").await;
    send_frame(&mut socket, &Frame::Stdin(b"hello".to_vec())).await;
    assert_eq!(
        frame_of(&mut socket).await,
        Frame::Stdout(b"hello".to_vec())
    );
    send_frame(&mut socket, &Frame::Stdin(Vec::new())).await;
    assert_eq!(frame_of(&mut socket).await, Frame::Exit(Exit::Code(0)));
    assert_eq!(close_code(&mut socket).await, 1000);
    let mut socket = run(&place, "false").await;
    assert_eq!(frame_of(&mut socket).await, Frame::Exit(Exit::Code(1)));
    // what isn't started says why
    let mut socket = run(&place, "missing").await;
    let Message::Text(problem) = next(&mut socket).await else {
        panic!("a problem");
    };
    let problem: Value = serde_json::from_str(&problem).expect("JSON");
    assert_eq!(problem["code"], "command_not_started");
    assert_eq!(close_code(&mut socket).await, 4409);
    for first in [Message::Text("{}}".into()), Message::Binary(vec![0].into())] {
        let mut socket = place.own_socket("exec").await;
        socket.send(first).await.expect("sent");
        assert_eq!(close_code(&mut socket).await, 4400);
    }
    drop(socket);
    place.until_no_stream().await;
}

#[tokio::test]
async fn a_port_carries_bytes_and_ends_one_way_at_a_time() {
    let place = Place::open(TestApp::new().await).await;
    for rest in ["ports/7", "files"] {
        let mut socket = place.own_socket(rest).await;
        let bytes = Message::Binary(b"there and back".to_vec().into());
        socket.send(bytes.clone()).await.expect("sent");
        assert_eq!(next(&mut socket).await, bytes);
        let end = Message::Binary(Vec::new().into());
        socket.send(end.clone()).await.expect("sent");
        assert_eq!(next(&mut socket).await, end);
        assert_eq!(close_code(&mut socket).await, 1000);
    }
    let bearer = format!("Bearer {}", place.token());
    let (path, by) = (place.path("ports/8"), [("authorization", &*bearer)]);
    let closed = place.socket(&path, &by).await;
    assert_eq!(closed.expect_err("nobody listens"), 409);
    let mut socket = place.own_socket("ports/7").await;
    let text = socket.send(Message::Text("text".into())).await;
    text.expect("sent");
    assert_eq!(close_code(&mut socket).await, 1003);
    place.until_no_stream().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_nothing_is_taken_of_it_is_noticed() {
    let place = Place::open(TestApp::new().await).await;
    let mut socket = place.own_socket("ports/83").await;
    assert_eq!(next(&mut socket).await, Message::Binary(Vec::new().into()));
    // as much as a window of the link, of which the request to open took a little: the last of them waits
    for _ in 0..4 {
        let bytes = Message::Binary(vec![b'x'; 64 * 1_024].into());
        socket.send(bytes).await.expect("sent");
    }
    socket.send(Message::Close(None)).await.expect("sent");
    place.until_no_stream().await;
}

#[tokio::test]
async fn what_a_rental_that_is_done_can_take_no_more_ends_the_stream() {
    let place = Place::open(TestApp::new().await).await;
    let mut socket = place.own_socket("ports/83").await;
    assert_eq!(next(&mut socket).await, Message::Binary(Vec::new().into()));
    place.link.cut().await;
    let bytes = Message::Binary(b"lost".to_vec().into());
    socket.send(bytes).await.expect("sent");
    assert_eq!(close_code(&mut socket).await, 4502);
    place.until_no_stream().await;
}

#[tokio::test]
async fn a_page_of_another_site_opens_nothing() {
    let mut place = Place::open(TestApp::new().await).await;
    let (rental, token) = rented_by_account(&mut place).await;
    let path = format!("/api/v1/rentals/{rental}/exec");
    let cookie = format!("at={token}; __Host-at={token}");
    let by_cookie = place.socket(&path, &[("cookie", &cookie)]).await;
    assert_eq!(by_cookie.expect_err("refused"), 401);
    let bearer = format!("Bearer {token}");
    let elsewhere = [
        ("authorization", &*bearer),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(
        place.socket(&path, &elsewhere).await.expect_err("refused"),
        403
    );
    let own = place.test().app.config.http.public_url();
    let here = [("authorization", &*bearer), ("origin", &*own)];
    drop(place.socket(&path, &here).await.expect("let in"));
    // another rental's token
    let other = format!("Bearer {}", place.token());
    let other = place.socket(&path, &[("authorization", &other)]).await;
    assert_eq!(other.expect_err("refused"), 404);
}

#[tokio::test]
async fn a_stream_ends_with_the_access_to_it() {
    let test = TestApp::with(|config| config.gateway.recheck_s = 1).await;
    let mut place = Place::open(test).await;
    let (rental, token) = rented_by_account(&mut place).await;
    let bearer = format!("Bearer {token}");
    let path = format!("/api/v1/rentals/{rental}/ports/7");
    let signed_in = place.socket(&path, &[("authorization", &bearer)]).await;
    let mut signed_in = signed_in.expect("let in");
    let mut other = place.own_socket("ports/7").await;
    sign_out(place.test(), &token).await;
    assert_eq!(close_code(&mut signed_in).await, 1008);
    // the rental ends
    let rental = place.rental;
    place.market.node.finish(rental, 0, ExitCause::Itself);
    place.market.node.beat(&place.market.test).await;
    assert_eq!(close_code(&mut other).await, 1008);
    place.until_no_stream().await;
    // who was there is recorded, and nothing of what went through
    let reached = place.test().app.db.read("test.audit", |tx| {
        let rows = tx.query(
            "SELECT count(*) FROM audit_log WHERE action = 'rental.reached'",
            crate::params![],
        )?;
        Ok::<_, crate::error::Error>(rows[0].int(0)?)
    });
    assert_eq!(reached.await.expect("read"), 2);
}

#[tokio::test]
async fn a_stream_on_which_nothing_goes_on_is_ended() {
    let test = TestApp::with(|config| config.gateway.idle_s = 1).await;
    let place = Place::open(test).await;
    let mut socket = place.own_socket("ports/7").await;
    assert_eq!(close_code(&mut socket).await, 4408);
    place.until_no_stream().await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_dropped() {
    let test = TestApp::with(|config| config.gateway.stall_s = 1).await;
    let place = Place::open(test).await;
    let socket = run(&place, "flood").await;
    let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
    let begun = async {
        while place.test().app.gateway.open_streams() == 0 {
            look.tick().await;
        }
    };
    timeout(PATIENCE, begun).await.expect("it runs");
    place.until_no_stream().await;
    // what waits on the way: windows of the link, and buffers of the kernel
    assert!(place.link.flooded_bytes() < 64 << 20);
    drop(socket);
}

#[tokio::test]
async fn a_link_that_breaks_and_a_coordinator_that_stops_are_told_by_their_codes() {
    let place = Place::open(TestApp::new().await).await;
    let mut socket = run(&place, "hang").await;
    send_frame(&mut socket, &Frame::Stdin(b"x".to_vec())).await;
    let mut port = place.own_socket("ports/7").await;
    place.link.cut().await;
    assert_eq!(close_code(&mut socket).await, 4502);
    assert_eq!(close_code(&mut port).await, 4502);
    let bearer = format!("Bearer {}", place.token());
    let (path, by) = (place.path("ports/7"), [("authorization", &*bearer)]);
    let away = place.socket(&path, &by).await;
    assert_eq!(away.expect_err("away"), 503);
    let node = place.market.node.id;
    let _again = crate::testing::link::ScriptedLink::hold(place.test(), node).await;
    let mut port = place.own_socket("ports/7").await;
    let bytes = Message::Binary(b"again".to_vec().into());
    port.send(bytes.clone()).await.expect("sent");
    assert_eq!(next(&mut port).await, bytes);
    let mut waiting = place.own_socket("exec").await;
    place.test().app.shutdown.cancel();
    assert_eq!(close_code(&mut port).await, 1012);
    assert_eq!(close_code(&mut waiting).await, 1012);
}
