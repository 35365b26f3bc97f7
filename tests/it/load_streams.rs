//! Two hundred idle and fifty busy streams on one coordinator: all of them live, its memory stays where it was, and one whose reader
//! never reads is dropped at its limit.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _, future::join_all, stream};
use serde_json::json;
use shared::link::frame::{self, Frame};
use system_tests::{
    MIB, api,
    market::{Market, Store},
    memory,
    payer::{Payer, Rented},
    wait,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    faults_support::{Stage, is_full},
    journey_reach::{Socket, exec, says},
};

const RENTALS: usize = 2;
const RENTALS_FULL: usize = 5;
/// Of each rental.
const IDLE: usize = 40;
const BUSY: usize = 10;
/// What each busy stream brings in a round.
const ROUND_BYTES: usize = 1 << 20;
const ROUNDS: usize = 6;
/// By how much the coordinator may have grown from the end of the first round to that of the last.
const GROWTH_BYTES_MAX: u64 = 16 << 20;
/// What a stream may cost in all: both windows of its hop, and a message each way.
const EACH_BYTES_MAX: u64 = 1 << 20;
/// Sockets opened at once.
const AT_ONCE: usize = 8;
/// Round trips whose middle is shown.
const TRIPS: usize = 51;
const TRIPS_FULL: usize = 501;

/// The next bytes that a program wrote.
async fn output(socket: &mut Socket) -> Vec<u8> {
    loop {
        let message = timeout(wait::PATIENCE, socket.next()).await;
        let message = message.expect("in time").expect("open").expect("whole");
        let Message::Binary(bytes) = message else {
            continue;
        };
        match frame::read(&mut &bytes[..]).await.expect("a frame") {
            Some(Frame::Stdout(bytes)) => return bytes,
            other => panic!("no output: {other:?}"),
        }
    }
}

async fn round(socket: &mut Socket) {
    let mut came = 0;
    while came < ROUND_BYTES {
        came += output(socket).await.len();
    }
}

async fn metric(market: &Market, line: &str) -> Option<u64> {
    let url = format!("{}/metrics", market.url());
    let text = api::http_client()
        .get(url)
        .send()
        .await
        .ok()?
        .text()
        .await
        .ok()?;
    let value = text.lines().find_map(|told| told.strip_prefix(line))?;
    value.trim().parse().ok()
}

/// Runs a program by the rental's token: tickets are rationed.
async fn run(stage: &Stage, rented: &Rented, command: &[&str]) -> Socket {
    let host = format!("127.0.0.1:{}", stage.market.port());
    let url = format!("ws://{host}/api/v1/rentals/{}/exec", rented.id);
    let mut request = url.into_client_request().expect("a request");
    let bearer = format!("Bearer {}", rented.api.token());
    let bearer = bearer.parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    let connection = TcpStream::connect(host).await.expect("connected");
    let (mut socket, _) = client_async(request, connection).await.expect("let in");
    let exec = json!({"command": command, "terminal": null});
    let said = socket.send(Message::Text(exec.to_string().into())).await;
    said.expect("sent");
    socket
}

