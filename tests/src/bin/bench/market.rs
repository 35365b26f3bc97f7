//! A market on this machine by the programs of this build: coordinator on SQLite, one agent, one offer, clients that pay.
//!
//! # Invariants
//! - The programs are those beside this one, so that an optimised bench measures optimised programs.
//! - Everything is in one folder; containers carry the node's label, and [`Market::end`] leaves none.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    money::Amount,
    time::Timestamp,
    x402::{client, header, signature::PayerKey, wire_v2::PaymentRequired},
};
use tokio::process::{Child, Command};

use crate::machine::{Folder, until};

/// What each rental takes, at both sides of every comparison.
pub(crate) const RAM_BYTES: i64 = 64 << 20;
/// What runs.
pub(crate) const IMAGE: &str = "busybox:latest";
pub(crate) const COMMAND: [&str; 2] = ["sleep", "3600"];

const AGENT_LOG: &str = "agent.log";
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
const END_TIME_MAX: Duration = Duration::from_secs(20);

/// What differs from row to row.
#[derive(Debug, Default)]
pub(crate) struct Setup<'a> {
    /// More settings of the coordinator's, as TOML.
    pub(crate) settings: &'a str,
    /// Whether the agent reaches the engine through a helper, as installed ones do.
    pub(crate) helper: bool,
}

/// A running market.
pub(crate) struct Market {
    folder: Folder,
    coordinator: Child,
    helper: Option<Child>,
    agent: Child,
    client: reqwest::Client,
    url: String,
    offer_id: String,
    /// The agent's node.
    pub(crate) node_id: String,
}

/// A signed order, ready to be sent.
pub(crate) struct Order {
    body: String,
    payment: String,
}

/// What was rented.
pub(crate) struct Rented {
    pub(crate) rental_id: String,
    pub(crate) token: String,
}

