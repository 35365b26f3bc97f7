//! The recipe of `docs/OPERATIONS.md`, as it stands there: nginx with TLS of a local authority in front of a coordinator.
//! REST, events and agents pass through it, and whom the coordinator talks to stays known.

use std::{
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use coordinator::store::testing::TempDir;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use system_tests::{
    authority::{self, Authority},
    market::{Market, Store},
    node::Node,
    people, wait,
};

const MANUAL: &str = include_str!("../../docs/OPERATIONS.md");

#[tokio::test(flavor = "multi_thread")]
async fn rest_events_and_agents_pass_through_the_recipe() {
    let Some(nginx) = nginx_program() else {
        eprintln!("SKIPPED: nginx isn't installed (apt-get install nginx-light)");
        return;
    };
    let folder = TempDir::new();
    let authority = Authority::new(folder.path());
    authority.certify("leaf");
    let authority = authority.pem();
    let port = free_port();
    let url = format!("https://localhost:{port}");
    let market = Market::with(Store::Sqlite, &[("http.public_url", &url)]).await;
    let plain = free_port();
    let _proxy = Proxy::start(&nginx, folder.path(), (port, plain), market.port());
    let from = |address: [u8; 4]| client(&authority, address);
    let http = from([127, 0, 0, 2]);
    wait::until("nginx answers", || async {
        http.get(format!("{url}/healthz")).send().await.ok()
    })
    .await;

    // REST: cookies are for this host and TLS only, and the headers are ours, once
    let body = json!({"email": "ada@ramarket.example", "password": "a long password", "roles": ["provider"]});
    let signup = http
        .post(format!("{url}/api/v1/auth/signup"))
        // what a client claims about itself is dropped
        .header("x-forwarded-for", "6.6.6.6")
        .json(&body);
    let signup = signup.send().await.expect("an answer");
    assert_eq!(signup.status(), 201);
    let all = |name: &str| -> Vec<String> {
        let values = signup.headers().get_all(name).iter();
        values
            .map(|value| value.to_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(
        all("strict-transport-security"),
        ["max-age=31536000; includeSubDomains"]
    );
    let cookies = all("set-cookie");
    assert!(
        cookies
            .iter()
            .all(|one| one.starts_with("__Host-") && one.contains("; Secure")),
        "{cookies:?}"
    );
    let tokens: Value = signup.json().await.expect("JSON");
    let token = tokens["access_token"].as_str().expect("a token");

    // whom the coordinator talks to: the audit log's word
    let admin = people::admin(&market).await;
    let log = admin.get("/admin/audit?limit=100").await.is(200);
    let rows = log["items"].as_array().expect("rows");
    assert!(
        rows.iter().any(|row| row.to_string().contains("127.0.0.2")),
        "{log}"
    );
    assert!(!log.to_string().contains("6.6.6.6"));

    // events: the first bytes come at once, though the stream never ends
    let events = http
        .get(format!("{url}/api/v1/events"))
        .bearer_auth(token)
        .send()
        .await
        .expect("a stream");
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let first = events.bytes_stream().next().await.expect("bytes");
    let first = String::from_utf8_lossy(&first.expect("bytes")).into_owned();
    assert!(first.contains("ramarket"), "{first}");

    // an agent: enrolled by the public URL, its beats signed for it, its link upgraded
    let provider = market.api().bearing(token);
    let _node = Node::start_behind(&url, &authority, &provider).await;
    wait::until("the agent's link is open", || async {
        let metrics = reqwest_text(&format!("{}/metrics", market.url())).await;
        metrics
            .lines()
            .any(|line| line.contains("/nodes/{id}/link") && line.contains("status=\"101\""))
            .then_some(())
    })
    .await;
    // without TLS people are led to it, and programs refused before they get used to it
    let without = |path: &str| {
        let url = format!("http://localhost:{plain}{path}");
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        client.build().expect("a client").get(url).send()
    };
    let page = without("/login").await.expect("an answer");
    assert_eq!(page.status(), 301);
    assert_eq!(page.headers()["location"], "https://localhost/login");
    let api = without("/api/v1/offers").await.expect("an answer");
    assert_eq!(api.status(), 403);
    // the recipe keeps the numbers of the market to this machine
    let hidden = http.get(format!("{url}/metrics")).send().await;
    assert_eq!(hidden.expect("an answer").status(), 404);
}

async fn reqwest_text(url: &str) -> String {
    let answer = system_tests::api::http_client().get(url).send().await;
    answer.expect("an answer").text().await.expect("text")
}

fn client(authority: &Path, address: [u8; 4]) -> reqwest::Client {
    authority::trusting(authority)
        .local_address(IpAddr::from(address))
        .build()
        .expect("a client")
}

fn nginx_program() -> Option<PathBuf> {
    ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

/// A running nginx; ended when dropped.
struct Proxy(Child);

impl Proxy {
    fn start(nginx: &Path, folder: &Path, ports: (u16, u16), market: u16) -> Self {
        let config = folder.join("nginx.conf");
        std::fs::write(&config, configuration(folder, ports, market)).expect("written");
        let child = Command::new(nginx)
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.join("error.log"))
            .spawn()
            .expect("nginx starts");
        Self(child)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // the master ends its workers at SIGTERM; SIGKILL would leave them
        let pid = self.0.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.0.wait());
    }
}

/// The manual's recipe with this test's addresses, and around it what Debian's own file has.
fn configuration(folder: &Path, (port, plain): (u16, u16), market: u16) -> String {
    let recipe = MANUAL
        .split("```nginx\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the manual has a recipe");
    let here = folder.display();
    let mut adapted = String::new();
    for line in recipe.lines().filter(|line| !line.contains("[::]")) {
        let line = line
            .replace("127.0.0.1:8402", &format!("127.0.0.1:{market}"))
            .replace("listen 443", &format!("listen 127.0.0.1:{port}"))
            .replace("listen 80;", &format!("listen 127.0.0.1:{plain};"))
            .replace("server_name market.example", "server_name localhost")
            .replace(
                "/etc/letsencrypt/live/market.example/fullchain.pem",
                &format!("{here}/leaf.pem"),
            )
            .replace(
                "/etc/letsencrypt/live/market.example/privkey.pem",
                &format!("{here}/leaf.key"),
            );
        assert!(!line.contains("/etc/"), "{line}");
        adapted.push_str(&line);
        adapted.push('\n');
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {here}/{kind};\n"))
        .concat();
    // started by root, its workers would change to a user who can't enter a test's folder
    let user = if rustix::process::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    format!(
        "{user}daemon off;\nworker_processes 1;\npid {here}/nginx.pid;\nevents {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\n{temporary}{adapted}}}\n"
    )
}
