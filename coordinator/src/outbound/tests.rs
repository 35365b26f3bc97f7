//! Tests of calls to outside against real servers on loopback: what is refused never sees a connection.

use std::{
    collections::VecDeque,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::store::testing::TempDir;

const PATIENT: Duration = Duration::from_secs(60);

/// Answers every connection with the same bytes, and counts connections and what they sent.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn at(address: &str, answer: Vec<u8>) -> Self {
        Self::start(address, answer, None).await
    }

    async fn start(address: &str, answer: Vec<u8>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let server = Self {
            port: listener.local_addr().expect("bound").port(),
            connections: Arc::default(),
            heard: Arc::default(),
        };
        let (connections, heard) = (Arc::clone(&server.connections), Arc::clone(&server.heard));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answer, heard, tls) = (answer.clone(), Arc::clone(&heard), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &answer, &heard).await,
                        Some(tls) => {
                            // a client that doesn't trust us breaks off here
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &answer, &heard).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &[u8],
    heard: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    heard
        .lock()
        .expect("unpoisoned")
        .push(String::from_utf8_lossy(&request).into_owned());
    // a client that has read enough hangs up
    drop(stream.write_all(answer).await);
    drop(stream.shutdown().await);
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn allowing(ranges: &[&str]) -> OutboundConfig {
    OutboundConfig {
        allow_private: ranges
            .iter()
            .map(|range| range.parse().expect("a range"))
            .collect(),
        extra_ca_file: None,
    }
}

