//! A rental is reached from outside through everything that there is: coordinator, link, agent, helper, engine, and the program
//! within the container. And a link that breaks in the middle: streams end with a word, the rental doesn't notice.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use shared::link::frame::{self, Exit, Frame};
use system_tests::{market::Store, payer::Rented, wait};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::faults_support::Stage;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A ticket for the verb, used for a WebSocket; nothing while it is refused.
async fn try_socket(stage: &Stage, rented: &Rented, asked: Value, rest: &str) -> Option<Socket> {
    let path = format!("/rentals/{}", rented.id);
    let made = rented
        .api
        .post(&format!("{path}/tickets"), &asked)
        .await
        .is(201);
    let ticket = made["ticket"].as_str().expect("a ticket");
    let host = format!("127.0.0.1:{}", stage.market.port());
    let url = format!("ws://{host}/api/v1{path}/{rest}?ticket={ticket}");
    let request = url.into_client_request().expect("a request");
    let connection = TcpStream::connect(host).await.expect("connected");
    client_async(request, connection)
        .await
        .ok()
        .map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> Message {
    let message = timeout(wait::PATIENCE, socket.next())
        .await
        .expect("in time");
    message.expect("a message").expect("whole")
}

/// Runs a program, if the rental is reached now.
pub(crate) async fn exec(stage: &Stage, rented: &Rented, command: &[&str]) -> Option<Socket> {
    let mut socket = try_socket(stage, rented, json!({"verb": "exec"}), "exec").await?;
    let exec = json!({"command": command, "terminal": null});
    let said = socket.send(Message::Text(exec.to_string().into())).await;
    said.expect("sent");
    Some(socket)
}

/// What a program wrote, how it ended and the close code.
async fn until_closed(socket: &mut Socket) -> (String, Option<Exit>, u16) {
    let (mut wrote, mut ended) = (String::new(), None);
    loop {
        match next(socket).await {
            Message::Binary(bytes) => match frame::read(&mut &bytes[..]).await.expect("a frame") {
                Some(Frame::Stdout(bytes)) => wrote.push_str(&String::from_utf8_lossy(&bytes)),
                Some(Frame::Exit(exit)) => ended = Some(exit),
                _ => {}
            },
            Message::Text(text) => wrote.push_str(&text),
            Message::Close(Some(close)) => return (wrote, ended, close.code.into()),
            Message::Close(None) => panic!("closed without a code"),
            _ => {}
        }
    }
}

pub(crate) async fn says(socket: &mut Socket, bytes: &[u8]) {
    let mut message = Vec::new();
    let frame = Frame::Stdin(bytes.to_vec());
    frame::write(&mut message, &frame).await.expect("written");
    socket
        .send(Message::Binary(message.into()))
        .await
        .expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_is_reached_through_all_of_it_and_a_cut_is_told() {
    let mut stage = Stage::new(Store::Sqlite, &[]).await;
    let rentals = [stage.running().await];
    let rented = &rentals[0].0;
    let script = ["sh", "-c", "read line; echo got $line; exit 3"];
    let mut socket = wait::until("the rental is reached", || exec(&stage, rented, &script)).await;
    says(&mut socket, b"this\n").await;
    let (wrote, ended, code) = until_closed(&mut socket).await;
    assert_eq!(
        (wrote.as_str(), ended, code),
        ("got this\n", Some(Exit::Code(3)), 1000)
    );
    let mut missing = exec(&stage, rented, &["no-such-program"])
        .await
        .expect("let in");
    let (problem, ended, code) = until_closed(&mut missing).await;
    assert!(
        problem.contains("command_not_started") && ended.is_none(),
        "{problem}"
    );
    assert_eq!(code, 4409);

    // a port that only the container's own loopback has
    let server = ["sh", "-c", "while :; do nc -l -p 7777 -e cat; done"];
    let mut listening = exec(&stage, rented, &server).await.expect("let in");
    let port = json!({"verb": "port", "port": 7777});
    let mut port = wait::until("the port is reached", || {
        try_socket(&stage, rented, port.clone(), "ports/7777")
    })
    .await;
    let bytes = Message::Binary(b"there and back".to_vec().into());
    port.send(bytes.clone()).await.expect("sent");
    assert_eq!(next(&mut port).await, bytes);

    // the agent dies in the middle of both
    stage.node.kill9();
    let cut = timeout(Duration::from_secs(60), until_closed(&mut listening)).await;
    assert_eq!(cut.expect("no hang").2, 4502);
    let cut = timeout(Duration::from_secs(60), until_closed(&mut port)).await;
    assert_eq!(cut.expect("no hang").2, 4502);
    let logs = format!("/rentals/{}/logs", rented.id);
    rented.api.get(&logs).await.refused(503, "node_unreachable");
    stage.node.launch();
    // the agent links anew first, and finds its rentals
    let ended = wait::until("it is reached again", || async {
        let mut socket = exec(&stage, rented, &["true"]).await?;
        until_closed(&mut socket).await.1
    });
    assert_eq!(ended.await, Exit::Code(0));
    stage.untouched(&rentals, 0).await;
    stage.end(&rentals, 0).await;
}
