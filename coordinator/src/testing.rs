//! A whole coordinator in a test: a real database, the real router, a clock that tests move, cheap password hashes.
//!
//! [`node`] is a machine that beats as an agent does, [`payer`] a wallet, [`market`] both with an offer between them,
//! [`dump`] every row of the database.

pub mod dump;
pub mod facilitator;
pub mod ledger_run;
pub mod link;
pub mod market;
pub mod node;
pub mod payer;
pub mod served;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use serde_json::{Value, json};
use shared::{clock::ManualClock, id::Ids, time::Timestamp};
use tower::ServiceExt as _;

use crate::{
    app::App,
    config::{Config, Resolve, SecretText},
    domain::{
        payments::ports::{Chain, Facilitator},
        payouts::driver::Payouts,
    },
    lifecycle::Lifecycle,
    router::router,
    store::{
        Db,
        testing::{TempDir, postgres, sqlite, sqlite_at},
    },
};

/// The cron token of test coordinators.
pub const CRON_TOKEN: &str = "cron-token-of-tests-0123456789abcdef";

/// A coordinator without a socket.
#[derive(Debug)]
pub struct TestApp {
    /// What runs.
    pub app: Arc<App>,
    /// Its clock.
    pub clock: ManualClock,
    router: Router,
    folder: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `null` if it isn't.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The value of the cookie that was set.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        self.headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|value| {
                value
                    .to_str()
                    .ok()?
                    .strip_prefix(&prefix)?
                    .split(';')
                    .next()
            })
            .map(str::to_owned)
            .next()
    }
}

