//! Ten thousand followers of the events: what they take of the coordinator's memory, and that each hears what happens.
//!
//! The settings are those of a market with so many people in front of one coordinator: `http.event_streams_max` and
//! `http.connections_max`; its clients come through a trusted proxy, as behind nginx, and aren't counted by address.

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use system_tests::{
    api::{self, Api},
    market::{Market, Store},
    memory,
    payer::Payer,
    people, wait,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::faults_support::is_full;

const FOLLOWERS: usize = 1_000;
const FOLLOWERS_FULL: usize = 10_000;
/// Whose they are, in equal parts.
const ACCOUNTS: usize = 10;
/// What the whole coordinator may take with [`FOLLOWERS_FULL`].
const MEMORY_BYTES_MAX: u64 = 300 << 20;
/// Connections that are made at once: a listener's queue is short.
const AT_ONCE: usize = 64;

struct Follower(TcpStream);

impl Follower {
    async fn open(market: &Market, api: &Api) -> Self {
        let address = ("127.0.0.1", market.port());
        let mut connection = TcpStream::connect(address).await.expect("connected");
        let head = format!(
            "GET /api/v1/events HTTP/1.1\r\nhost: market\r\nauthorization: Bearer {}\r\n\r\n",
            api.token()
        );
        connection.write_all(head.as_bytes()).await.expect("sent");
        let mut follower = Self(connection);
        let said = follower.until(": ramarket").await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        follower
    }

    /// Reads until something was said.
    async fn until(&mut self, what: &str) -> String {
        let mut said = Vec::new();
        let mut buffer = [0; 4_096];
        let reading = async {
            loop {
                let count = self.0.read(&mut buffer).await.expect("an open stream");
                assert!(count > 0, "it ended");
                said.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&said);
                if text.contains(what) {
                    return text.into_owned();
                }
            }
        };
        let read = timeout(wait::PATIENCE, reading).await;
        read.unwrap_or_else(|_| panic!("nobody said {what}"))
    }
}

/// Something happens to an account: its balance is filled.
async fn filled(account: &Api) {
    let amount = json!({"amount": {"amount": "1", "currency": "USDC"}});
    let filled = Payer::new().pay(account, "/balance/topups", &amount).await;
    assert!(filled.status < 300, "{}", filled.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_cost_little_and_all_of_them_hear_what_happens() {
    let count = if is_full() { FOLLOWERS_FULL } else { FOLLOWERS };
    memory::allow_open_files(u64::try_from(count).expect("few") + 500);
    let settings = [
        ("http.event_streams_max", "10100"),
        ("http.connections_max", "10500"),
        ("limits.topups_per_minute", "60000"),
    ];
    let market = Market::with(Store::Sqlite, &settings).await;
    let mut accounts = Vec::new();
    for number in 0..ACCOUNTS {
        let name = format!("follower{number}");
        accounts.push(people::signup(&market, &name, &["consumer"]).await);
    }
    // what the first of all costs once is none of what each costs
    let mut first = Follower::open(&market, &accounts[0]).await;
    filled(&accounts[0]).await;
    first.until("event: ").await;
    drop(first);
    let before = memory::resident_bytes(market.pid());
    let mut followers: Vec<Follower> = stream::iter(0..count)
        .map(|number| Follower::open(&market, &accounts[number % ACCOUNTS]))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let connected = memory::resident_bytes(market.pid());
    // each hears what happens to its account
    for account in &accounts {
        filled(account).await;
    }
    for follower in &mut followers {
        follower.until("event: ").await;
    }
    let told = memory::resident_bytes(market.pid());
    // and that we are here, when nothing else happens
    for follower in &mut followers {
        follower.until(": \n").await;
    }
    let after = memory::resident_bytes(market.pid());
    let all = [connected, told, after].into_iter().max();
    let most = all.expect("three");
    let each = most.saturating_sub(before) / u64::try_from(count).expect("few");
    eprintln!(
        "{count} followers: {} MiB before, {} connected, {} after an event each, {} after heartbeats; {each} bytes each",
        before >> 20,
        connected >> 20,
        told >> 20,
        after >> 20
    );
    let full = u64::try_from(FOLLOWERS_FULL).expect("few");
    assert!(
        before + each * full <= MEMORY_BYTES_MAX,
        "{each} bytes each"
    );
    // who leaves is let go
    drop(followers);
    let url = format!("{}/metrics", market.url());
    wait::until("their places are free", || async {
        let metrics = api::http_client().get(&url).send().await.ok()?;
        let text = metrics.text().await.ok()?;
        text.contains("event_streams 0\n").then_some(())
    })
    .await;
}
