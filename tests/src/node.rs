//! An agent and its helper as processes: enrolled at a market, on the machine's engine, with a folder that outlives them.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use coordinator::store::testing::TempDir;
use serde_json::{Value, json};

use crate::{
    api::Api,
    containers::Engine,
    market::Market,
    program::{self, Program},
    wait,
};

const PROGRAM: &str = "ramarket-agent";
const HELPER: &str = "ramarket-helper";
/// Names a file of authorities that programs trust in place of the machine's.
const AUTHORITY: &str = "SSL_CERT_FILE";

/// An enrolled node, its agent running or not. Its containers are removed when it is dropped.
#[derive(Debug)]
pub struct Node {
    process: Option<Program>,
    helper: Option<Program>,
    id: String,
    engine: Engine,
    provider: Api,
    /// Of whom the coordinator's certificate is, if it isn't an authority of this machine.
    authority: Option<PathBuf>,
    folder: TempDir,
}

impl Node {
    /// Enrols on the machine's engine, starts the agent and waits until it is online. `provider` is signed in.
    ///
    /// # Panics
    /// If that fails.
    pub async fn start(market: &Market, provider: &Api) -> Self {
        Self::start_on(Engine::shared(), market, provider).await
    }

    /// As [`Node::start`] on another engine.
    ///
    /// # Panics
    /// If that fails.
    pub async fn start_on(engine: Engine, market: &Market, provider: &Api) -> Self {
        let mut node = Self::enrol(engine, market, provider).await;
        node.launch();
        node.until_online().await;
        node
    }

    /// Enrols and starts nothing.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn enrol(engine: Engine, market: &Market, provider: &Api) -> Self {
        let folder = TempDir::new();
        let token = enrolment_token(provider).await;
        let enrolled = enroll(&folder.path().join("agent"), &market.url(), &token, &engine);
        Self::enrolled(folder, &enrolled, engine, provider, None)
    }

    /// As [`Node::start`], at a coordinator behind a proxy: `url` is its public one, `authority` (PEM) that of its certificate.
    ///
    /// # Panics
    /// If that fails.
    pub async fn start_behind(url: &str, authority: &Path, provider: &Api) -> Self {
        let mut node = Self::enrol_behind(url, authority, provider).await;
        node.launch();
        node.until_online().await;
        node
    }

    /// As [`Node::start_behind`], and starts nothing.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn enrol_behind(url: &str, authority: &Path, provider: &Api) -> Self {
        let (folder, engine) = (TempDir::new(), Engine::shared());
        let token = enrolment_token(provider).await;
        let mut command = enrolment(&folder.path().join("agent"), url, &token, &engine);
        command.env(AUTHORITY, authority);
        let enrolled = command.output().expect("it can be started");
        let authority = Some(authority.to_owned());
        Self::enrolled(folder, &enrolled, engine, provider, authority)
    }

    fn enrolled(
        folder: TempDir,
        enrolled: &Output,
        engine: Engine,
        provider: &Api,
        authority: Option<PathBuf>,
    ) -> Self {
        let said = String::from_utf8_lossy(&enrolled.stderr);
        assert!(enrolled.status.success(), "enrolment failed: {said}");
        Self {
            process: None,
            helper: None,
            id: node_id(&folder.path().join("agent")),
            engine,
            provider: provider.clone(),
            authority,
            folder,
        }
    }

    /// `nod_…`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The engine that it uses.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The agent's folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// Where the helper keeps rentals' disks.
    #[must_use]
    pub fn disks(&self) -> PathBuf {
        self.folder.path().join("helper/disks")
    }

    /// The agent's process id.
    ///
    /// # Panics
    /// If it doesn't run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it was started").pid()
    }

    /// Everything that the agent has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Program::log).unwrap_or_default()
    }

    /// Starts the agent, and doesn't wait.
    ///
    /// # Panics
    /// If it runs already or can't be started.
    pub fn launch(&mut self) {
        self.launch_by(self.command(&["run"]));
    }

    /// As [`Node::launch`], by a command made of [`Node::command`]: another binary, another network.
    ///
    /// # Panics
    /// If it runs already or can't be started.
    pub fn launch_by(&mut self, mut command: Command) {
        self.launch_helper();
        match &mut self.process {
            Some(process) => process.again(&mut command),
            None => {
                let log = self.folder.path().join("agent.log");
                self.process = Some(Program::spawn(PROGRAM, command, &log));
            }
        }
    }

    /// Starts the helper unless it runs, and waits until it listens.
    ///
    /// # Panics
    /// If it can't be started, or doesn't listen.
    pub fn launch_helper(&mut self) {
        let mut command = program::command(HELPER);
        let state = self.folder.path().join("helper");
        command
            .arg("--socket")
            .arg(helper_socket(&self.data_dir()))
            .arg("--state-dir")
            .arg(state)
            .args(["--docker-host", &self.engine.host()])
            // a test machine's disk may be fuller than a provider's
            .args(["--disk-floor-bytes", "1048576"])
            .args(["--image-registries", "docker.io,127.0.0.1:*"])
            .args(["--log-format", "json"]);
        match &mut self.helper {
            Some(helper) if helper.runs() => {}
            Some(helper) => helper.again(&mut command),
            None => {
                let log = self.folder.path().join("helper.log");
                self.helper = Some(Program::spawn(HELPER, command, &log));
            }
        }
        let socket = helper_socket(&self.data_dir());
        let listens = wait::came_to_hold(|| UnixStream::connect(&socket).is_ok());
        assert!(listens, "the helper doesn't listen: {}", self.helper_log());
    }

    /// `SIGKILL` to the helper.
    pub fn kill9_helper(&mut self) {
        if let Some(helper) = &mut self.helper {
            helper.kill9();
        }
    }

    /// Everything that the helper has logged.
    #[must_use]
    pub fn helper_log(&self) -> String {
        self.helper.as_ref().map(Program::log).unwrap_or_default()
    }

    /// `SIGKILL`.
    pub fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
    }

    /// `SIGTERM`.
    ///
    /// # Panics
    /// If it doesn't end well.
    pub fn stop(&mut self) {
        let well = self.process.as_mut().is_none_or(Program::end);
        assert!(well, "the agent ended badly");
    }

    /// Starts the agent again, killing it first if it runs, and waits until a beat was answered.
    pub async fn restart(&mut self) {
        self.kill9();
        self.launch();
        self.until_online().await;
    }

    /// A command of `ramarket-agent` on this node's folder.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = agent(&self.data_dir(), &self.engine);
        command
            .arg("--helper-socket")
            .arg(helper_socket(&self.data_dir()))
            .args(arguments);
        if let Some(authority) = &self.authority {
            command.env(AUTHORITY, authority);
        }
        command
    }

    /// The node as its owner sees it.
    pub async fn view(&self) -> Value {
        let path = format!("/nodes/{}", self.id);
        self.provider.get(&path).await.is(200)
    }

    /// Waits until the market hears it.
    pub async fn until_online(&self) {
        wait::until("the node is online", || async {
            (self.view().await["availability"] == "online").then_some(())
        })
        .await;
    }

    /// Offers the node's RAM and CPU, and waits until the offer can be rented. Returns the offer.
    ///
    /// `ram_gib_hour` and `cpu_hour` are decimal USDC.
    pub async fn offer(&self, ram_gib_hour: &str, cpu_hour: &str) -> Value {
        self.offer_with(&json!({
            "node_id": self.id, "region": "test",
            "prices": {"ram_gib_hour": ram_gib_hour, "cpu_hour": cpu_hour}
        }))
        .await
    }

    /// As [`Node::offer`], with a body of the caller's.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn offer_with(&self, body: &Value) -> Value {
        let offer = self.provider.post("/offers", body).await.is(201);
        let path = format!("/offers/{}", offer["id"].as_str().expect("an id"));
        wait::until("the offer is on the market", || async {
            let answer = self.provider.get(&path).await;
            (answer.status == 200 && answer.body["available"] == true).then_some(answer.body)
        })
        .await
    }

    /// What of the node is free: bytes of RAM.
    ///
    /// # Panics
    /// If the answer has no such figure.
    pub async fn free_ram_bytes(&self) -> i64 {
        let view = self.view().await;
        view["free"]["ram_bytes"].as_i64().expect("a figure")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // first the agent, or it would start again what is removed
        drop(self.process.take());
        drop(self.helper.take());
        self.engine.remove_all_of(&self.id);
    }
}