fn get(url: &str) -> OutboundRequest {
    OutboundRequest {
        method: Method::GET,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}

/// Answers look-ups in turn, the last answer for ever.
struct Scripted {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| {
            list.iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect()
        };
        Arc::new(Self {
            answers: Mutex::new(answers.iter().map(parse).collect()),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().expect("unpoisoned");
        let next = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        let found: Vec<SocketAddr> = next
            .unwrap_or_default()
            .into_iter()
            .map(|ip| (ip, 0).into())
            .collect();
        Box::pin(async move { Ok(Box::new(found.into_iter()) as Addrs) })
    }
}

#[tokio::test]
async fn what_isnt_public_is_refused_without_a_connection() {
    let server = Server::at("127.0.0.1:0", ok("secret")).await;
    let outbound = Outbound::new(&OutboundConfig::default()).expect("made");
    let port = server.port;
    for url in [
        format!("https://127.0.0.1:{port}/"),
        format!("https://127.1:{port}/"),
        format!("https://0x7f000001:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://0177.0.0.1:{port}/"),
        format!("https://127.0.0.1.:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://[64:ff9b::7f00:1]:{port}/"),
        format!("https://0.0.0.0:{port}/"),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://[fd00:ec2::254]/".to_owned(),
    ] {
        assert!(
            matches!(outbound.check(&url), Err(OutboundError::NotPublic { .. })),
            "{url}"
        );
        let sent = outbound.send(get(&url)).await;
        assert!(
            matches!(sent, Err(OutboundError::NotPublic { .. })),
            "{url}: {sent:?}"
        );
    }
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://example.org:{port}/"),
        format!("https://user:word@example.org:{port}/"),
        "ftp://example.org/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://example.org".to_owned(),
        "unix:/run/docker.sock".to_owned(),
        "not a url".to_owned(),
        "https://".to_owned(),
        format!("https://example.org/{}", "x".repeat(URL_BYTES_MAX)),
    ] {
        let sent = outbound.send(get(&url)).await;
        assert!(
            matches!(sent, Err(OutboundError::Url(_))),
            "{url}: {sent:?}"
        );
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_points_inside_is_refused() {
    let server = Server::at("127.0.0.1:0", ok("secret")).await;
    let names = Scripted::new(&[&["127.0.0.1", "10.0.0.1", "::1"]]);
    let outbound = Outbound::with(&OutboundConfig::default(), PATIENT, names).expect("made");
    let sent = outbound
        .send(get(&format!("https://inside.example:{}/", server.port)))
        .await;
    let error = sent.expect_err("refused");
    assert!(
        matches!(error, OutboundError::NotPublic { .. }),
        "{error:?}"
    );
    let told = error.to_string();
    assert!(!told.contains("127.") && !told.contains("10.0"), "{told}");
    assert_eq!(server.connections(), 0);

    let nowhere =
        Outbound::with(&OutboundConfig::default(), PATIENT, Scripted::new(&[&[]])).expect("made");
    let sent = nowhere.send(get("https://nowhere.example/")).await;
    assert!(
        matches!(sent, Err(OutboundError::Unresolved { .. })),
        "{sent:?}"
    );
    // the system's resolver is asked for real
    let system = Outbound::new(&OutboundConfig::default()).expect("made");
    let sent = system
        .send(get(&format!("https://localhost:{}/", server.port)))
        .await;
    assert!(
        matches!(sent, Err(OutboundError::NotPublic { .. })),
        "{sent:?}"
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_judged_by_what_is_connected_to() {
    let good = Server::at("127.0.0.2:0", ok("good")).await;
    let inside = Server::at(&format!("127.0.0.3:{}", good.port), ok("inside")).await;
    let names = Scripted::new(&[&["127.0.0.2"], &["127.0.0.3"]]);
    let outbound = Outbound::with(
        &allowing(&["127.0.0.2"]),
        PATIENT,
        Arc::clone(&names) as Arc<dyn Resolve>,
    )
    .expect("made");
    let url = format!("http://rebind.example:{}/", good.port);
    let answer = outbound.send(get(&url)).await.expect("answered");
    assert_eq!(
        (answer.status, &answer.body[..]),
        (StatusCode::OK, &b"good"[..])
    );
    // one request, one look-up: there is nothing between the check and the connection
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
    let host = format!("host: rebind.example:{}", good.port);
    assert!(good.heard.lock().expect("unpoisoned")[0].contains(&host));
    let sent = outbound.send(get(&url)).await;
    assert!(
        matches!(sent, Err(OutboundError::NotPublic { .. })),
        "{sent:?}"
    );
    assert_eq!((good.connections(), inside.connections()), (1, 0));

    // of several addresses only those that may be called are tried
    let mixed = Scripted::new(&[&["127.0.0.3", "127.0.0.2"]]);
    let outbound = Outbound::with(&allowing(&["127.0.0.2"]), PATIENT, mixed).expect("made");
    assert_eq!(
        outbound.send(get(&url)).await.expect("answered").body,
        "good"
    );
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn redirects_are_answers() {
    let inside = Server::at("127.0.0.1:0", ok("inside")).await;
    let location = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n",
        inside.port
    );
    let server = Server::at("127.0.0.1:0", location.into_bytes()).await;
    let outbound = Outbound::new(&allowing(&["127.0.0.1"])).expect("made");
    let answer = outbound
        .send(get(&format!("http://127.0.0.1:{}/", server.port)))
        .await
        .expect("answered");
    assert_eq!(answer.status, StatusCode::FOUND);
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn answers_are_bounded_in_size_headers_and_time() {
    let outbound =
        Outbound::with(&allowing(&["127.0.0.1"]), PATIENT, Arc::new(SystemNames)).expect("made");
    let body = |length: usize| "x".repeat(length);
    let exact = Server::at("127.0.0.1:0", ok(&body(BODY_BYTES_MAX))).await;
    let answer = outbound
        .send(get(&format!("http://127.0.0.1:{}/", exact.port)))
        .await
        .expect("answered");
    assert_eq!(answer.body.len(), BODY_BYTES_MAX);
    let told = ok(&body(BODY_BYTES_MAX + 1));
    let untold = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        body(BODY_BYTES_MAX + 1)
    )
    .into_bytes();
    for large in [told, untold] {
        let server = Server::at("127.0.0.1:0", large).await;
        let sent = outbound
            .send(get(&format!("http://127.0.0.1:{}/", server.port)))
            .await;
        assert!(matches!(sent, Err(OutboundError::TooLarge)), "{sent:?}");
    }
    let many: String = (0..=HEADERS_MAX)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    let broken = [
        format!("HTTP/1.1 200 OK\r\n{many}\r\n").into_bytes(),
        b"220 mail.example ESMTP\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort".to_vec(),
    ];
    for answer in broken {
        let server = Server::at("127.0.0.1:0", answer).await;
        let sent = outbound
            .send(get(&format!("http://127.0.0.1:{}/", server.port)))
            .await;
        assert!(matches!(sent, Err(OutboundError::Broken(_))), "{sent:?}");
    }
    // it accepts and never answers: the whole exchange has one limit
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let hasty = Outbound::with(
        &allowing(&["127.0.0.1"]),
        Duration::from_millis(50),
        Arc::new(SystemNames),
    );
    let sent = hasty
        .expect("made")
        .send(get(&format!("http://127.0.0.1:{port}/")))
        .await;
    assert!(matches!(sent, Err(OutboundError::TimedOut)), "{sent:?}");
    drop(silent);
    let sent = outbound
        .send(get(&format!("http://127.0.0.1:{port}/")))
        .await;
    assert!(
        matches!(sent, Err(OutboundError::Unreachable { .. })),
        "{sent:?}"
    );
}

/// An authority of its own and a certificate for `name`, by openssl.
fn certificate(folder: &TempDir, name: &str) -> ServerConfig {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf
         printf 'subjectAltName=DNS:{name}\\nbasicConstraints=CA:FALSE' > leaf.ext
         openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile leaf.ext"
    );
    let made = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(folder.path())
        .output()
        .expect("openssl is installed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let chain =
        CertificateDer::from_pem_file(folder.path().join("leaf.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.path().join("leaf.key")).expect("a key");
    shared::tls::init();
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a pair")
}

#[tokio::test]
async fn tls_is_checked_against_the_name_and_roots_can_be_added() {
    let folder = TempDir::new();
    let acceptor = TlsAcceptor::from(Arc::new(certificate(&folder, "hooks.example")));
    let server = Server::start("127.0.0.1:0", ok("over tls"), Some(acceptor)).await;
    let names = || Scripted::new(&[&["127.0.0.1"]]);
    let trusting = OutboundConfig {
        extra_ca_file: Some(folder.path().join("ca.pem")),
        ..allowing(&["127.0.0.1"])
    };
    let url = |name: &str| format!("https://{name}:{}/", server.port);
    let outbound = Outbound::with(&trusting, PATIENT, names()).expect("made");
    let answer = outbound
        .send(get(&url("hooks.example")))
        .await
        .expect("answered");
    assert_eq!(answer.body, "over tls");
    let sent = outbound.send(get(&url("other.example"))).await;
    assert!(
        matches!(sent, Err(OutboundError::Unreachable { .. })),
        "{sent:?}"
    );
    // without the root nobody vouches for it; where the system has no roots at all, that is said
    let stranger = Outbound::with(&allowing(&["127.0.0.1"]), PATIENT, names()).expect("made");
    let sent = stranger.send(get(&url("hooks.example"))).await;
    assert!(
        matches!(
            sent,
            Err(OutboundError::Unreachable { .. } | OutboundError::Setup(_))
        ),
        "{sent:?}"
    );
    assert_eq!(server.heard.lock().expect("unpoisoned").len(), 1);

    let missing = OutboundConfig {
        extra_ca_file: Some(folder.path().join("none.pem")),
        ..OutboundConfig::default()
    };
    assert!(Outbound::new(&missing).is_err());
    std::fs::write(folder.path().join("empty.pem"), "nothing").expect("written");
    let empty = OutboundConfig {
        extra_ca_file: Some(folder.path().join("empty.pem")),
        ..OutboundConfig::default()
    };
    assert!(Outbound::new(&empty).is_err());
}
