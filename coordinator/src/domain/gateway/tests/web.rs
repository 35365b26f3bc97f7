//! Rentals under host names of their own: who gets there, what passes, and what is kept apart.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{PATIENCE, Place};
use crate::{
    config::GatewayConfig,
    testing::{TestApp, request},
};

const DOMAIN: &str = "apps.test";

async fn place() -> Place {
    place_with(|_| {}).await
}

/// With host names for rentals, and settings.
pub(super) async fn place_with(change: impl FnOnce(&mut GatewayConfig)) -> Place {
    let test = TestApp::with(|config| {
        config.gateway.tenant_domain = Some(DOMAIN.to_owned());
        change(&mut config.gateway);
        // or what this machine says of a client would be believed
        config.http.trusted_proxies.clear();
    })
    .await;
    Place::open(test).await
}

impl Place {
    /// The name of a port, such as `80-`, or of the rental.
    pub(super) fn name(&self, port: &str) -> String {
        format!(
            "{port}{}.{DOMAIN}",
            self.rental.to_string().replace('_', "-")
        )
    }

    /// Everything that is answered to a request for a host.
    pub(super) async fn ask(&self, host: &str, path: &str, headers: &str) -> String {
        self.send(
            "GET",
            host,
            path,
            &format!("connection: close\r\n{headers}"),
        )
        .await
    }

    /// The same with any method, and no `Connection`.
    async fn send(&self, method: &str, host: &str, path: &str, headers: &str) -> String {
        let mut connection = TcpStream::connect(&self.host).await.expect("connected");
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        connection.write_all(head.as_bytes()).await.expect("sent");
        let mut said = String::new();
        let read = timeout(PATIENCE, connection.read_to_string(&mut said)).await;
        read.expect("in time").expect("text");
        said
    }

    pub(super) async fn put(&self, port: u16, public: bool) -> Value {
        let path = self.path(&format!("ports/{port}"));
        let body = json!({"public": public});
        let asked = request("PUT", &path, &self.token(), &body);
        let answer = self.test().send(asked).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    }

    /// A connection that is upgraded at port 80, where it is echoed.
    pub(super) async fn upgraded(&self) -> TcpStream {
        let mut connection = TcpStream::connect(&self.host).await.expect("connected");
        let head = format!(
            "GET /socket HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
            self.name("80-")
        );
        connection.write_all(head.as_bytes()).await.expect("sent");
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, connection.read_u8())
                .await
                .expect("in time");
            said.push(byte.expect("more"));
        }
        assert_eq!(status(&String::from_utf8_lossy(&said)), "101");
        connection
    }
}

/// What is sent comes back.
pub(super) async fn echoes(connection: &mut TcpStream) {
    connection.write_all(b"there and back").await.expect("sent");
    let mut back = [0; 14];
    let read = timeout(PATIENCE, connection.read_exact(&mut back)).await;
    read.expect("in time").expect("whole");
    assert_eq!(&back, b"there and back");
}