async fn open(stage: &Stage, rented: &Rented, command: &[&str], count: usize) -> Vec<Socket> {
    stream::iter(0..count)
        .map(|_| run(stage, rented, command))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

async fn rentals(stage: &Stage, count: usize) -> Vec<Rented> {
    let mut order = stage.order();
    order["resources"]["ram_bytes"] = (256 * MIB).into();
    let mut rentals = Vec::new();
    for _ in 0..count {
        let rented = Payer::new().rent(&stage.market.api(), &order).await;
        rented.until("running").await;
        let reached = wait::until("the rental is reached", || exec(stage, &rented, &["true"]));
        drop(reached.await);
        rentals.push(rented);
    }
    rentals
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_cost_what_they_cost_at_first_and_who_never_reads_is_dropped() {
    // those that are busy wait for the slowest of them, and are waited for while the others open
    let settings = [("gateway.stall_s", "20")];
    let stage = Stage::new(Store::Sqlite, &settings).await;
    let count = if is_full() { RENTALS_FULL } else { RENTALS };
    let rentals = rentals(&stage, count).await;
    let pid = stage.market.pid();
    let before = memory::resident_bytes(pid);
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for rented in &rentals {
        idle.extend(open(&stage, rented, &["cat"], IDLE).await);
    }
    for rented in &rentals {
        busy.extend(open(&stage, rented, &["yes"], BUSY).await);
    }
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        join_all(busy.iter_mut().map(round)).await;
        seen.push(memory::resident_bytes(pid));
    }
    let total = idle.len() + busy.len();
    let open_now = metric(&stage.market, "gateway_streams ").await;
    assert_eq!(open_now, u64::try_from(total).ok());
    let mib: Vec<u64> = seen.iter().map(|bytes| bytes >> 20).collect();
    eprintln!(
        "{} idle and {} busy streams: {} MiB before them, {mib:?} MiB after each round of {} MiB",
        idle.len(),
        busy.len(),
        before >> 20,
        (busy.len() * ROUND_BYTES) >> 20
    );
    let (first, last) = (seen[0], seen[ROUNDS - 1]);
    assert!(last <= first + GROWTH_BYTES_MAX, "it grows: {mib:?}");
    let may = before + u64::try_from(total).expect("few") * EACH_BYTES_MAX;
    assert!(last <= may, "{mib:?}");
    // one of them stops reading: the others don't notice
    let stalled = "gateway_streams_ended_total{kind=\"exec\",end=\"stalled\"} ";
    let stuck = busy.pop().expect("one");
    let begun = Instant::now();
    while metric(&stage.market, stalled).await.is_none() {
        assert!(begun.elapsed() < wait::PATIENCE, "who never reads stays");
        join_all(busy.iter_mut().map(round)).await;
    }
    let log = stage.market.log();
    assert!(log.contains("took nothing for too long"), "with a reason");
    drop(stuck);
    // idle isn't dead
    for socket in &mut idle {
        says(socket, b"still here\n").await;
        assert_eq!(output(socket).await, b"still here\n");
    }
    let after = memory::resident_bytes(pid);
    assert!(after <= first + GROWTH_BYTES_MAX, "{} MiB", after >> 20);
    for socket in idle.iter_mut().chain(&mut busy) {
        drop(timeout(Duration::from_secs(5), socket.close(None)).await);
    }
    drop((idle, busy));
    wait::until("their places are free", || async {
        metric(&stage.market, "gateway_streams ")
            .await
            .filter(|open| *open == 0)
    })
    .await;
    for rented in &rentals {
        rented.stop().await;
    }
    stage.nothing_left().await;
}

fn middle(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

/// Each web request opens a stream into its rental. What keeping one could save is no more than what a request takes beyond a round trip
/// over a stream that is open.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_web_request_takes_is_shown_beside_a_stream_that_is_open() {
    let settings = [("gateway.tenant_domain", "apps.test")];
    let stage = Stage::new(Store::Sqlite, &settings).await;
    let rented = &rentals(&stage, 1).await[0];
    let server = "echo hello >/tmp/index.html; exec httpd -f -p 8080 -h /tmp";
    let serving = exec(&stage, rented, &["sh", "-c", server]).await;
    let put = rented
        .api
        .request("PUT", &format!("/rentals/{}/ports/8080", rented.id));
    api::send(put.json(&json!({"public": true}))).await.is(200);
    let name = format!("8080-{}.apps.test", rented.id.replace('_', "-"));
    let client = api::http_client();
    let visit = async || {
        let asked = client.get(stage.market.url()).header("host", &name);
        let answer = asked.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("text"))
    };
    wait::until("the rental serves", || async {
        (visit().await.0 == 200).then_some(())
    })
    .await;
    let mut open = exec(&stage, rented, &["cat"]).await.expect("let in");
    let (mut visits, mut trips) = (Vec::new(), Vec::new());
    for _ in 0..if is_full() { TRIPS_FULL } else { TRIPS } {
        let begun = Instant::now();
        assert_eq!(visit().await, (200, "hello\n".to_owned()));
        visits.push(begun.elapsed());
        let begun = Instant::now();
        says(&mut open, b"hello\n").await;
        assert_eq!(output(&mut open).await, b"hello\n");
        trips.push(begun.elapsed());
    }
    eprintln!(
        "{} web requests of a stream each: {:?} in the middle; a round trip over a stream that is open: {:?}",
        visits.len(),
        middle(visits),
        middle(trips)
    );
    drop((open, serving));
    rented.stop().await;
    stage.nothing_left().await;
}
