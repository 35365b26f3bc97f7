//! The recipe of `docs/OPERATIONS.md`, as it stands there: nginx with TLS of a local authority in front of a coordinator.
//! REST, events and agents pass through it, and whom the coordinator talks to stays known.

use std::{net::IpAddr, path::Path};

use coordinator::store::testing::TempDir;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use system_tests::{
    authority::{self, Authority},
    market::{Market, Store},
    node::Node,
    people,
    proxy::{self, Face, Proxy},
    wait,
};

#[tokio::test(flavor = "multi_thread")]
async fn rest_events_and_agents_pass_through_the_recipe() {
    if proxy::program().is_none() {
        eprintln!("SKIPPED: nginx isn't installed (apt-get install nginx-light)");
        return;
    }
    let folder = TempDir::new();
    let authority = Authority::new(folder.path());
    authority.certify("leaf");
    let authority = authority.pem();
    let face = Face::at([127, 0, 0, 1], "localhost");
    let url = format!("https://localhost:{}", face.tls);
    let market = Market::with(Store::Sqlite, &[("http.public_url", &url)]).await;
    let _proxy = Proxy::start(folder.path(), &face, market.port());
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
        let url = format!("http://localhost:{}{path}", face.plain);
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
