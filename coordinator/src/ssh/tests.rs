//! The real OpenSSH client against the gateway; behind it a double runs on this machine what a rental would run.

mod channels;
mod commands;
mod double;
mod forwards;
mod refusals;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use shared::id::RentalId;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

use self::double::Double;
use crate::{
    config::Config,
    lifecycle::Lifecycle,
    store::{Row, testing::TempDir},
    testing::{TestApp, market::Market, payer::Payer},
};

/// Longer than anything here takes: what hangs fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A market with a gateway, a rental that runs, and a client's folder with a key of it.
struct Reach {
    market: Market,
    double: Arc<Double>,
    lifecycle: Lifecycle,
    rental: RentalId,
    token: String,
    port: u16,
    home: TempDir,
    buyers: u32,
}

impl Reach {
    async fn open() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let test = TestApp::with(|config| {
            config.ssh.listen = Some(address);
            config.ssh.refusals_per_minute_ip = 1_000;
            change(config);
        })
        .await;
        let lifecycle = Lifecycle::new(test.app.shutdown.clone());
        let double = Double::new();
        super::start(&test.app, listener, double.opens(), &lifecycle).expect("started");
        let home = TempDir::new();
        let known = test.app.ssh.as_ref().expect("a face").known_hosts();
        std::fs::write(home.path().join("known_hosts"), known + "\n").expect("written");
        let market = Market::open(test).await;
        let mut reach = Self {
            market,
            double,
            lifecycle,
            rental: shared::id::Ids::counting().mint(),
            token: String::new(),
            port: address.port(),
            home,
            buyers: 0,
        };
        reach.keygen("key");
        (reach.rental, reach.token) = reach.rent("key").await;
        reach
    }

    /// A rental that runs and is opened by one of the client's keys; its id and its token.
    async fn rent(&mut self, key: &str) -> (RentalId, String) {
        self.buyers += 1;
        let mut order = self.market.order(600);
        order["ssh_keys"] = json!([self.public(key)]);
        let mut payer = Payer::numbered(self.buyers.try_into().expect("few"));
        let test = &self.market.test;
        let bought = payer.buy(test, "/api/v1/rentals", "", &order).await.json();
        let text = |field: &str| bought[field].as_str().expect("a text").to_owned();
        let id: RentalId = text("id").parse().expect("an id");
        self.market.node.beat(test).await;
        self.market.node.start(id);
        self.market.node.beat(test).await;
        (id, text("rental_token"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Makes a key.
    fn keygen(&self, name: &str) {
        self.keygen_of(name, &["-t", "ed25519"]);
    }

    /// Makes a key of a kind.
    fn keygen_of(&self, name: &str, kind: &[&str]) {
        let made = std::process::Command::new("ssh-keygen")
            .args(kind)
            .args(["-q", "-N", "", "-C", name, "-f"])
            .arg(self.path(name))
            .status();
        assert!(made.expect("ssh-keygen runs").success());
    }

    fn public(&self, key: &str) -> String {
        let line = std::fs::read_to_string(self.path(&format!("{key}.pub"))).expect("a key");
        line.trim().to_owned()
    }

    /// What every client of this folder is told, as `-o` options.
    fn options(&self, key: &str) -> Vec<String> {
        let known = self.path("known_hosts");
        let set = [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "LogLevel=INFO".to_owned(),
            format!("UserKnownHostsFile={}", known.display()),
            format!("IdentityFile={}", self.path(key).display()),
            format!("Port={}", self.port),
        ];
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        options.extend(set.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        options
    }

    fn host(&self) -> String {
        format!("{}@127.0.0.1", self.rental)
    }

    /// `ssh` with options of its own, to this rental.
    fn ssh(&self, more: &[&str], command: &[&str]) -> Command {
        self.ssh_as("key", self.rental, more, command)
    }

    fn ssh_as(&self, key: &str, rental: RentalId, more: &[&str], command: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options(key))
            .args(more)
            .arg(format!("{rental}@127.0.0.1"))
            .args(command)
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        ssh
    }

    async fn close(self) {
        self.lifecycle.stop().await.expect("in good order");
    }
}

/// What a client came to.
#[derive(Debug)]
struct Came {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Came {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// An entry of the audit log of what was opened.
#[derive(Debug, PartialEq, Eq)]
struct Reached {
    actor: String,
    via: Option<String>,
    object: String,
    after: Value,
    client: String,
}

/// What was opened, oldest first.
async fn reached(reach: &Reach) -> Vec<Reached> {
    let read = reach.market.test.app.db.read("test.reached", |tx| {
        let rows = tx.query(
            "SELECT actor, via, object, after_json, client FROM audit_log WHERE action = 'rental.reached' ORDER BY seq",
            crate::params![],
        )?;
        let text = |row: &Row, column| row.text(column).map(str::to_owned);
        let entry = |row: &Row| {
            Ok(Reached {
                actor: text(row, 0)?,
                via: row.opt_text(1)?.map(str::to_owned),
                object: text(row, 2)?,
                after: serde_json::from_str(row.text(3)?).expect("JSON"),
                client: text(row, 4)?,
            })
        };
        rows.iter().map(entry).collect::<crate::error::Result<Vec<_>>>()
    });
    read.await.expect("read")
}

/// Runs a client to its end.
async fn run(command: &mut Command) -> Came {
    fed(command, Vec::new()).await
}

/// Runs a client to its end with something to read.
async fn fed(command: &mut Command, input: Vec<u8>) -> Came {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let feeding = tokio::spawn(async move {
        // a client that ends before it read all of it is no fault
        let _ended = stdin.write_all(&input).await;
    });
    let came = ended(child).await;
    feeding.await.expect("fed");
    came
}

async fn ended(child: Child) -> Came {
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it doesn't hang").expect("it ran");
    Came {
        code: output.status.code(),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Bytes that no cipher or pipe repeats by chance.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
            let mut pause = tokio::time::interval(Duration::from_millis(10));
            pause.tick().await;
            pause.tick().await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

fn same(one: &Path, two: &Path) -> bool {
    std::fs::read(one).expect("a file") == std::fs::read(two).expect("a file")
}
