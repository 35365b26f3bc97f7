//! The link is cut in the middle of programs and ports: for three seconds, and for good; and the agent is killed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use system_tests::{home::Home, market::free_port, payer::Rented, ssh_client::SshClient, wait};
use tokio::time::Instant;

use super::{WAITS, rent, small_order};

const LINES: usize = 400;
/// Longer than a dead link can go unnoticed (25 s), on a busy machine.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Twenty lines each second.
fn counting() -> String {
    format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; usleep 50000; done")
}

/// A reader of numbered lines, and how many it has.
struct Reader {
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<usize>>,
}

impl Reader {
    fn of(source: impl std::io::Read + Send + 'static) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let thread = thread::spawn(move || {
            let lines = BufReader::new(source).lines().map_while(Result::ok);
            let numbers = lines.map_while(|line| line.parse().ok());
            numbers
                .inspect(|_| {
                    counted.fetch_add(1, Ordering::Relaxed);
                })
                .collect()
        });
        Self { count, thread }
    }

    async fn has(&self, lines: usize) {
        wait::until("lines have come", || async {
            (self.count.load(Ordering::Relaxed) >= lines).then_some(())
        })
        .await;
    }

    /// All lines, once the source has ended.
    async fn ended(self) -> Vec<usize> {
        let thread = self.thread;
        wait::until_within(TOLD_WITHIN, "the stream has ended", || async {
            thread.is_finished().then_some(())
        })
        .await;
        thread.join().expect("read")
    }
}

/// A program that counts, and a port that does.
struct Streams {
    program: Child,
    printed: Reader,
    port: Reader,
    _forward: system_tests::ssh_client::Forward,
}

impl Streams {
    async fn begin(client: &SshClient, id: &str) -> Self {
        let mut ssh = client.command("ssh", &[]);
        let mut program = ssh
            .arg(client.target(id))
            .arg(counting())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh starts");
        let printed = Reader::of(program.stdout.take().expect("a pipe"));
        let port = u16::try_from(free_port()).expect("a port");
        let local = format!("127.0.0.1:{port}:127.0.0.1:7777");
        let forward = client.forward(id, &["-L", &local]);
        // until the forward listens and somebody does in the rental
        let served = wait::until("the port is served", || async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            let mut first = [0];
            (stream.read(&mut first).ok()? == 1).then_some(stream)
        });
        let port = Reader::of(std::io::Cursor::new(b"1").chain(served.await));
        let streams = Self {
            program,
            printed,
            port,
            _forward: forward,
        };
        streams.printed.has(20).await;
        streams.port.has(20).await;
        streams
    }

    /// What came by both, and how the program's client ended.
    async fn end(mut self) -> (Vec<usize>, Vec<usize>, ExitStatus) {
        let (printed, port) = (self.printed.ended().await, self.port.ended().await);
        (printed, port, self.program.wait().expect("ended"))
    }
}

fn all() -> Vec<usize> {
    (1..=LINES).collect()
}

/// Whether these are the first lines, in order, and not all.
#[track_caller]
fn assert_cut(lines: &[usize]) {
    assert!(lines.len() < LINES, "nothing was cut");
    assert_eq!(lines, &all()[..lines.len()]);
}

async fn reached(client: &SshClient, id: &str) {
    wait::until("the rental is reached", || async {
        client.ssh(id, &[], "true").status.success().then_some(())
    })
    .await;
}

async fn pid(home: &Home, rented: &Rented) -> i64 {
    let facts = home.stage.node.engine().of_rental(&rented.id).await;
    facts.filter(|facts| facts.running).expect("it runs").pid
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_outlive_three_seconds_and_are_told_what_they_dont() {
    let mut home = Home::set(&[]).await;
    let client = SshClient::of(&home.stage.market.api()).await;
    let serves = format!(
        "cat >/tmp/count <<'END'\n#!/bin/sh\n{}\nEND\nchmod +x /tmp/count; (while :; do nc -l -p 7777 -e /tmp/count; done) & {WAITS}",
        counting()
    );
    let mut order = small_order(&home, &serves);
    order["ssh_keys"] = json!([client.public_key()]);
    let rented = rent(&home, &order).await;
    let (id, before) = (rented.id.as_str(), pid(&home, &rented).await);
    reached(&client, id).await;

    // three seconds: nothing is lost
    let streams = Streams::begin(&client, id).await;
    home.nat.cut();
    wait::pass(Duration::from_secs(3)).await;
    home.nat.heal();
    let (printed, port, ended) = streams.end().await;
    assert_eq!((printed, port), (all(), all()));
    assert!(ended.success(), "{ended}");

    // a router that forgot: told, and a new link in seconds
    let streams = Streams::begin(&client, id).await;
    home.nat.forget();
    let from = Instant::now();
    wait::pass(Duration::from_secs(3)).await;
    home.nat.remember();
    let back = Instant::now();
    reached(&client, id).await;
    eprintln!(
        "journey_nat: reached again {:?} after the link could be made",
        back.elapsed()
    );
    let (printed, port, ended) = streams.end().await;
    eprintln!("journey_nat: told of the cut after {:?}", from.elapsed());
    assert_cut(&printed);
    assert_cut(&port);
    assert!(!ended.success(), "told that it was cut: {ended}");

    // the agent dies: its streams end, the rental doesn't
    let streams = Streams::begin(&client, id).await;
    home.kill9_and_launch();
    let (printed, port, ended) = streams.end().await;
    assert_cut(&printed);
    assert_cut(&port);
    assert!(!ended.success(), "told that it was cut: {ended}");
    reached(&client, id).await;
    assert_eq!(pid(&home, &rented).await, before, "another process");
    assert_eq!(rented.view().await["state"], "running");
    assert_no_stray(&client, id).await;
}

/// What a cut stream ran has ended: nobody listens to it any more.
async fn assert_no_stray(client: &SshClient, id: &str) {
    wait::until("programs of cut streams have ended", || async {
        let running = client.says(id, "ps -o args");
        // the first process has the same words in what it is to write
        let strays = running
            .lines()
            .filter(|line| line.contains("usleep 50000") && !line.contains("END"));
        (strays.count() == 0).then_some(())
    })
    .await;
}