/// A one-time token for a machine of this provider.
///
/// # Panics
/// If it is refused.
pub async fn enrolment_token(provider: &Api) -> String {
    let made = provider.post("/nodes/enrollment-tokens", &json!({})).await;
    let token = made.is(201)["token"].as_str().map(str::to_owned);
    token.expect("a token")
}

/// Runs `ramarket-agent enroll`.
///
/// # Panics
/// If it can't be started.
#[must_use]
pub fn enroll(data_dir: &Path, url: &str, token: &str, engine: &Engine) -> Output {
    enrolment(data_dir, url, token, engine)
        .output()
        .expect("it can be started")
}

fn enrolment(data_dir: &Path, url: &str, token: &str, engine: &Engine) -> Command {
    let file = data_dir.with_extension("token");
    std::fs::write(&file, token).expect("a token file");
    let mut command = agent(data_dir, engine);
    command
        .args(["enroll", "--url", url, "--token-file"])
        .arg(&file);
    command
}

/// Where the helper of the agent with this folder listens.
fn helper_socket(data_dir: &Path) -> PathBuf {
    data_dir.with_file_name("helper.sock")
}

/// The id in a data folder's identity.
fn node_id(data_dir: &Path) -> String {
    let text = std::fs::read(data_dir.join("identity.json")).expect("an identity");
    let identity: Value = serde_json::from_slice(&text).expect("JSON");
    let id = identity["node_id"].as_str().map(str::to_owned);
    id.expect("an id")
}

/// A command of `ramarket-agent` on a folder, for an engine, without a helper.
#[must_use]
pub fn agent(data_dir: &Path, engine: &Engine) -> Command {
    let mut command = program::command(PROGRAM);
    command.arg("--data-dir").arg(data_dir).args([
        "--docker-host",
        &engine.host(),
        "--log-format",
        "json",
        // a test machine's disk may be fuller than a provider's
        "--disk-floor-bytes",
        "1048576",
    ]);
    command
}
