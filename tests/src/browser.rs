//! A real browser: Debian's Chromium without a window, spoken to by its DevTools protocol.
//!
//! # Invariants
//! - It reaches this machine and nothing else: every other name is unknown to it.
//! - Each has a profile of its own, gone with it.

use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use coordinator::store::testing::TempDir;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::wait;

/// The first start on a busy machine takes long.
const START: Duration = Duration::from_secs(180);
const FLAGS: [&str; 10] = [
    "--headless=new",
    // it runs as root here, and visits only pages of the tests
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE 127.0.0.2 , EXCLUDE 198.18.*",
];

/// A browser with one page open, ended when dropped.
pub struct Browser {
    wire: Mutex<Wire>,
    child: Child,
    profile: TempDir,
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Browser({})", self.child.id())
    }
}

struct Wire {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Of the page; empty until one is attached.
    session: String,
    last_id: u64,
    /// Requests that were stopped and not yet looked at.
    paused: VecDeque<Value>,
}

impl Browser {
    /// Starts one, its page empty.
    ///
    /// # Panics
    /// If Chromium isn't installed or doesn't start.
    pub async fn start() -> Self {
        let profile = TempDir::new();
        let log = File::create(profile.path().join("chromium.log")).expect("a log file");
        let mut child = Command::new("chromium")
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                profile.path().join("profile").display()
            ))
            .arg("about:blank")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("chromium starts: apt-get install chromium");
        let address = devtools(profile.path(), &mut child).await;
        let (socket, _) = tokio_tungstenite::connect_async(&address)
            .await
            .expect("the browser speaks");
        let mut wire = Wire {
            socket,
            session: String::new(),
            last_id: 0,
            paused: VecDeque::new(),
        };
        let page = wire
            .call("Target.createTarget", json!({"url": "about:blank"}))
            .await;
        let attach = json!({"targetId": page["targetId"], "flatten": true});
        let attached = wire.call("Target.attachToTarget", attach).await;
        wire.session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        wire.call("Page.enable", json!({})).await;
        Self {
            wire: Mutex::new(wire),
            child,
            profile,
        }
    }

    /// Runs no script of a page from now on, like a browser in which somebody switched them off; ours still look at it.
    pub async fn run_no_scripts(&self) {
        let off = json!({"value": true});
        let mut wire = self.wire.lock().await;
        wire.call("Emulation.setScriptExecutionDisabled", off).await;
    }

    /// Shows pages as a window of this size does, in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": true});
        let mut wire = self.wire.lock().await;
        wire.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Goes to `url`; what comes of it is for [`Browser::until`].
    pub async fn go(&self, url: &str) {
        self.wire
            .lock()
            .await
            .call("Page.navigate", json!({ "url": url }))
            .await;
    }

    /// The value of an expression on the page; a promise is waited for. Nothing when it throws, or the page went away under it.
    pub async fn eval(&self, expression: &str) -> Option<Value> {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut wire = self.wire.lock().await;
        let answer = wire.try_call("Runtime.evaluate", asked).await.ok()?;
        if answer.get("exceptionDetails").is_some() {
            return None;
        }
        Some(answer["result"]["value"].clone())
    }

    /// Waits until an expression holds on the whole page.
    ///
    /// # Panics
    /// When the patience is over; with what is shown then.
    pub async fn until(&self, condition: &str) {
        let expression = format!("document.readyState === 'complete' && Boolean({condition})");
        let deadline = tokio::time::Instant::now() + wait::PATIENCE;
        let held = || async {
            let holds = self.eval(&expression).await == Some(Value::Bool(true));
            (holds || tokio::time::Instant::now() >= deadline).then_some(holds)
        };
        if !wait::until_within(wait::PATIENCE * 2, condition, held).await {
            let shown = self
                .eval("location.href + '\\n' + document.body.innerText")
                .await;
            panic!("waited in vain until {condition}; shown is {shown:?}");
        }
    }

    /// Clicks on what a selector finds.
    ///
    /// # Panics
    /// If there is no such thing.
    pub async fn click(&self, selector: &str) {
        let click = format!("document.querySelector({selector:?}).click() ?? true");
        assert_eq!(
            self.eval(&click).await,
            Some(json!(true)),
            "nothing to click: {selector}"
        );
    }

    /// Writes into a field.
    ///
    /// # Panics
    /// If there is no such field.
    pub async fn fill(&self, selector: &str, text: &str) {
        let fill = format!("Boolean(document.querySelector({selector:?}).value = {text:?})");
        assert_eq!(
            self.eval(&fill).await,
            Some(json!(true)),
            "nothing to fill: {selector}"
        );
    }

    /// Types text by single keys into whatever has the focus.
    pub async fn type_keys(&self, text: &str) {
        let mut wire = self.wire.lock().await;
        for c in text.chars() {
            let key = c.to_string();
            let down = json!({"type": "keyDown", "key": key, "text": key, "unmodifiedText": key});
            wire.call("Input.dispatchKeyEvent", down).await;
            let up = json!({"type": "keyUp", "key": key});
            wire.call("Input.dispatchKeyEvent", up).await;
        }
    }

    /// Presses a key that writes nothing, with or without Control: `Enter`, `Control+F6`.
    ///
    /// # Panics
    /// For other keys.
    pub async fn press(&self, name: &str) {
        const CONTROL: u32 = 2;
        let (key, modifiers) = match name.strip_prefix("Control+") {
            Some(key) => (key, CONTROL),
            None => (name, 0),
        };
        let (number, text) = match key {
            "Enter" => (13, "\r"),
            "F6" => (117, ""),
            _ => panic!("{key}: not a key that tests press"),
        };
        let mut wire = self.wire.lock().await;
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "modifiers": modifiers,
                "windowsVirtualKeyCode": number});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            wire.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Where it is.
    ///
    /// # Panics
    /// If there is no page.
    pub async fn url(&self) -> String {
        let url = self.eval("location.href").await.expect("a page");
        url.as_str().expect("text").to_owned()
    }

    /// The cookies that it would send to `url`, with their attributes.
    pub async fn cookies(&self, url: &str) -> Vec<Value> {
        let asked = json!({ "urls": [url] });
        let answer = self
            .wire
            .lock()
            .await
            .call("Network.getCookies", asked)
            .await;
        answer["cookies"].as_array().cloned().unwrap_or_default()
    }

    /// Goes on whoever a server's certificate is of: for those of a test's own authority.
    pub async fn believe_any_certificate(&self) {
        let any = json!({"ignore": true});
        let mut wire = self.wire.lock().await;
        wire.call("Security.setIgnoreCertificateErrors", any).await;
    }

    /// Sets a cookie for `url`.
    pub async fn set_cookie(&self, url: &str, name: &str, value: &str) {
        let cookie = json!({
            "url": url, "name": name, "value": value, "httpOnly": true, "sameSite": "Lax",
            "secure": url.starts_with("https:"), "path": "/",
        });
        self.wire
            .lock()
            .await
            .call("Network.setCookie", cookie)
            .await;
    }

    /// Goes nowhere to `prefix` any more: what would have been asked for there is returned instead of sent. For callbacks that a
    /// test wants to see or to change first.
    pub async fn stop_before(&self, prefix: &str) -> Stopped<'_> {
        let patterns = json!({"patterns": [{"urlPattern": format!("{prefix}*")}]});
        self.wire.lock().await.call("Fetch.enable", patterns).await;
        Stopped { browser: self }
    }
}