impl TestApp {
    /// With default settings but for cheap hashes.
    ///
    /// # Panics
    /// If it can't be made.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With settings of the test's choice.
    ///
    /// # Panics
    /// If it can't be made.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let (db, folder) = sqlite().await;
        Self::on(db, folder, change)
    }

    /// With a clock that begins at a moment, for what was recorded then, and settings. Panics if it can't be made.
    pub async fn starting_at(moment: Timestamp, change: impl FnOnce(&mut Config)) -> Self {
        let (db, folder) = sqlite().await;
        Self::on_at(db, folder, moment, change)
    }

    /// With default settings, its database in a folder in memory if this machine has one: for tests that write much.
    ///
    /// # Panics
    /// If it can't be made.
    pub async fn in_memory() -> Self {
        let folder = TempDir::in_memory();
        let db = sqlite_at(&folder.path().join("market.db")).await;
        Self::on(db, folder, |_| {})
    }

    /// On PostgreSQL, with default settings but for cheap hashes.
    ///
    /// # Panics
    /// If it can't be made, or PostgreSQL isn't installed.
    pub async fn on_postgres() -> Self {
        Self::on_postgres_with(|_| {}).await
    }

    /// On PostgreSQL, with settings of the test's choice.
    ///
    /// # Panics
    /// If it can't be made, or PostgreSQL isn't installed.
    pub async fn on_postgres_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(postgres().await, TempDir::new(), change)
    }

    /// Ends this coordinator and starts another on the same database, folder and clock, with the same settings.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn restarted(self) -> Self {
        self.app.shutdown.cancel();
        let (config, db) = (self.app.config.clone(), self.app.db.clone());
        let clock = Arc::new(self.clock.clone());
        let app = App::new(config, db, clock, Arc::new(Ids::System)).expect("it starts again");
        Self {
            router: router(&app),
            app,
            clock: self.clock,
            folder: self.folder,
        }
    }

    /// Another coordinator on the same database, keys and clock, as a second process is.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn beside(&self) -> Self {
        self.beside_with(|_| {})
    }

    /// The same coordinator, paid through another facilitator.
    ///
    /// # Panics
    /// If something uses it already.
    #[must_use]
    pub fn paid_through(self, facilitator: Arc<dyn Facilitator>) -> Self {
        self.rebuilt(|parts| {
            let purchases = Arc::get_mut(&mut parts.purchases).expect("nobody else has them yet");
            purchases.routes = purchases.routes.through(&facilitator);
            let payouts = Arc::get_mut(&mut parts.payouts).expect("nobody else has them yet");
            for rail in &mut payouts.rails {
                rail.facilitator = Arc::clone(&facilitator);
            }
            drop(facilitator);
        })
    }

    /// The same coordinator with another way out for money.
    ///
    /// # Panics
    /// If something uses it already.
    #[must_use]
    pub fn paying_out(self, change: impl FnOnce(&mut Payouts)) -> Self {
        self.rebuilt(|parts| {
            change(Arc::get_mut(&mut parts.payouts).expect("nobody else has them yet"));
        })
    }

    fn rebuilt(mut self, change: impl FnOnce(&mut App)) -> Self {
        let (config, db) = (self.app.config.clone(), self.app.db.clone());
        let clock = Arc::new(self.clock.clone());
        let mut app = App::new(config, db, clock, Arc::new(Ids::System)).expect("it is made");
        change(Arc::get_mut(&mut app).expect("nobody else has it yet"));
        self.router = router(&app);
        self.app = app;
        self
    }

    /// The same coordinator, paid through another facilitator, and asking this chain, if any.
    ///
    /// # Panics
    /// If something uses it already.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a test hands over what it made for this, of its own types"
    )]
    pub fn paid_and_seen(
        self,
        facilitator: Arc<dyn Facilitator>,
        chain: Option<Arc<dyn Chain>>,
    ) -> Self {
        self.rebuilt(|parts| {
            let purchases = Arc::get_mut(&mut parts.purchases).expect("nobody else has them yet");
            let routes = purchases.routes.through(&facilitator);
            purchases.routes = match &chain {
                Some(chain) => routes.seen_by(chain),
                None => routes,
            };
        })
    }

    /// Takes in beats, as the task of that name does, until the app's `shutdown` is cancelled.
    pub fn start_ingest(&self) {
        let (agents, shutdown) = (Arc::clone(&self.app.agents), self.app.shutdown.clone());
        tokio::spawn(async move { agents.run_ingest(shutdown).await });
    }

    fn on(db: Db, folder: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        Self::on_at(db, folder, Timestamp::from_secs(1_800_000_000), change)
    }

    fn on_at(db: Db, folder: TempDir, moment: Timestamp, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            data_dir: folder.path().join("data"),
            cron_token: Some(SecretText::new(CRON_TOKEN)),
            ..Config::default()
        };
        config.auth.argon2_memory_kib = 64;
        config.auth.argon2_passes = 1;
        // everybody in a test has the same address
        config.payments.quotes_per_minute_ip = 60_000;
        config.limits.rentals_per_minute = 60_000;
        config.limits.refreshes_per_minute = 60_000;
        // its clock stands still unless it is moved
        config.limits.beats_over_nominal = 1_000;
        // tests are called on this machine
        config.outbound.allow_private = vec!["127.0.0.1/32".parse().expect("a range")];
        // registries are asked where a test is about that
        config.images.resolve = Resolve::Never;
        change(&mut config);
        config.validate().expect("settings are in bounds");
        let clock = ManualClock::starting_at(moment);
        let app = App::new(config, db, Arc::new(clock.clone()), Arc::new(Ids::System))
            .expect("a coordinator can be made");
        Self {
            router: router(&app),
            app,
            clock,
            folder,
        }
    }

    /// Where its files are.
    #[must_use]
    pub const fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// Starts the built-in timers; they end when the app's `shutdown` is cancelled.
    ///
    /// # Panics
    /// If one can't be started.
    #[must_use]
    pub fn start_tasks(&self) -> Lifecycle {
        let lifecycle = Lifecycle::new(self.app.shutdown.clone());
        crate::tasks::start(&self.app, &lifecycle).expect("timers start");
        lifecycle
    }

    /// Sends a request and returns its answer, its body unread.
    ///
    /// # Panics
    /// Never: the router doesn't fail.
    pub async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router
            .clone()
            .oneshot(request)
            .await
            .expect("the router doesn't fail")
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// If the body breaks off.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.open(request).await.into_parts();
        let body = to_bytes(body, 16 << 20).await.expect("a whole body");
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// `GET` with a bearer token, if it isn't empty.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(request("GET", path, token, &Value::Null)).await
    }

    /// `POST` of JSON with a bearer token, if it isn't empty; `null` sends no body.
    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        self.send(request("POST", path, token, body)).await
    }

    /// Sends what is queued, and returns all mails that were sent so far, oldest first.
    ///
    /// # Panics
    /// If they can't be sent or read.
    pub async fn mails(&self) -> Vec<String> {
        self.app.postbox.deliver().await.expect("mail is sent");
        let folder = self.app.config.data_dir.join("mail");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
        paths.sort();
        let read = |path| std::fs::read_to_string(path).expect("a mail");
        paths.into_iter().map(read).collect()
    }

    /// Signs somebody up and returns their access token.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn signup(&self, email: &str, roles: &[&str]) -> String {
        let body = json!({"email": email, "password": "a long password", "roles": roles});
        let answer = self.post("/api/v1/auth/signup", "", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let token = answer.json()["access_token"].as_str().map(str::to_owned);
        token.expect("a token")
    }
}

/// A request with JSON and a bearer token.
///
/// # Panics
/// If `path` isn't a path.
#[must_use]
pub fn request(method: &str, path: &str, token: &str, body: &Value) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if body.is_null() {
        Body::empty()
    } else {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
        Body::from(body.to_string())
    };
    builder.body(body).expect("a request")
}

/// Runs each case, an `async fn(TestApp)`, once on SQLite and once on PostgreSQL.
#[cfg(test)]
macro_rules! on_both_stores {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case($crate::testing::TestApp::new().await).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case($crate::testing::TestApp::on_postgres().await).await;
            })+
        }
    };
}
#[cfg(test)]
pub(crate) use on_both_stores;
