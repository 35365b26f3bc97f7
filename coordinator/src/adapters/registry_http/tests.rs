//! A registry on this machine that wants a token, and what hostile ones get: nothing.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use tokio::net::TcpListener;

use super::*;

/// An answer: status, a header, body.
type Said = (u16, Option<(&'static str, String)>, Vec<u8>);

/// What a registry of the tests does, and what it saw.
#[derive(Debug, Default)]
struct Script {
    /// The challenge of who has no token.
    challenge: Mutex<String>,
    /// By path.
    answers: Mutex<HashMap<String, Said>>,
    /// `path authorization` of each request.
    seen: Mutex<Vec<String>>,
}

impl Script {
    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").clone()
    }

    fn answers(&self, path: &str, status: u16, body: &[u8]) {
        self.says(path, (status, None, body.to_vec()));
    }

    fn says(&self, path: &str, said: Said) {
        let mut answers = self.answers.lock().expect("not poisoned");
        answers.insert(path.to_owned(), said);
    }
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let path = request.uri().to_string();
    let auth = request.headers().get(header::AUTHORIZATION);
    let auth = auth
        .map_or("", |value| value.to_str().expect("text"))
        .to_owned();
    let mut seen = script.seen.lock().expect("not poisoned");
    seen.push(format!("{path} {auth}").trim_end().to_owned());
    drop(seen);
    let challenge = script.challenge.lock().expect("not poisoned").clone();
    if path.starts_with("/v2/") && !challenge.is_empty() && auth.is_empty() {
        return (401, challenge).with_challenge();
    }
    let found = script
        .answers
        .lock()
        .expect("not poisoned")
        .get(&path)
        .cloned();
    let (status, extra, body) = found.unwrap_or((404, None, Vec::new()));
    let mut response = (StatusCode::from_u16(status).expect("a status"), body).into_response();
    if let Some((name, value)) = extra {
        let value = HeaderValue::from_str(&value).expect("a value");
        response.headers_mut().insert(name, value);
    }
    response
}

trait WithChallenge {
    fn with_challenge(self) -> Response;
}

impl WithChallenge for (u16, String) {
    fn with_challenge(self) -> Response {
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        let value = HeaderValue::from_str(&self.1).expect("a value");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value);
        response
    }
}

async fn serve(script: &Arc<Script>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let app = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(script));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A client for which only the registry at `listed` may be private.
fn client(listed: &[SocketAddr]) -> HttpRegistry {
    let config = ImagesConfig {
        private_registries: listed.iter().map(|at| format!("http://{at}")).collect(),
        ..ImagesConfig::default()
    };
    let settings = OutboundConfig::default();
    let outbound = Arc::new(Outbound::new(&settings).expect("a client"));
    HttpRegistry::new(&config, &settings, outbound).expect("a client")
}

fn image(at: SocketAddr) -> ImageRef {
    format!("{at}/it/x:1").parse().expect("a reference")
}

fn access() -> Access {
    Access {
        auth: Some(RegistryAuth::new("ada".to_owned(), "hush".to_owned()).expect("fine")),
        header: None,
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_with_the_credentials_and_used_for_the_rest() {
    let script = Arc::new(Script::default());
    let at = serve(&script).await;
    *script.challenge.lock().expect("not poisoned") =
        format!("Bearer realm=\"http://{at}/token\",service=\"s&t\"");
    script.answers(
        "/token?service=s%26t&scope=repository%3Ait%2Fx%3Apull",
        200,
        br#"{"token": "t0k"}"#,
    );
    script.answers("/v2/it/x/manifests/1", 200, b"{}");
    let digest = Digest::of(b"config");
    script.answers(&format!("/v2/it/x/blobs/{digest}"), 200, b"config");
    let (registry, mut access) = (client(&[at]), access());
    let found = registry
        .manifest(&image(at), &mut access)
        .await
        .expect("there");
    assert_eq!(found.digest, Digest::of(b"{}"));
    let blob = registry.blob(&image(at), &digest, &mut access).await;
    assert_eq!(blob.expect("there").bytes, b"config");
    let basic = format!("Basic {}", STANDARD.encode("ada:hush"));
    assert_eq!(
        script.seen(),
        [
            "/v2/it/x/manifests/1".to_owned(),
            format!("/token?service=s%26t&scope=repository%3Ait%2Fx%3Apull {basic}"),
            "/v2/it/x/manifests/1 Bearer t0k".to_owned(),
            format!("/v2/it/x/blobs/{digest} Bearer t0k"),
        ]
    );
}

#[tokio::test]
async fn wrong_credentials_and_wrong_bytes_are_told_apart() {
    let script = Arc::new(Script::default());
    let at = serve(&script).await;
    let registry = client(&[at]);
    let asked = registry.manifest(&image(at), &mut access()).await;
    assert_eq!(asked, Err(Refusal::NotFound));
    *script.challenge.lock().expect("not poisoned") = "Basic realm=\"x\"".to_owned();
    script.answers("/v2/it/x/manifests/1", 401, b"");
    let asked = registry.manifest(&image(at), &mut access()).await;
    assert_eq!(asked, Err(Refusal::Unauthorized));
    let asked = registry.manifest(&image(at), &mut Access::default()).await;
    assert_eq!(asked, Err(Refusal::Unauthorized));
    let digest = Digest::of(b"one");
    script.answers(&format!("/v2/it/x/manifests/{digest}"), 200, b"another");
    let pinned = image(at).at(&digest);
    let asked = registry.manifest(&pinned, &mut access()).await;
    assert!(matches!(asked, Err(Refusal::Odd(_))), "{asked:?}");
    script.answers("/v2/it/x/manifests/1", 503, b"");
    let asked = registry.manifest(&image(at), &mut access()).await;
    assert!(matches!(asked, Err(Refusal::Unavailable(_))), "{asked:?}");
}

#[tokio::test]
async fn nobody_is_called_who_is_not_public_or_listed() {
    let (registry_side, secret_side) = (Arc::new(Script::default()), Arc::new(Script::default()));
    let (at, secret) = (serve(&registry_side).await, serve(&secret_side).await);
    // not listed at all
    let asked = client(&[]).manifest(&image(at), &mut access()).await;
    assert!(matches!(asked, Err(Refusal::NotCallable(_))), "{asked:?}");
    // listed, but its realm lies elsewhere inside
    for realm in [
        format!("http://{secret}/token"),
        format!("https://{secret}/token"),
    ] {
        *registry_side.challenge.lock().expect("not poisoned") =
            format!("Bearer realm=\"{realm}\"");
        let asked = client(&[at]).manifest(&image(at), &mut access()).await;
        assert!(
            matches!(asked, Err(Refusal::NotCallable(_))),
            "{realm}: {asked:?}"
        );
    }
    // listed, but its blobs are said to lie elsewhere inside
    registry_side
        .challenge
        .lock()
        .expect("not poisoned")
        .clear();
    let digest = Digest::of(b"secret");
    for place in [format!("http://{secret}/x"), format!("https://{secret}/x")] {
        let path = format!("/v2/it/x/blobs/{digest}");
        let elsewhere = (307, Some(("location", place.clone())), Vec::new());
        registry_side.says(&path, elsewhere);
        let asked = client(&[at]).blob(&image(at), &digest, &mut access()).await;
        let refused = matches!(asked, Err(Refusal::NotCallable(_) | Refusal::Odd(_)));
        assert!(refused, "{place}: {asked:?}");
    }
    assert!(secret_side.seen().is_empty() && !registry_side.seen().is_empty());
}
