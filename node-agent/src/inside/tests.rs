//! Programs, connections and ends over a session, in this very process; terminals and files of a container are shown with a real engine.

use std::{path::PathBuf, time::Duration};

use shared::{
    id::Ids,
    link::{
        frame::{self, Exit, Frame},
        open::{Exec, Open, Opened},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    net::TcpListener,
    task::JoinHandle,
    time::interval,
};

use super::*;

struct Rental {
    session: Session,
    served: JoinHandle<()>,
}

fn rental() -> Rental {
    let (ours, theirs) = duplex(64 * 1_024);
    let served = tokio::spawn(serve(theirs, Arc::new(Place::in_process())));
    let started = Session::start(ours, Role::Client);
    tokio::spawn(started.driver);
    Rental {
        session: started.session,
        served,
    }
}

async fn opened(rental: &Rental, open: &Open) -> (Stream, Opened) {
    let mut stream = rental.session.stream().await.expect("a stream");
    open::send(&mut stream, open).await.expect("sent");
    let answer = open::receive(&mut stream).await.expect("an answer");
    (stream, answer)
}

fn exec(words: &[&str]) -> Open {
    let exec = Exec {
        command: words.iter().map(|&word| word.to_owned()).collect(),
        ..Exec::default()
    };
    let rental_id = Ids::counting().mint();
    Open::Exec { rental_id, exec }
}

/// What came of each output, and how it ended.
async fn to_the_end(stream: &mut Stream) -> (Vec<u8>, Vec<u8>, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match frame::read(stream).await.expect("a frame") {
            Some(Frame::Stdout(bytes)) => out.extend(bytes),
            Some(Frame::Stderr(bytes)) => err.extend(bytes),
            Some(Frame::Exit(exit)) => return (out, err, exit),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_program_has_two_outputs_an_input_and_an_end() {
    let rental = rental();
    let words = ["sh", "-c", "cat; echo oops >&2; exit 7"];
    let (mut stream, answer) = opened(&rental, &exec(&words)).await;
    assert_eq!(answer, Opened::Ready {});
    for chunk in [&b"some "[..], b"input", b""] {
        let frame = Frame::Stdin(chunk.to_vec());
        frame::write(&mut stream, &frame).await.expect("sent");
    }
    let (out, err, exit) = to_the_end(&mut stream).await;
    assert_eq!(
        (out.as_slice(), err.as_slice()),
        (&b"some input"[..], &b"oops\n"[..])
    );
    assert_eq!(exit, Exit::Code(7));
    assert_eq!(frame::read(&mut stream).await.expect("an end"), None);
}

#[tokio::test]
async fn signals_reach_it_and_what_is_not_there_is_refused() {
    let rental = rental();
    let words = ["sh", "-c", "echo up; exec sleep 1000"];
    let (mut stream, _) = opened(&rental, &exec(&words)).await;
    let up = frame::read(&mut stream).await.expect("a frame");
    assert_eq!(up, Some(Frame::Stdout(b"up\n".to_vec())));
    frame::write(&mut stream, &Frame::Signal(15))
        .await
        .expect("sent");
    assert_eq!(to_the_end(&mut stream).await.2, Exit::Signal(15));
    let (_, answer) = opened(&rental, &exec(&["/no/such/program"])).await;
    assert!(matches!(answer, Opened::Refused { code, .. } if code == code::NOT_STARTED));
    let (_, answer) = opened(&rental, &Open::Control {}).await;
    assert!(matches!(answer, Opened::Refused { code, .. } if code == code::NOT_SUPPORTED));
}

#[tokio::test]
async fn a_program_goes_with_its_stream_and_with_the_session() {
    let rental = rental();
    let told = crate::testing::TempDir::new();
    let pid_of = |name: &str| {
        let path = told.path().join(name);
        let text = std::fs::read_to_string(path).expect("its number");
        PathBuf::from("/proc").join(text.trim())
    };
    for name in ["by_stream", "by_session"] {
        // deaf to SIGHUP: it must be killed
        let script = format!(
            "trap '' HUP; echo $$ > {}/{name}; echo up; while :; do sleep 1; done",
            told.path().display()
        );
        let (mut stream, _) = opened(&rental, &exec(&["sh", "-c", &script])).await;
        let up = frame::read(&mut stream).await.expect("a frame");
        assert_eq!(up, Some(Frame::Stdout(b"up\n".to_vec())));
        if name == "by_session" {
            break;
        }
        drop(stream);
        gone(&pid_of(name)).await;
    }
    drop(rental.session);
    rental.served.await.expect("it ended");
    gone(&pid_of("by_session")).await;
}

async fn gone(process: &Path) {
    let mut look_again = interval(Duration::from_millis(20));
    let look = async {
        while process.exists() {
            look_again.tick().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), look).await;
    waited.expect("it is still there");
}

#[tokio::test]
async fn output_that_nobody_reads_stops_the_program() {
    let rental = rental();
    let told = crate::testing::TempDir::new();
    let count = told.path().join("count");
    let script = format!(
        "while :; do printf '%1024s' x; echo x >> {}; done",
        count.display()
    );
    let (mut stream, _) = opened(&rental, &exec(&["sh", "-c", &script])).await;
    let written = || std::fs::metadata(&count).map_or(0, |found| found.len() / 2);
    let stuck = async {
        let mut look_again = interval(Duration::from_millis(500));
        look_again.tick().await;
        loop {
            let before = written();
            look_again.tick().await;
            if before > 0 && written() == before {
                return before;
            }
        }
    };
    let stuck = tokio::time::timeout(Duration::from_secs(60), stuck).await;
    let kib = stuck.expect("it is never stopped");
    assert!(kib < 4 * 1_024, "{kib} KiB went nowhere");
    // another stream of the session goes on
    let (mut other, _) = opened(&rental, &exec(&["echo", "hello"])).await;
    assert_eq!(to_the_end(&mut other).await.0, b"hello\n");
    assert!(matches!(
        frame::read(&mut stream).await.expect("a frame"),
        Some(Frame::Stdout(_))
    ));
}

/// As much input as a program that reads none has room for: its pipe, what is in hand, what waits, what is held.
async fn fill(stream: &mut Stream) {
    let pipe_chunks = 64 * 1_024 / frame::FRAME_BYTES_MAX;
    for _ in 0..pipe_chunks + 1 + exec::INPUT_CHUNKS_MAX + 1 {
        let chunk = vec![b'x'; frame::FRAME_BYTES_MAX];
        frame::write(stream, &Frame::Stdin(chunk))
            .await
            .expect("sent");
    }
}

#[tokio::test]
async fn signals_and_the_streams_end_reach_a_program_that_does_not_read_its_input() {
    let rental = rental();
    let words = ["sh", "-c", "echo $$; exec sleep 1000"];
    let (mut stream, _) = opened(&rental, &exec(&words)).await;
    fill(&mut stream).await;
    for frame in [Frame::Stdin(Vec::new()), Frame::Signal(15)] {
        frame::write(&mut stream, &frame).await.expect("sent");
    }
    assert_eq!(to_the_end(&mut stream).await.2, Exit::Signal(15));

    let (mut stream, _) = opened(&rental, &exec(&words)).await;
    let Some(Frame::Stdout(pid)) = frame::read(&mut stream).await.expect("a frame") else {
        panic!("it says its number");
    };
    fill(&mut stream).await;
    drop(stream);
    let pid = String::from_utf8(pid).expect("a number");
    gone(&PathBuf::from("/proc").join(pid.trim())).await;
}

#[tokio::test]
async fn what_a_program_leaves_running_does_not_hold_its_end() {
    let rental = rental();
    let (mut stream, _) = opened(&rental, &exec(&["sh", "-c", "sleep 1000 & echo $!"])).await;
    let (out, _, exit) = to_the_end(&mut stream).await;
    assert_eq!(exit, Exit::Code(0));
    let left = String::from_utf8(out).expect("a number");
    let process = PathBuf::from("/proc").join(left.trim());
    assert!(process.exists(), "as with SSH, it goes on");
    let killed = std::process::Command::new("kill").arg(left.trim()).status();
    assert!(killed.expect("kill runs").success());
}

#[tokio::test]
async fn connections_are_made_and_closed_one_direction_at_a_time() {
    let rental = rental();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let answering = tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.expect("a connection");
        let mut said = Vec::new();
        peer.read_to_end(&mut said).await.expect("read");
        peer.write_all(&said).await.expect("written");
    });
    let dial = |host: &str, port| Open::Dial {
        rental_id: Ids::counting().mint(),
        host: host.to_owned(),
        port,
    };
    let (mut stream, answer) = opened(&rental, &dial("localhost", port)).await;
    assert_eq!(answer, Opened::Ready {});
    stream.write_all(b"there and back").await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let mut back = String::new();
    stream.read_to_string(&mut back).await.expect("read");
    assert_eq!(back, "there and back");
    answering.await.expect("it answered");
    for (host, port, expected) in [
        ("10.1.2.3", 80, code::NOT_ALLOWED),
        ("169.254.169.254", 80, code::NOT_ALLOWED),
        ("[fe80::1]", 80, code::NOT_ALLOWED),
        ("::ffff:192.168.1.1", 80, code::NOT_ALLOWED),
        ("127.0.0.1", port, code::NOT_CONNECTED),
        ("", 80, code::NOT_CONNECTED),
    ] {
        let (_, answer) = opened(&rental, &dial(host, port)).await;
        let Opened::Refused { code, .. } = answer else {
            panic!("{host} was dialled");
        };
        assert_eq!(code, expected, "{host}");
    }
}
