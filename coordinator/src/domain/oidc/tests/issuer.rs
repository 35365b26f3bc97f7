//! An issuer of the tests' own, on a socket: right unless a test bends what it says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Form, Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL},
};
use ring::{
    digest, hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use shared::time::Timestamp;

/// Our name there.
pub(super) const CLIENT: &str = "us & them";
/// Our secret there.
pub(super) const SECRET: &str = "s3cret: of the/tests +";

/// How the issuer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    EdDsa,
    Es256,
    /// Nothing at the place of a signature.
    None,
    /// A MAC keyed by the public key, which everybody knows.
    Hs256,
    /// A key that isn't the one it names.
    Stranger,
}

/// What it says; tests bend it.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) signer: Signer,
    /// `kid` of the EdDSA key, in tokens.
    pub(super) kid: String,
    /// The same, in the published keys.
    pub(super) published_kid: String,
    /// Laid over the claims; null removes one.
    pub(super) claims: Value,
    /// Laid over the header.
    pub(super) header: Value,
    /// Laid over the discovery document.
    pub(super) document: Value,
    /// What the userinfo endpoint says.
    pub(super) userinfo: Value,
    pub(super) now: Timestamp,
    /// Requests by path.
    pub(super) asked: HashMap<String, u32>,
    codes: HashMap<String, Asked>,
    codes_given: u32,
}

/// What the browser was sent with.
#[derive(Debug, Clone)]
struct Asked {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

pub(super) struct Issuer {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    ed: Ed25519KeyPair,
    stranger: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    script: Mutex<Script>,
}

impl Issuer {
    pub(super) async fn start(now: Timestamp) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let random = SystemRandom::new();
        let ed = || {
            let made = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
            Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key")
        };
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(alg, &random).expect("a key");
        let script = Script {
            signer: Signer::EdDsa,
            kid: "ed-1".to_owned(),
            published_kid: "ed-1".to_owned(),
            claims: json!({}),
            header: json!({}),
            document: json!({}),
            userinfo: Value::Null,
            now,
            asked: HashMap::new(),
            codes: HashMap::new(),
            codes_given: 0,
        };
        let shared = Arc::new(Shared {
            url: url.clone(),
            ed: ed(),
            stranger: ed(),
            ec: EcdsaKeyPair::from_pkcs8(alg, ec.as_ref(), &random).expect("a key"),
            script: Mutex::new(script),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(document))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/me", get(userinfo))
            .layer(axum::middleware::from_fn_with_state(
                Arc::clone(&shared),
                count,
            ))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().expect("unpoisoned")
    }

    pub(super) fn asked(&self, path: &str) -> u32 {
        self.script().asked.get(path).copied().unwrap_or_default()
    }

    /// What its login page does in the end: a code for whoever came with these parameters.
    pub(super) fn authorize(&self, query: &HashMap<String, String>) -> String {
        let text = |key: &str| query.get(key).expect(key).clone();
        assert_eq!(
            (text("response_type"), text("client_id")),
            ("code".into(), CLIENT.into())
        );
        assert_eq!(text("code_challenge_method"), "S256");
        assert_eq!(text("scope"), "openid email");
        let asked = Asked {
            nonce: text("nonce"),
            challenge: text("code_challenge"),
            redirect_uri: text("redirect_uri"),
        };
        let mut script = self.script();
        let code = format!("code-{}", script.codes_given);
        script.codes_given += 1;
        script.codes.insert(code.clone(), asked);
        code
    }
}

async fn count(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let path = request.uri().path().to_owned();
    *shared
        .script
        .lock()
        .expect("unpoisoned")
        .asked
        .entry(path)
        .or_default() += 1;
    next.run(request).await
}

async fn document(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let url = &shared.url;
    let mut document = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/auth?tenant=1"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"),
        "userinfo_endpoint": format!("{url}/me"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        // more than we believe, so that it is we who refuse
        "id_token_signing_alg_values_supported": ["EdDSA", "ES256", "HS256", "none"],
        "code_challenge_methods_supported": ["S256"],
    });
    lay(
        &mut document,
        &shared.script.lock().expect("unpoisoned").document,
    );
    Json(document)
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let kid = shared
        .script
        .lock()
        .expect("unpoisoned")
        .published_kid
        .clone();
    let point = shared.ec.public_key().as_ref();
    Json(json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64URL.encode(shared.ed.public_key())},
        {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "use": "sig",
            "x": BASE64URL.encode(&point[1..33]), "y": BASE64URL.encode(&point[33..])},
    ]}))
}

