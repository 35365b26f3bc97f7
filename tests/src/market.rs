//! A coordinator as a process: on a port and a database that outlive it, so that it may be killed and started again.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use coordinator::store::{
    DatabaseUrl,
    testing::{TempDir, postgres_url},
};
use tokio_postgres::config::Host;

use crate::{
    api::{self, Api},
    program::{self, Program},
    wait,
};

const PROGRAM: &str = "ramarket-coordinator";
/// Below the ports that the kernel gives to outgoing connections, which could take ours while we are down.
const PORTS: std::ops::Range<u32> = 20_000..32_000;
/// Settings of every test market: fast beats and timers, cheap hashes, no limits on logins.
const SETTINGS: [(&str, &str); 12] = [
    // the image of most tests is on the engine alone
    ("images.resolve", "never"),
    ("agents.beat_interval_ms", "500"),
    ("auth.argon2_memory_kib", "64"),
    ("auth.argon2_passes", "1"),
    ("auth.attempts_per_minute_account", "60000"),
    ("auth.attempts_per_minute_ip", "60000"),
    ("limits.refreshes_per_minute", "60000"),
    ("limits.rentals_per_minute", "60000"),
    ("auth.access_token_s", "3600"),
    ("tasks.leases_ms", "500"),
    ("tasks.settlement_ms", "500"),
    (
        "log.level",
        "info,refinery_core=warn,coordinator::http::middleware=warn",
    ),
];

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file in the market's folder.
    Sqlite,
    /// A database on this process's own server.
    Postgres,
}

/// A coordinator, running or not.
#[derive(Debug)]
pub struct Market {
    // dropped before the folder
    process: Program,
    folder: TempDir,
    port: u32,
    database: String,
    settings: Vec<(String, String)>,
}

impl Market {
    /// A fresh market with the settings of tests.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn start(store: Store) -> Self {
        Self::with(store, &[]).await
    }

    /// A fresh market with `settings` (`("market.min_duration_s", "2")`) on top of those of tests.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn with(store: Store, settings: &[(&str, &str)]) -> Self {
        let folder = TempDir::new();
        let database = match store {
            Store::Sqlite => format!("sqlite://{}/market.db", folder.path().display()),
            Store::Postgres => url_text(&postgres_url().await),
        };
        Self::on(folder, database, settings).await
    }

    /// A market on a database that is there, such as a backup; its keys are new unless `folder` has some in `data/keys`.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn on(folder: TempDir, database: String, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let settings: Vec<(String, String)> = SETTINGS
            .iter()
            .chain(settings)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut command = configured(&folder, port, &database, &settings);
        command.arg("serve");
        let log = folder.path().join("coordinator.log");
        let mut market = Self {
            process: Program::spawn(PROGRAM, command, &log),
            folder,
            port,
            database,
            settings,
        };
        market.until_ready().await;
        market
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port that it listens on, on loopback.
    ///
    /// # Panics
    /// If it isn't one.
    #[must_use]
    pub fn port(&self) -> u16 {
        u16::try_from(self.port).expect("a port")
    }

    /// Its API, as nobody.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::of(&self.url())
    }

    /// The URL of its database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Where its files are: keys in `data/keys`, the log in `coordinator.log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.folder)
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal (`HUP`).
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn signal(&self, name: &str) {
        program::signal(self.process.pid(), name);
    }

    /// `SIGKILL`.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// `SIGTERM`, as an operator would stop it.
    ///
    /// # Panics
    /// If it doesn't end well.
    pub fn stop(&mut self) {
        assert!(self.process.end(), "the coordinator ended badly");
    }

    /// Starts it again on the same port and database, killing it first if it runs; returns when it is ready.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn restart(&mut self) {
        self.relaunch();
        self.until_ready().await;
    }

    /// As [`Market::restart`], without waiting.
    pub fn relaunch(&mut self) {
        self.process.kill9();
        let mut command = self.command(&["serve"]);
        self.process.again(&mut command);
    }

    /// As [`Market::restart`]; it dies when it gets to a place of its code (`payment.credit:after`).
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn restart_to_die_at(&mut self, place: &str) {
        self.relaunch_to_die_at(place);
        self.until_ready().await;
    }

    /// As [`Market::restart_to_die_at`], without waiting: it may get there before it is ready.
    pub fn relaunch_to_die_at(&mut self, place: &str) {
        self.process.kill9();
        let mut command = self.command(&["serve"]);
        command.env("DIE_AT", place);
        self.process.again(&mut command);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it lives on.
    pub async fn until_dead(&mut self) {
        let process = std::sync::Mutex::new(&mut self.process);
        wait::until("the coordinator is dead", || {
            let ended = process.lock().expect("one thread").has_ended();
            std::future::ready(ended.then_some(()))
        })
        .await;
    }

    /// A command of `ramarket-coordinator` with this market's settings.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = configured(&self.folder, self.port, &self.database, &self.settings);
        command.args(arguments);
        command
    }

    /// Runs a command of `ramarket-coordinator` to its end.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it can be started")
    }

    /// Waits until it answers `/readyz`; with TLS of its own, which takes a client that trusts it, until it says that it is ready.
    ///
    /// # Panics
    /// If it ends, or doesn't get ready in time.
    pub async fn until_ready(&mut self) {
        if self.settings.iter().any(|(key, _)| key == "http.tls_cert") {
            let process = std::sync::Mutex::new(&mut self.process);
            wait::until("the coordinator says that it is ready", || {
                let mut process = process.lock().expect("one thread");
                assert!(
                    !process.has_ended(),
                    "the coordinator ended while it started"
                );
                let is_ready = process.log().contains("coordinator is ready");
                std::future::ready(is_ready.then_some(()))
            })
            .await;
            return;
        }
        let (http, url) = (api::http_client(), format!("{}/readyz", self.url()));
        let process = std::sync::Mutex::new(&mut self.process);
        wait::until("the coordinator is ready", || {
            let ended = process.lock().expect("one thread").has_ended();
            let asked = http.get(&url).send();
            async move {
                assert!(!ended, "the coordinator ended while it started");
                asked.await.ok().filter(|it| it.status().is_success())
            }
        })
        .await;
    }
}

fn data_dir(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

fn configured(
    folder: &TempDir,
    port: u32,
    database: &str,
    settings: &[(String, String)],
) -> Command {
    let mut command = program::command(PROGRAM);
    command
        .arg("--data-dir")
        .arg(data_dir(folder))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--log-format", "json"])
        .env("RAMARKET_DATABASE__URL", database);
    for (key, value) in settings {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command
}

/// A port that nobody listens on. Tests are several processes: each begins somewhere else.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let room = PORTS.end - PORTS.start;
    for _ in 0..room {
        let next = std::process::id().wrapping_mul(61) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + next % room;
        let number = u16::try_from(port).expect("a port");
        if TcpListener::bind(("127.0.0.1", number)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// The text of a database's URL.
fn url_text(url: &DatabaseUrl) -> String {
    match url {
        DatabaseUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
        DatabaseUrl::Postgres(config) => {
            let user = config.get_user().expect("a user");
            let name = config.get_dbname().expect("a name");
            let host = match config.get_hosts() {
                [Host::Unix(folder)] => folder.display(),
                other => panic!("tests use a socket, not {other:?}"),
            };
            format!("postgres://{user}@/{name}?host={host}")
        }
    }
}
