//! Clients that mean harm: huge passwords in parallel, heads and bodies byte by byte, heads and bodies without end, JSON
//! without bottom. Limits answer, the coordinator's memory stays flat, and beats are accepted all the while.

use std::time::Duration;

use system_tests::{
    api,
    market::{Market, Store},
    memory,
    node::Node,
    people, wait,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

/// Logins at once.
const LOGINS: usize = 300;
/// Slow clients of each kind.
const SLOW: usize = 60;
/// A slow client sends a byte so often.
const BYTE_EVERY: Duration = Duration::from_millis(500);
/// No single attack may last longer; the slowest is a body's 30 s.
const END: Duration = Duration::from_secs(50);
/// What the attacks may cost: one password hash (64 MiB), the bodies of one lane (32 MiB) and their copies, connections.
const GROWTH_BYTES_MAX: u64 = 224 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_meet_limits_and_beats_go_on() {
    let market = Market::with(Store::Sqlite, &[("auth.argon2_memory_kib", "65536")]).await;
    let provider = people::provider(&market).await;
    let node = Node::start(&market, &provider).await;
    let (before, peak_before) = (Beats::of(&market).await, memory::peak_bytes(market.pid()));
    let started = Instant::now();

    let mut attacks = JoinSet::new();
    let url = market.url();
    attacks.spawn(logins(url.clone()));
    let port = market.port();
    attacks.spawn(slow_heads(port));
    attacks.spawn(slow_bodies(port));
    attacks.spawn(huge_heads(port));
    attacks.spawn(huge_bodies(port));
    attacks.spawn(bottomless_json(url));
    while let Some(ended) = attacks.join_next().await {
        ended.expect("the attack was met as it should");
        assert_eq!(node.view().await["availability"], "online");
    }
    assert!(started.elapsed() < END * 2, "took {:?}", started.elapsed());

    let after = Beats::of(&market).await;
    assert_eq!(after.refused, before.refused, "no beat was refused");
    // the agent beats twice a second: a quarter of that is generous to a busy machine
    let wanted = started.elapsed().as_secs() / 2;
    assert!(
        after.accepted - before.accepted >= wanted,
        "{} beats, of at least {wanted}",
        after.accepted - before.accepted
    );
    let growth = memory::peak_bytes(market.pid()).saturating_sub(peak_before);
    assert!(growth < GROWTH_BYTES_MAX, "memory grew by {growth} bytes");
    eprintln!(
        "{:?}: {} beats accepted, peak memory grew by {} MiB",
        started.elapsed(),
        after.accepted - before.accepted,
        growth >> 20
    );
    market.api().get("/offers").await.is(200);
}

/// Beats so far, by the coordinator's own count.
struct Beats {
    accepted: u64,
    refused: u64,
}

impl Beats {
    async fn of(market: &Market) -> Self {
        let url = format!("{}/metrics", market.url());
        let answer = api::http_client().get(url).send().await.expect("metrics");
        let text = answer.text().await.expect("text");
        let (mut accepted, mut refused) = (0, 0);
        for line in text.lines() {
            if line.starts_with("http_requests_total{") && line.contains("/heartbeat\"") {
                let count: u64 = line
                    .rsplit(' ')
                    .next()
                    .and_then(|number| number.parse().ok())
                    .expect("a number");
                let well = line.contains("status=\"200\"");
                *(if well { &mut accepted } else { &mut refused }) += count;
            }
        }
        Self { accepted, refused }
    }
}

/// Two thirds with a password of nearly a mebibyte, the rest with one that must be hashed.
async fn logins(url: String) {
    let http = api::http_client();
    let mut asked = JoinSet::new();
    for n in 0..LOGINS {
        let length = if n % 3 == 0 { 20 } else { 1_000_000 };
        let body = format!(
            "{{\"email\":\"nobody{n}@example.org\",\"password\":\"{}\"}}",
            "x".repeat(length)
        );
        let request = http
            .post(format!("{url}/api/v1/auth/login"))
            .header("content-type", "application/json")
            .body(body);
        asked.spawn(async move { api::try_send(request).await });
    }
    let (mut failed, mut busy) = (0, 0);
    while let Some(answer) = asked.join_next().await {
        let answer = answer.expect("no panic").expect("an answer");
        match answer.status {
            401 => failed += 1,
            503 => {
                assert!(answer.header("retry-after").is_some());
                busy += 1;
            }
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert!(failed > 0 && failed + busy == LOGINS, "{failed} + {busy}");
}

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection")
}

/// What was answered until the end of the connection; empty when it was cut off.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

/// Sends `head` at once and `rest` byte by byte, until the other side has enough; returns what it said.
async fn trickle(port: u16, head: String, rest: &'static [u8]) -> String {
    let (mut read, mut write) = connect(port).await.into_split();
    write.write_all(head.as_bytes()).await.expect("sent");
    let sending = async {
        for byte in rest.iter().cycle() {
            wait::pass(BYTE_EVERY).await;
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let reading = async {
        let mut said = Vec::new();
        // an error is a connection that was cut off
        drop(read.read_to_end(&mut said).await);
        String::from_utf8_lossy(&said).into_owned()
    };
    tokio::select! {
        said = reading => said,
        () = sending => String::new(),
        () = wait::pass(END) => panic!("a slow client was served for {END:?}"),
    }
}

async fn slow_heads(port: u16) {
    let mut clients = JoinSet::new();
    for n in 0..SLOW {
        // some don't even say which protocol they speak
        let head = if n % 2 == 0 {
            ""
        } else {
            "GET /healthz HTTP/1.1\r\nhost: x\r\n"
        };
        clients.spawn(trickle(port, head.to_owned(), b"PRI * HTTP/2"));
    }
    while let Some(said) = clients.join_next().await {
        let said = said.expect("cut off");
        assert!(!said.starts_with("HTTP/1.1 2"), "{said}");
    }
}

async fn slow_bodies(port: u16) {
    let mut clients = JoinSet::new();
    for n in 0..SLOW {
        let path = ["/api/v1/auth/login", "/api/v1/rentals"][n % 2];
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
        );
        clients.spawn(trickle(port, head, b" "));
    }
    while let Some(said) = clients.join_next().await {
        let said = said.expect("answered");
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
        assert!(said.contains("body_too_slow"), "{said}");
    }
}

async fn huge_heads(port: u16) {
    for length in [20_000, 65_536] {
        let mut stream = connect(port).await;
        let value = "b".repeat(length);
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: {value}\r\n\r\n");
        // it may be refused before it is all sent
        drop(stream.write_all(head.as_bytes()).await);
        let said = answer(&mut stream).await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 431"),
            "{said}"
        );
        assert!(!said.is_empty() || length > 32_768, "{said}");
    }
}

async fn huge_bodies(port: u16) {
    const LENGTH: usize = 100_000_000;
    for chunked in [false, true] {
        let mut stream = connect(port).await;
        let length = if chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {LENGTH}")
        };
        let head = format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let chunk = [b' '; 65_536];
        let mut sent = 0;
        while sent < LENGTH {
            let framed = if chunked { "10000\r\n" } else { "" };
            let end = if chunked { "\r\n" } else { "" };
            let piece = [framed.as_bytes(), &chunk, end.as_bytes()].concat();
            if stream.write_all(&piece).await.is_err() {
                break;
            }
            sent += chunk.len();
        }
        assert!(sent < LENGTH / 2, "{sent} bytes were taken");
    }
    // whoever waits before sending is told
    let mut stream = connect(port).await;
    let head = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {LENGTH}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let said = answer(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    assert!(said.contains("body_too_large"), "{said}");
}

async fn bottomless_json(url: String) {
    let body = "[".repeat(100_000);
    let http = api::http_client();
    let refused = wait::until("there is room for a body", || {
        let request = http
            .post(format!("{url}/api/v1/auth/login"))
            .header("content-type", "application/json")
            .body(body.clone());
        async move {
            let answer = api::send(request).await;
            (answer.status != 503).then_some(answer)
        }
    })
    .await;
    refused.refused(400, "malformed_json");
}
