//! Streams into a rental as a gateway carries them, and as they break: what a real one can't be told to do.

use std::process::Stdio;

use axum::{
    Router,
    extract::{
        Path, RawQuery,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    http::HeaderMap,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};
use shared::link::frame::{self, Exit, Frame};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
};

use crate::{
    program::{Person, kill, kill_until_it_ends},
    stub::{API_KEY, RENTAL},
};

/// A gateway: what `exec` is told to run says what it does.
pub(crate) async fn gateway() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route(
            "/api/v1/rentals/{id}",
            get(async || axum::Json(json!({"id": RENTAL, "state": "running"}))),
        )
        .route("/api/v1/rentals/{id}/logs", get(logs))
        .route("/api/v1/rentals/{id}/exec", get(exec))
        .route("/api/v1/rentals/{id}/files", get(files))
        .route("/api/v1/rentals/{id}/ports/{port}", get(port));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// Followed: two lines, a connection that breaks, and one more behind the last place. Else as many lines as are asked for, the last of
/// them always the same; since a moment, more than fit.
async fn logs(headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let asked = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    if asked("follow").is_none() {
        let tail: usize = asked("tail").map_or(1_000, |tail| tail.parse().unwrap());
        let entry = |n: usize| {
            let at = format!("2026-11-23T10:00:00.{n:06}Z");
            json!({"at": at, "stream": "stdout", "line": n.to_string()})
        };
        let items: Vec<Value> = (0..tail).rev().map(entry).collect();
        let more = asked("since") == Some("2026-11-23T10%3A00%3A00.000000Z");
        return axum::Json(json!({"items": items, "more": more})).into_response();
    }
    let line = |id: &str, line: &str| {
        let entry = json!({"at": "2026-11-23T10:00:00Z", "stream": "stdout", "line": line});
        format!("id: {id}\nevent: line\ndata: {entry}\n\n")
    };
    let text = match headers.get("last-event-id").map(|id| id.to_str().unwrap()) {
        None => format!(
            "{}{}event: cut\ndata: {{}}\n\n",
            line("1-1", "one"),
            line("1-2", "two")
        ),
        Some("1-2") => format!("{}event: end\ndata: {{}}\n\n", line("2-1", "three")),
        Some(other) => panic!("after {other}"),
    };
    let head = Response::builder().header("content-type", "text/event-stream");
    head.body(text.into()).unwrap()
}

async fn exec(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    assert_eq!(headers["authorization"], format!("Bearer {API_KEY}"));
    upgrade.on_upgrade(run)
}

async fn say(socket: &mut WebSocket, frame: Frame) {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, &frame).await.unwrap();
    socket.send(Message::Binary(bytes.into())).await.unwrap();
}

async fn heard(socket: &mut WebSocket) -> Option<Frame> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Binary(bytes) => return frame::read(&mut bytes.as_ref()).await.unwrap(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn close(mut socket: WebSocket, code: u16) {
    let reason = "because".into();
    let frame = CloseFrame { code, reason };
    drop(socket.send(Message::Close(Some(frame))).await);
    while socket.recv().await.is_some() {}
}

async fn run(mut socket: WebSocket) {
    let Some(Ok(Message::Text(wanted))) = socket.recv().await else {
        panic!("the first message says what to run");
    };
    let wanted: Value = serde_json::from_str(&wanted).unwrap();
    match wanted["command"][0].as_str().unwrap() {
        "echo-input" => {
            while let Some(Frame::Stdin(bytes)) = heard(&mut socket).await {
                if bytes.is_empty() {
                    break;
                }
                say(&mut socket, Frame::Stdout(bytes)).await;
            }
            say(&mut socket, Frame::Stderr(b"done\n".to_vec())).await;
            say(&mut socket, Frame::Exit(Exit::Code(3))).await;
            close(socket, 1000).await;
        }
        "wait-for-signal" => {
            say(&mut socket, Frame::Stdout(b"ready\n".to_vec())).await;
            loop {
                if let Some(Frame::Signal(number)) = heard(&mut socket).await {
                    let end = Exit::Signal(i32::from(number));
                    return say(&mut socket, Frame::Exit(end)).await;
                }
            }
        }
        "flood" => {
            let mut flood = Vec::new();
            let frame = Frame::Stdout(vec![b'x'; 1024]);
            frame::write(&mut flood, &frame).await.unwrap();
            let flood = Message::Binary(flood.into());
            while socket.send(flood.clone()).await.is_ok() {}
        }
        "never-read" => {
            say(&mut socket, Frame::Stdout(b"ready\n".to_vec())).await;
            std::future::pending::<()>().await;
        }
        "absent" => {
            let problem = json!({"type": "x", "title": "Conflict", "status": 409, "detail": "there is no such program",
                "code": "command_not_started", "request_id": "req_1"});
            let text = problem.to_string().into();
            socket.send(Message::Text(text)).await.unwrap();
            close(socket, 4409).await;
        }
        "node-breaks" => {
            say(&mut socket, Frame::Stdout(b"half".to_vec())).await;
            close(socket, 4502).await;
        }
        // nobody says goodbye
        _ => say(&mut socket, Frame::Stdout(b"half".to_vec())).await,
    }
}

/// OpenSSH's own server, which stops in the middle of what is long.
async fn files(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        let mut server = Command::new("/usr/lib/openssh/sftp-server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("apt-get install openssh-sftp-server");
        let mut to = server.stdin.take().unwrap();
        let mut from = server.stdout.take().unwrap().take(64 * 1024);
        let mut said = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                count = from.read(&mut said), if from.limit() > 0 => {
                    let bytes = said[..count.unwrap()].to_vec();
                    socket.send(Message::Binary(bytes.into())).await.unwrap();
                }
                heard = socket.recv() => match heard {
                    Some(Ok(Message::Binary(bytes))) => to.write_all(&bytes).await.unwrap(),
                    _ => return,
                },
            }
        }
    })
}