/// See [`Browser::stop_before`].
#[derive(Debug)]
pub struct Stopped<'b> {
    browser: &'b Browser,
}

impl Stopped<'_> {
    /// The address at which it stopped. It is given up; the browser may go on.
    ///
    /// # Panics
    /// If it doesn't get there.
    pub async fn address(self) -> String {
        let mut wire = self.browser.wire.lock().await;
        let event = tokio::time::timeout(wait::PATIENCE, wire.paused())
            .await
            .expect("it gets there");
        let fail = json!({"requestId": event["requestId"], "errorReason": "Aborted"});
        wire.call("Fetch.failRequest", fail).await;
        wire.call("Fetch.disable", json!({})).await;
        event["request"]["url"]
            .as_str()
            .expect("an address")
            .to_owned()
    }
}

impl Wire {
    async fn call(&mut self, method: &str, params: Value) -> Value {
        match self.try_call(method, params).await {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    async fn try_call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let sent = self.socket.send(Message::text(message.to_string())).await;
        sent.expect("the browser listens");
        loop {
            let mut answer = self.next().await;
            if answer["id"] == self.last_id {
                return match answer.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(answer["result"].take()),
                };
            }
            self.keep(answer);
        }
    }

    async fn paused(&mut self) -> Value {
        loop {
            if let Some(event) = self.paused.pop_front() {
                return event;
            }
            let message = self.next().await;
            self.keep(message);
        }
    }

    /// Of what nobody waited for only stopped requests matter.
    fn keep(&mut self, mut message: Value) {
        if message["method"] == "Fetch.requestPaused" {
            self.paused.push_back(message["params"].take());
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            let message = self.socket.next().await.expect("the browser runs");
            if let Message::Text(text) = message.expect("the browser speaks") {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }
}

/// Where it listens: it writes port and path to a file of its profile.
async fn devtools(folder: &Path, child: &mut Child) -> String {
    let file: PathBuf = folder.join("profile/DevToolsActivePort");
    let child = std::sync::Mutex::new(child);
    wait::until_within(START, "the browser listens", || {
        let ended = child.lock().expect("one thread").try_wait();
        let said = std::fs::read_to_string(&file).unwrap_or_default();
        async move {
            assert!(
                matches!(ended, Ok(None)),
                "the browser ended while it started"
            );
            let (port, path) = said.split_once('\n')?;
            (!path.is_empty()).then(|| format!("ws://127.0.0.1:{port}{path}"))
        }
    })
    .await
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.profile.path().join("chromium.log"));
            eprintln!("--- the browser said\n{}", log.unwrap_or_default());
        }
        // an error means that it has ended already
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
