//! Forwards: into the rental and nowhere else; other kinds of forwards not at all.

use std::time::Duration;

use serde_json::json;
use shared::link::open::Open;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Child,
    time::{interval, timeout},
};

use super::{PATIENCE, Reach, Reached, reached, run};

/// Somebody who listens "in the rental", and answers what was said once all of it was.
async fn listener() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut guest, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut said = Vec::new();
                guest.read_to_end(&mut said).await.expect("read");
                said.reverse();
                guest.write_all(&said).await.expect("written");
            });
        }
    });
    port
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A client that only forwards.
async fn forwarding(reach: &Reach, kind: &str, what: &str, at: u16) -> Child {
    let mut ssh = reach.ssh(&["-N", "-o", "ExitOnForwardFailure=yes", kind, what], &[]);
    let child = ssh.spawn().expect("it starts");
    let listens = async {
        let mut again = interval(Duration::from_millis(20));
        while TcpStream::connect(("127.0.0.1", at)).await.is_err() {
            again.tick().await;
        }
    };
    timeout(PATIENCE, listens)
        .await
        .expect("the client listens");
    child
}

async fn ask(stream: &mut TcpStream, words: &[u8]) -> Vec<u8> {
    // refused at once: there may be nobody to write to any more
    let _refused = stream.write_all(words).await;
    let _refused = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    match read.expect("an end") {
        // a client whose channel was refused breaks it off
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Vec::new(),
        read => {
            read.expect("read");
            answer
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_our_end_of_a_forward_gets_it() {
    let reach = Reach::open().await;
    let to = format!("localhost:{}", listener().await);
    let words = super::noise(1 << 20);
    let mut backwards = words.clone();
    backwards.reverse();
    let came = super::fed(&mut reach.ssh(&["-W", &to], &[]), words).await;
    assert_eq!((came.code, came.out == backwards), (Some(0), true));
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_the_rental_is_reached_and_each_direction_ends_on_its_own() {
    let reach = Reach::open().await;
    let (there, here) = (listener().await, free_port());
    let what = format!("127.0.0.1:{here}:localhost:{there}");
    let _client = forwarding(&reach, "-L", &what, here).await;
    let words = super::noise(1 << 20);
    let mut backwards = words.clone();
    backwards.reverse();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", here))
            .await
            .expect("connected");
        assert!(ask(&mut stream, &words).await == backwards);
    }
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_rental_and_the_public_internet_is_forwarded_to() {
    let reach = Reach::open().await;
    for target in [
        "10.0.0.1:80",
        "169.254.169.254:80",
        "192.168.1.1:22",
        "[fd00::1]:80",
        "/run/docker.sock",
    ] {
        let here = free_port();
        let what = format!("127.0.0.1:{here}:{target}");
        let _client = forwarding(&reach, "-L", &what, here).await;
        let mut stream = TcpStream::connect(("127.0.0.1", here))
            .await
            .expect("connected");
        assert_eq!(ask(&mut stream, b"hello").await, b"", "{target}");
    }
    assert!(
        reach.double.asked.lock().expect("fine").is_empty(),
        "no rental was asked"
    );
    // nobody listens there: the same for the client, but the rental was asked
    let (here, closed) = (free_port(), free_port());
    let what = format!("127.0.0.1:{here}:localhost:{closed}");
    let _client = forwarding(&reach, "-L", &what, here).await;
    let mut stream = TcpStream::connect(("127.0.0.1", here))
        .await
        .expect("connected");
    assert_eq!(ask(&mut stream, b"hello").await, b"");
    assert!(matches!(
        reach.double.asked.lock().expect("fine").as_slice(),
        [Open::Dial { .. }, ..]
    ));
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_the_client_leads_into_the_rental() {
    let reach = Reach::open().await;
    let (there, here) = (listener().await, free_port());
    let what = format!("127.0.0.1:{here}");
    let _client = forwarding(&reach, "-D", &what, here).await;
    let mut stream = TcpStream::connect(("127.0.0.1", here))
        .await
        .expect("connected");
    stream.write_all(&[5, 1, 0]).await.expect("written");
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.expect("read");
    assert_eq!(greeting, [5, 0]);
    let mut connect = vec![5, 1, 0, 3, 9];
    connect.extend(b"localhost");
    connect.extend(there.to_be_bytes());
    stream.write_all(&connect).await.expect("written");
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.expect("read");
    assert_eq!(reply[1], 0, "{reply:?}");
    assert_eq!(ask(&mut stream, b"proxy").await, b"yxorp");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_opened_is_recorded_once_a_connection() {
    let reach = Reach::open().await;
    let (one, two, here, there) = (listener().await, listener().await, free_port(), free_port());
    let first = format!("127.0.0.1:{here}:localhost:{one}");
    let second = format!("127.0.0.1:{there}:localhost:{two}");
    let _client = forwarding(&reach, "-L", &first, here).await;
    for _ in 0..5 {
        let mut stream = TcpStream::connect(("127.0.0.1", here))
            .await
            .expect("connected");
        assert_eq!(ask(&mut stream, b"often").await, b"netfo");
    }
    let rental = reach.rental.to_string();
    let fingerprint = std::process::Command::new("ssh-keygen")
        .arg("-lf")
        .arg(reach.path("key.pub"))
        .output();
    let fingerprint = String::from_utf8(fingerprint.expect("it runs").stdout).expect("text");
    let fingerprint = fingerprint.split(' ').nth(1).expect("a fingerprint");
    let entry = |verb: &str, port: Option<u16>| {
        let after = json!({"verb": verb, "port": port, "way": "ssh", "fingerprint": fingerprint});
        Reached {
            actor: rental.clone(),
            via: None,
            object: rental.clone(),
            after,
            client: "127.0.0.1".to_owned(),
        }
    };
    let mut recorded = vec![entry("port", Some(one))];
    assert_eq!(reached(&reach).await, recorded);
    let options = ["-o", "ExitOnForwardFailure=yes", "-L", &second];
    let came = run(&mut reach.ssh(&options, &["true"])).await;
    assert_eq!(came.code, Some(0), "{came:?}");
    recorded.push(entry("exec", None));
    assert_eq!(
        reached(&reach).await,
        recorded,
        "each connection, what it opened"
    );
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lead_out_of_the_rental_is_refused() {
    let reach = Reach::open().await;
    for what in ["0:localhost:80", "/tmp/x.sock:localhost:80"] {
        let options = ["-o", "ExitOnForwardFailure=yes", "-R", what];
        let came = run(&mut reach.ssh(&options, &["true"])).await;
        assert_eq!(came.code, Some(255), "{came:?}");
        assert!(
            came.err.contains("remote port forwarding failed"),
            "{came:?}"
        );
    }
    // an agent isn't passed on, and the command runs without
    let agent = std::process::Command::new("ssh-agent").arg("-c").output();
    let agent = String::from_utf8(agent.expect("ssh-agent runs").stdout).expect("text");
    let word = |name: &str| {
        let line = agent
            .lines()
            .find_map(|line| line.strip_prefix(&format!("setenv {name} ")));
        line.expect("it says it").trim_end_matches(';').to_owned()
    };
    let mut ssh = reach.ssh(&["-A"], &["echo agent=$SSH_AUTH_SOCK"]);
    let came = run(ssh.env("SSH_AUTH_SOCK", word("SSH_AUTH_SOCK"))).await;
    let ended = std::process::Command::new("kill")
        .arg(word("SSH_AGENT_PID"))
        .status();
    assert!(ended.expect("kill runs").success());
    assert_eq!(
        (came.code, came.text().as_str()),
        (Some(0), "agent=\n"),
        "{came:?}"
    );
    reach.close().await;
}