/// Says back what comes, and ends its direction after we have ended ours.
async fn port(Path((_, port)): Path<(String, u16)>, upgrade: WebSocketUpgrade) -> Response {
    assert_eq!(port, 5432);
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(Message::Binary(bytes))) = socket.recv().await {
            let is_end = bytes.is_empty();
            socket.send(Message::Binary(bytes)).await.unwrap();
            if is_end {
                return close(socket, 1000).await;
            }
        }
    })
}

fn person(url: &str) -> Person {
    Person::new(url)
}

async fn ran(person: &Person, command: &str, input: &str) -> (i32, String, String) {
    let mut child = person
        .command(&format!("exec -i {RENTAL} -- {command}"))
        .env("RAMARKET_API_KEY", API_KEY)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        ended.status.code().unwrap(),
        text(ended.stdout),
        text(ended.stderr),
    )
}

#[tokio::test]
async fn a_program_has_our_input_and_we_have_its_end() {
    let person = person(&gateway().await);
    // longer than a frame
    let input = "x".repeat(100_000);
    let (code, out, err) = ran(&person, "echo-input", &input).await;
    assert_eq!((code, err.as_str()), (3, "done\n"));
    assert!(out == input);
}

#[tokio::test]
async fn what_is_refused_or_breaks_has_its_outcome_and_never_hangs() {
    let person = person(&gateway().await);
    let (code, _, err) = ran(&person, "absent", "").await;
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("command_not_started") && err.contains("no such program"),
        "{err}"
    );
    for (command, word) in [("node-breaks", "node broke"), ("cut", "may still run")] {
        let (code, out, err) = ran(&person, command, "").await;
        assert_eq!((code, out.as_str()), (3, "half"), "{err}");
        assert!(err.contains(word), "{command}: {err}");
    }
}

#[tokio::test]
async fn a_signal_to_us_is_one_to_the_program() {
    let person = person(&gateway().await);
    let mut child = person
        .command(&format!("exec {RENTAL} -- wait-for-signal"))
        .env("RAMARKET_API_KEY", API_KEY)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    kill(&child, "-TERM").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(128 + 15));
}

#[tokio::test]
async fn a_program_that_never_reads_can_be_left() {
    let person = person(&gateway().await);
    let mut child = person
        .command(&format!("exec -i {RENTAL} -- never-read"))
        .env("RAMARKET_API_KEY", API_KEY)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    let mut stdin = child.stdin.take().unwrap();
    let typing = tokio::spawn(async move {
        // far more than all that lies between holds
        let typed = vec![b'x'; 1 << 20];
        while stdin.write_all(&typed).await.is_ok() {}
    });
    let code = kill_until_it_ends(&mut child, "-INT").await;
    assert_eq!(code, Some(128 + 2));
    typing.await.unwrap();
}

#[tokio::test]
async fn a_program_whose_output_nobody_reads_can_be_left() {
    let person = person(&gateway().await);
    let mut child = person
        .command(&format!("exec {RENTAL} -- flood"))
        .env("RAMARKET_API_KEY", API_KEY)
        .spawn()
        .unwrap();
    let unread = child.stdout.take().unwrap();
    let mut before = 0;
    // what is written fits less and less, until a page that isn't full is all that is left
    while before < 60 * 1024 {
        before = rustix::io::ioctl_fionread(&unread).unwrap();
        tokio::task::yield_now().await;
    }
    let code = kill_until_it_ends(&mut child, "-TERM").await;
    assert_eq!(code, Some(128 + 15));
}

#[tokio::test]
async fn a_page_of_logs_says_what_is_not_in_it() {
    let person = person(&gateway().await);
    let ended = person.run(&format!("logs {RENTAL}")).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), 1_000);
    assert!(ended.stdout.starts_with("999\n"), "the last are shown");
    assert!(
        ended.stderr.contains("older lines are left out"),
        "{}",
        ended.stderr
    );
    let ended = person.run(&format!("logs {RENTAL} --tail 3")).await;
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("2\n1\n0\n", "")
    );
    let since = "2026-11-23T10:00:00Z";
    let ended = person.run(&format!("logs {RENTAL} --since {since}")).await;
    let on = "go on with --since 2026-11-23T10:00:00.000000Z";
    assert!(ended.stderr.contains(on), "{}", ended.stderr);
}

#[tokio::test]
async fn followed_logs_go_on_behind_the_last_line() {
    let person = person(&gateway().await);
    let followed = person.run(&format!("logs -f {RENTAL}")).await;
    assert_eq!(followed.code, 0, "{followed:?}");
    assert_eq!(followed.stdout, "one\ntwo\nthree\n");
}

#[tokio::test]
async fn a_port_leads_there_and_ends_one_way_at_a_time() {
    let person = person(&gateway().await);
    let mut child = person
        .command(&format!("-q port-forward {RENTAL} :5432"))
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.next_line().await.unwrap().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    for round in 0..3_u8 {
        let (mut from, mut to) = TcpStream::connect(&address).await.unwrap().into_split();
        let sent = vec![round; 300_000];
        let kept = sent.clone();
        let writing = tokio::spawn(async move {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
            to
        });
        let mut came = Vec::new();
        from.read_to_end(&mut came).await.unwrap();
        assert!(came == kept, "{} bytes came", came.len());
        drop(writing.await.unwrap());
    }
    child.kill().await.unwrap();
}