impl Market {
    /// Starts it; returns when the offer can be rented.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, &Setup::default()).await
    }

    /// The same, set up otherwise.
    pub(crate) async fn start_with(name: &str, setup: &Setup<'_>) -> Result<Self> {
        shared::tls::init();
        let folder = Folder::new(name)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let url = format!("http://127.0.0.1:{port}");
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST_TIME_MAX)
            .build()?;
        let settings = folder.path().join("coordinator.toml");
        let data = folder.path().join("coordinator").display().to_string();
        let text = format!(
            "data_dir = \"{data}\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
             [images]\nresolve = \"never\"\n[limits]\nrentals_per_minute = 6000\n{}",
            setup.settings
        );
        std::fs::write(&settings, text)?;
        let mut serve = Command::new(program("ramarket-coordinator")?);
        serve.arg("serve").arg("--config").arg(&settings);
        let coordinator = spawn(serve, &folder.path().join("coordinator.log"))?;
        until("the coordinator is ready", async || {
            let asked = client.get(format!("{url}/readyz")).send().await;
            Ok(asked
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(()))
        })
        .await
        .with_context(|| format!("see {}", folder.path().display()))?;
        let provider = sign_up(&client, &url).await?;
        let agent_dir = folder.path().join("agent");
        enrol(&client, &url, &provider, folder.path(), &agent_dir).await?;
        let mut run = Command::new(program("ramarket-agent")?);
        run.arg("run").arg("--data-dir").arg(&agent_dir);
        // its calls of the engine, with their times
        run.args(["--log", "info,node_agent::runtime=debug"]);
        let helper = if setup.helper {
            let socket = folder.path().join("helper.sock");
            run.arg("--helper-socket").arg(&socket);
            Some(start_helper(folder.path(), &socket).await?)
        } else {
            None
        };
        let agent = spawn(run, &folder.path().join(AGENT_LOG))?;
        let node_id = identity(&agent_dir)?;
        let mut market = Self {
            folder,
            coordinator,
            helper,
            agent,
            client,
            url,
            offer_id: String::new(),
            node_id,
        };
        market.offer(&provider).await?;
        Ok(market)
    }

    /// Where everything is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// When the agent wrote `message` about a thing (`"rental.id"`, `"container.id"`).
    pub(crate) fn agent_wrote(&self, message: &str, about: (&str, &str)) -> Result<Timestamp> {
        let log = std::fs::read_to_string(self.folder().join(AGENT_LOG))?;
        let line = log
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == message && line[about.0] == about.1)
            .with_context(|| format!("the agent didn't write \"{message}\" of {}", about.1))?;
        Ok(Timestamp::parse_rfc3339(&text(&line, "timestamp")?)?)
    }

    /// The agent's process.
    pub(crate) fn agent_pid(&self) -> Result<u32> {
        self.agent.id().context("the agent has ended")
    }

    async fn offer(&mut self, provider: &str) -> Result<()> {
        let node = format!("/nodes/{}", self.node_id);
        until("the node is online", async || {
            let node = self.get(&node, provider).await?;
            Ok((node["availability"] == "online").then_some(()))
        })
        .await
        .with_context(|| format!("see {}", self.folder().display()))?;
        let body = json!({
            "node_id": self.node_id, "region": "local", "prices": {"ram_gib_hour": "0.01", "cpu_hour": "0.01"},
        });
        let (_, made) = self.post("/offers", provider, &body).await?;
        self.offer_id = text(&made, "id")?;
        let offer = format!("/offers/{}", self.offer_id);
        until("the offer can be rented", async || {
            let offer = self.get(&offer, "").await?;
            Ok((offer["available"] == true).then_some(()))
        })
        .await
    }

    /// Asks for the terms as somebody new, and signs; `cpu_millis` in thousandths of a processor.
    pub(crate) async fn order(&self, cpu_millis: i64) -> Result<Order> {
        let resources = json!({"ram_bytes": RAM_BYTES, "cpu_millis": cpu_millis});
        self.order_of(&resources, &[]).await
    }

    /// The same for other resources, with public keys that open the rental.
    pub(crate) async fn order_of(&self, resources: &Value, ssh_keys: &[String]) -> Result<Order> {
        let mut body = json!({
            "offer_id": self.offer_id,
            "resources": resources,
            "duration_seconds": 3_600,
            "image": IMAGE,
            "command": COMMAND,
        });
        if !ssh_keys.is_empty() {
            body["ssh_keys"] = json!(ssh_keys);
        }
        let body = body.to_string();
        let asked = self.rent(body.clone(), None).await?;
        let status = asked.status();
        ensure!(
            status == StatusCode::PAYMENT_REQUIRED,
            "expected terms, got {status}: {}",
            asked.text().await?
        );
        let terms = asked.headers().get(header::PAYMENT_REQUIRED);
        let terms: PaymentRequired = header::decode(terms.context("no terms")?.as_bytes())?;
        let payment = sign(&terms, SystemClock.now())?;
        Ok(Order { body, payment })
    }

    /// Sends a signed order; returns when it is answered.
    pub(crate) async fn pay(&self, order: &Order) -> Result<Rented> {
        let paid = self.rent(order.body.clone(), Some(&order.payment)).await?;
        let status = paid.status();
        let answer = paid.text().await?;
        ensure!(
            status == StatusCode::CREATED,
            "not rented: {status}: {answer}"
        );
        let answer: Value = serde_json::from_str(&answer)?;
        Ok(Rented {
            rental_id: text(&answer, "id")?,
            token: text(&answer, "rental_token")?,
        })
    }

    async fn rent(&self, body: String, payment: Option<&str>) -> Result<reqwest::Response> {
        let mut request = self
            .client
            .post(format!("{}/api/v1/rentals", self.url))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(payment) = payment {
            request = request.header(header::PAYMENT_SIGNATURE, payment);
        }
        Ok(request.send().await?)
    }

    /// Asks for the end of a rental.
    pub(crate) async fn stop(&self, rented: &Rented) -> Result<()> {
        let path = format!("/rentals/{}/stop", rented.rental_id);
        self.post(&path, &rented.token, &json!({})).await?;
        Ok(())
    }

    /// Waits until it runs.
    pub(crate) async fn until_running(&self, rented: &Rented) -> Result<()> {
        let path = format!("/rentals/{}", rented.rental_id);
        until("the rental runs", async || {
            let view = self.get(&path, &rented.token).await?;
            Ok((view["state"] == "running").then_some(()))
        })
        .await
    }

    /// Where the API is, as a WebSocket dials it.
    pub(crate) fn socket_url(&self) -> String {
        format!("{}/api/v1", self.url.replacen("http", "ws", 1))
    }

    /// Reads of the API; `token` may be empty.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Result<Value> {
        let asked = self.client.get(format!("{}/api/v1{path}", self.url));
        Ok(as_bearer(asked, token).send().await?.json().await?)
    }

    async fn post(&self, path: &str, token: &str, body: &Value) -> Result<(StatusCode, Value)> {
        post(&self.client, &self.url, path, token, body).await
    }

    /// Ends both programs and removes the node's containers and the folder.
    pub(crate) async fn end(mut self) -> Result<()> {
        stop(&mut self.agent).await?;
        if let Some(helper) = &mut self.helper {
            stop(helper).await?;
        }
        stop(&mut self.coordinator).await?;
        crate::launch::engine::remove_of_node(&self.node_id).await?;
        self.folder.remove()
    }
}

