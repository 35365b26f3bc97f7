//! TLS from files, without a proxy: handshakes against a local authority, and a certificate that is renewed while
//! connections live.

use coordinator::store::testing::TempDir;
use reqwest::{Client, tls::TlsInfo};
use system_tests::{
    authority::{self, Authority},
    market::{Market, Store},
    wait,
};

/// The certificate that a client's connection shows, and what came back over it.
async fn certificate(client: &Client, url: &str) -> Vec<u8> {
    let answer = client.get(url).send().await.expect("a handshake");
    assert_eq!(answer.status(), 200);
    let tls = answer.extensions().get::<TlsInfo>().expect("it was TLS");
    let shown = tls.peer_certificate().expect("a certificate").to_vec();
    // read to the end, so that the connection is used again
    answer.bytes().await.expect("a body");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_and_connections_live_on() {
    let folder = TempDir::new();
    let authority = Authority::new(folder.path());
    authority.certify("own");
    let file = |name: &str| folder.path().join(name);
    let text = |name: &str| file(name).to_str().expect("text").to_owned();
    let market = Market::with(
        Store::Sqlite,
        &[
            ("http.tls_cert", &text("own.pem")),
            ("http.tls_key", &text("own.key")),
            ("http.public_url", "https://localhost"),
        ],
    )
    .await;
    let url = format!("https://localhost:{}/healthz", market.port());
    let client = || {
        let builder = authority::trusting(&authority.pem()).tls_info(true);
        builder.build().expect("a client")
    };
    let old = client();
    let before = certificate(&old, &url).await;

    // who doesn't know the authority goes no further, and plain HTTP gets nothing
    let stranger = system_tests::api::http_client();
    assert!(stranger.get(&url).send().await.is_err());
    assert!(
        stranger
            .get(url.replace("https", "http"))
            .send()
            .await
            .is_err()
    );

    // renewed: new connections see it, the old one lives on
    let says = |words: &'static str, times: usize| {
        let market = &market;
        wait::until(words, move || {
            let count = market.log().matches(words).count();
            std::future::ready((count >= times).then_some(()))
        })
    };
    authority.certify("own");
    market.signal("HUP");
    says("certificate was read again", 1).await;
    let renewed = certificate(&client(), &url).await;
    assert_ne!(renewed, before);
    assert_eq!(
        certificate(&old, &url).await,
        before,
        "the connection lives on"
    );

    // what can't be used changes nothing and is said: a torn file, and a key of another certificate
    let whole = std::fs::read(file("own.pem")).expect("a certificate");
    std::fs::write(file("own.pem"), &whole[..whole.len() / 2]).expect("written");
    market.signal("HUP");
    says("certificate can't be used, the old one stays", 1).await;
    assert_eq!(certificate(&client(), &url).await, renewed);
    std::fs::write(file("own.pem"), &whole).expect("written");
    authority.certify("other");
    std::fs::copy(file("other.key"), file("own.key")).expect("copied");
    market.signal("HUP");
    says("certificate can't be used, the old one stays", 2).await;
    assert_eq!(certificate(&client(), &url).await, renewed);
    let said = market.log();
    let mut errors = said
        .lines()
        .filter(|line| line.contains("the old one stays"));
    assert!(
        errors.all(|line| line.contains("ERROR") && line.contains("http.tls_")),
        "{said}"
    );

    // and a good pair is taken up after them
    std::fs::copy(file("other.pem"), file("own.pem")).expect("copied");
    market.signal("HUP");
    says("certificate was read again", 2).await;
    let last = certificate(&client(), &url).await;
    assert!(last != renewed && last != before);
    assert_eq!(certificate(&old, &url).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_of_tls_are_refused() {
    let folder = TempDir::new();
    let authority = Authority::new(folder.path());
    authority.certify("own");
    let text = |name: &str| {
        let path = folder.path().join(name);
        path.to_str().expect("text").to_owned()
    };
    let market = Market::with(
        Store::Sqlite,
        &[
            ("http.tls_cert", &text("own.pem")),
            ("http.tls_key", &text("own.key")),
            ("http.public_url", "https://localhost"),
        ],
    )
    .await;
    let handshake = |version: &str| {
        let address = format!("127.0.0.1:{}", market.port());
        let mut openssl = tokio::process::Command::new("openssl");
        openssl
            .args(["s_client", "-connect", &address, version, "-brief"])
            .args(["-verify_return_error", "-CAfile"])
            .arg(authority.pem())
            // what old versions need of a client that would speak them
            .args(["-cipher", "ALL:@SECLEVEL=0"])
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        async move {
            let ended = openssl.output().await.expect("openssl is installed");
            ended.status.success()
        }
    };
    assert!(handshake("-tls1_3").await && handshake("-tls1_2").await);
    assert!(!handshake("-tls1_1").await && !handshake("-tls1").await);
}

/// A hang-up ends a program that doesn't listen for it; without TLS of ours there is nothing to read again, and we go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_without_tls_of_ours_ends_nothing() {
    let market = Market::start(Store::Sqlite).await;
    market.signal("HUP");
    wait::until("the signal was heard", || {
        let heard = market.log().contains("nothing to read again");
        std::future::ready(heard.then_some(()))
    })
    .await;
    let url = format!("{}/healthz", market.url());
    let answer = system_tests::api::http_client().get(url).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
}