async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let refuse =
        |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    let pair = "us%20%26%20them:s3cret%3A%20of%20the%2Ftests%20%2B";
    let basic = format!("Basic {}", STANDARD.encode(pair));
    let in_header = headers
        .get(header::AUTHORIZATION)
        .is_some_and(|it| it == basic.as_str());
    let in_body = form.get("client_id").is_some_and(|it| it == CLIENT)
        && form.get("client_secret").is_some_and(|it| it == SECRET);
    let mut script = shared.script.lock().expect("unpoisoned");
    let by_body = script
        .document
        .get("token_endpoint_auth_methods_supported")
        .is_some();
    if (by_body && !in_body) || (!by_body && !in_header) {
        return refuse("invalid_client");
    }
    let Some(asked) = form.get("code").and_then(|code| script.codes.remove(code)) else {
        return refuse("invalid_grant");
    };
    let verifier = form
        .get("code_verifier")
        .map(String::as_str)
        .unwrap_or_default();
    let challenge = BASE64URL.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
    if challenge != asked.challenge || form.get("redirect_uri") != Some(&asked.redirect_uri) {
        return refuse("invalid_grant");
    }
    let id_token = shared.sign(&script, &asked.nonce);
    Json(json!({"access_token": "at-1", "token_type": "Bearer", "id_token": id_token}))
        .into_response()
}

async fn userinfo(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let bearer = headers.get(header::AUTHORIZATION);
    assert!(bearer.is_some_and(|it| it == "Bearer at-1"));
    Json(shared.script.lock().expect("unpoisoned").userinfo.clone()).into_response()
}

impl Shared {
    fn sign(&self, script: &Script, nonce: &str) -> String {
        let now_s = script.now.as_secs();
        let mut claims = json!({
            "iss": self.url, "aud": CLIENT, "sub": "ada", "nonce": nonce,
            "iat": now_s, "exp": now_s + 300,
            "email": "ada@example.org", "email_verified": true,
        });
        lay(&mut claims, &script.claims);
        let (alg, kid) = match script.signer {
            Signer::EdDsa | Signer::Stranger => ("EdDSA", script.kid.as_str()),
            Signer::Es256 => ("ES256", "ec"),
            Signer::None => ("none", script.kid.as_str()),
            Signer::Hs256 => ("HS256", script.kid.as_str()),
        };
        let mut head = json!({"alg": alg, "kid": kid, "typ": "JWT"});
        lay(&mut head, &script.header);
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let bytes = signed.as_bytes();
        let signature = match script.signer {
            Signer::EdDsa => self.ed.sign(bytes).as_ref().to_vec(),
            Signer::Stranger => self.stranger.sign(bytes).as_ref().to_vec(),
            Signer::Es256 => {
                let signature = self.ec.sign(&SystemRandom::new(), bytes);
                signature.expect("signed").as_ref().to_vec()
            }
            Signer::None => Vec::new(),
            Signer::Hs256 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.ed.public_key().as_ref());
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
        };
        format!("{signed}.{}", BASE64URL.encode(signature))
    }
}

/// Lays `over` on `value`, field by field; null removes.
fn lay(value: &mut Value, over: &Value) {
    let fields = value.as_object_mut().expect("an object");
    for (key, new) in over.as_object().expect("an object") {
        if new.is_null() {
            fields.remove(key);
        } else {
            fields.insert(key.clone(), new.clone());
        }
    }
}