/// The payment for terms by a new payer, whom the sandbox gives play money.
pub(crate) fn sign(terms: &PaymentRequired, now: Timestamp) -> Result<String> {
    let key = PayerKey::from_bytes(&random()?)?;
    let chosen = client::choose(terms, Amount::from_atomic(100_000_000)?)?;
    let signed = chosen.pay(&key, random()?, now)?;
    Ok(signed.header_v2)
}

/// 32 random bytes.
pub(crate) fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    Ok(bytes)
}

fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is missing: build it first (make bench does)",
        path.display()
    );
    Ok(path)
}

fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {:?}", command.as_std().get_program()))
}

/// Returns when it listens.
async fn start_helper(folder: &Path, socket: &Path) -> Result<Child> {
    let mut serve = Command::new(program("ramarket-helper")?);
    serve.arg("--socket").arg(socket).arg("--state-dir");
    serve.arg(folder.join("helper"));
    let helper = spawn(serve, &folder.join("helper.log"))?;
    until("the helper listens", async || {
        let connected = tokio::net::UnixStream::connect(socket).await;
        Ok(connected.is_ok().then_some(()))
    })
    .await?;
    Ok(helper)
}

async fn stop(child: &mut Child) -> Result<()> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid
        .and_then(Pid::from_raw)
        .context("a program ended by itself")?;
    kill_process(pid, Signal::TERM)?;
    tokio::time::timeout(END_TIME_MAX, child.wait())
        .await
        .context("a program doesn't stop")??;
    Ok(())
}

async fn post(
    client: &reqwest::Client,
    url: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> Result<(StatusCode, Value)> {
    let asked = client.post(format!("{url}/api/v1{path}")).json(body);
    let answer = as_bearer(asked, token).send().await?;
    let status = answer.status();
    let body = answer.text().await?;
    ensure!(status.is_success(), "{path} was refused: {status}: {body}");
    Ok((status, serde_json::from_str(&body)?))
}

/// With the token, if there is one: an empty one is refused.
fn as_bearer(request: reqwest::RequestBuilder, token: &str) -> reqwest::RequestBuilder {
    if token.is_empty() {
        request
    } else {
        request.bearer_auth(token)
    }
}

async fn sign_up(client: &reqwest::Client, url: &str) -> Result<String> {
    let password = hex::encode(random()?);
    let body =
        json!({"email": "provider@bench.example", "password": password, "roles": ["provider"]});
    let (_, answer) = post(client, url, "/auth/signup", "", &body).await?;
    text(&answer, "access_token")
}

async fn enrol(
    client: &reqwest::Client,
    url: &str,
    provider: &str,
    folder: &Path,
    agent_dir: &Path,
) -> Result<()> {
    let (_, answer) = post(
        client,
        url,
        "/nodes/enrollment-tokens",
        provider,
        &json!({}),
    )
    .await?;
    let token_file = folder.join("enrollment.token");
    std::fs::write(&token_file, text(&answer, "token")?)?;
    let mut command = Command::new(program("ramarket-agent")?);
    command
        .args(["enroll", "--url", url, "--token-file"])
        .arg(&token_file);
    command.arg("--data-dir").arg(agent_dir);
    let output = command.output().await?;
    ensure!(
        output.status.success(),
        "enrolment failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn identity(agent_dir: &Path) -> Result<String> {
    let identity = std::fs::read(agent_dir.join("identity.json"))?;
    text(&serde_json::from_slice(&identity)?, "node_id")
}

fn text(value: &Value, name: &str) -> Result<String> {
    let found = value[name].as_str().map(str::to_owned);
    found.with_context(|| format!("the answer has no {name}: {value}"))
}