pub(super) fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn a_public_port_is_reached_and_hears_nothing_that_is_meant_for_us() {
    let place = place().await;
    let host = place.name("80-");
    assert_eq!(
        status(&place.ask(&host, "/", "").await),
        "404",
        "not opened"
    );
    let view = place.put(80, true).await;
    assert!(
        view["url"].as_str().expect("a URL").contains(&host),
        "{view}"
    );
    assert!(view.get("token").is_none());
    let ours = format!(
        "authorization: Bearer {}\r\ncookie: at=secret; own=1\r\nx-forwarded-for: 6.6.6.6\r\n",
        place.token()
    );
    let answer = place.ask(&host, "/a?b=c", &ours).await;
    assert_eq!(status(&answer), "200", "{answer}");
    let (head, heard) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(heard.starts_with("GET /a?b=c HTTP/1.1"), "{heard}");
    for gone in ["rmt_", "secret", "6.6.6.6", "connection: close"] {
        assert!(!heard.contains(gone), "{gone}: {heard}");
    }
    assert!(heard.contains("cookie: own=1") && heard.contains("x-forwarded-for: 127.0.0.1"));
    // what it sets is for its own host only, and nothing of ours is added
    assert!(head.contains("set-cookie: theirs=1; Path=/\r\n"), "{head}");
    assert!(
        !head.to_lowercase().contains("content-security-policy"),
        "{head}"
    );
    // the rental's own name is its lowest port
    assert_eq!(status(&place.ask(&place.name(""), "/", "").await), "200");
    let closed = request(
        "DELETE",
        &place.path("ports/80"),
        &place.token(),
        &Value::Null,
    );
    assert_eq!(
        place.test().send(closed).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(status(&place.ask(&host, "/", "").await), "404");
    place.until_no_stream().await;
}

#[tokio::test]
async fn a_private_port_needs_its_token_of_now() {
    let place = place().await;
    let host = place.name("80-");
    let view = place.put(80, false).await;
    let token = view["token"].as_str().expect("a token");
    assert_eq!(status(&place.ask(&host, "/", "").await), "401");
    let led = place
        .ask(&host, &format!("//evil.example/x?a=1&token={token}"), "")
        .await;
    assert_eq!(status(&led), "303", "{led}");
    assert!(led.contains("location: /evil.example/x?a=1\r\n"), "{led}");
    assert!(
        led.contains(&format!("set-cookie: ramarket-port={token};")),
        "{led}"
    );
    let cookie = format!("cookie: ramarket-port={token}\r\n");
    let answer = place.ask(&host, "/", &cookie).await;
    assert_eq!(status(&answer), "200");
    assert!(
        !answer.contains(token),
        "the rental doesn't hear it: {answer}"
    );
    let header = format!("x-ramarket-port-token: {token}\r\n");
    assert_eq!(status(&place.ask(&host, "/", &header).await), "200");
    place.test().clock.advance_ms(1);
    place.put(80, false).await;
    assert_eq!(
        status(&place.ask(&host, "/", &cookie).await),
        "401",
        "voided"
    );
}

#[tokio::test]
async fn another_tenants_page_does_nothing_with_a_visitors_cookie() {
    let place = place().await;
    let host = place.name("80-");
    let view = place.put(80, false).await;
    let token = view["token"].as_str().expect("a token");
    let cookie = format!("connection: close\r\ncookie: ramarket-port={token}\r\n");
    let own = format!("origin: http://{host}\r\n");
    let other = format!("origin: http://{}\r\n", place.name("81-"));
    let upgrade = "connection: upgrade\r\nupgrade: echo\r\n";
    let to_frame =
        "sec-fetch-site: same-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: iframe\r\n";
    for (method, sent) in [
        ("GET", format!("{upgrade}{other}")),
        ("GET", upgrade.to_owned()),
        ("POST", other.clone()),
        ("POST", String::new()),
        ("GET", "sec-fetch-site: same-site\r\n".to_owned()),
        ("GET", to_frame.to_owned()),
    ] {
        let answer = place
            .send(method, &host, "/", &format!("{cookie}{sent}"))
            .await;
        assert_eq!(status(&answer), "403", "{method} {sent}: {answer}");
        assert!(answer.contains("X-Ramarket-Port-Token"), "{answer}");
    }
    let to_page =
        "sec-fetch-site: same-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document\r\n";
    for (method, sent) in [("POST", own.as_str()), ("GET", to_page)] {
        let answer = place
            .send(method, &host, "/", &format!("{cookie}{sent}"))
            .await;
        assert_eq!(status(&answer), "200", "{method} {sent}: {answer}");
    }
    // a program's token comes along with nothing by itself
    let header = format!("connection: close\r\nx-ramarket-port-token: {token}\r\n{other}");
    assert_eq!(
        status(&place.send("POST", &host, "/", &header).await),
        "200"
    );
    // a public port is its app's to guard
    place.put(80, true).await;
    let answer = place
        .send("POST", &host, "/", &format!("connection: close\r\n{other}"))
        .await;
    assert_eq!(status(&answer), "200", "{answer}");
}

#[tokio::test]
async fn a_token_in_an_address_goes_no_further() {
    let place = place().await;
    let host = place.name("80-");
    let view = place.put(80, false).await;
    let token = view["token"].as_str().expect("a token");
    let cookie = format!("cookie: ramarket-port={token}\r\n");
    for link in [token, "rmp_void"] {
        let path = format!("/x?token={link}&token=theirs");
        let led = place.ask(&host, &path, &cookie).await;
        assert_eq!(status(&led), "303", "{led}");
        assert!(led.contains("location: /x?token=theirs\r\n"), "{led}");
    }
    let path = format!("/x?a=1&token={token}&token=rmp_void&token=theirs");
    let posted = place
        .send("POST", &host, &path, "connection: close\r\n")
        .await;
    assert_eq!(status(&posted), "200", "{posted}");
    assert!(
        posted.contains("POST /x?a=1&token=theirs HTTP/1.1"),
        "{posted}"
    );
    // an app's own parameter of that name
    let own = place.ask(&host, "/x?token=theirs", &cookie).await;
    assert!(own.contains("GET /x?token=theirs HTTP/1.1"), "{own}");
}

#[tokio::test]
async fn our_pages_and_theirs_are_never_on_one_host() {
    let place = place().await;
    place.put(80, true).await;
    // the API's path is theirs on their host
    let theirs = place.ask(&place.name("80-"), "/api/v1/offers", "").await;
    assert!(theirs.contains("GET /api/v1/offers"), "{theirs}");
    for nobody in [
        DOMAIN,
        "www.apps.test",
        "80-rnt-00000000000000000000000000000000.apps.test",
    ] {
        let answer = place.ask(nobody, "/api/v1/offers", "").await;
        assert_eq!(status(&answer), "404", "{nobody}: {answer}");
        assert!(answer.contains("text/html"), "{answer}");
    }
    let ours = place.ask("127.0.0.1", "/healthz", "").await;
    assert_eq!(status(&ours), "200");
    place.link.cut().await;
    let away = place.ask(&place.name("80-"), "/", "").await;
    assert_eq!(status(&away), "502", "{away}");
}

#[tokio::test]
async fn a_connection_that_is_upgraded_is_carried() {
    let place = place().await;
    place.put(80, true).await;
    let mut connection = place.upgraded().await;
    echoes(&mut connection).await;
    drop(connection);
    place.until_no_stream().await;
}
