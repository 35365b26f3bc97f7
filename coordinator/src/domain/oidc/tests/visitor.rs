//! A browser with a cookie jar, and a coordinator with two issuers.

use std::collections::HashMap;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::issuer::{CLIENT, Issuer, SECRET};
use crate::{
    config::{Config, OidcProviderConfig},
    store::testing::TempDir,
    testing::{Answer, TestApp},
};

/// A coordinator that knows two issuers by the names `one` and `two`.
pub(super) struct Place {
    pub(super) test: TestApp,
    pub(super) one: Issuer,
    pub(super) two: Issuer,
    _secret: TempDir,
}

impl Place {
    pub(super) async fn new() -> Self {
        let now = TestApp::new().await.app.clock.now();
        let (one, two, secret) = (Issuer::start(now).await, Issuer::start(now).await, secret());
        let settings = settings(&one, &two, &secret);
        let test = TestApp::with(settings).await;
        Self {
            test,
            one,
            two,
            _secret: secret,
        }
    }

    pub(super) async fn on_postgres() -> Self {
        let now = TestApp::new().await.app.clock.now();
        let (one, two, secret) = (Issuer::start(now).await, Issuer::start(now).await, secret());
        let settings = settings(&one, &two, &secret);
        let test = TestApp::on_postgres_with(settings).await;
        Self {
            test,
            one,
            two,
            _secret: secret,
        }
    }

    /// Moves the coordinator's clock, and what the issuers take for now.
    pub(super) fn pass_ms(&self, ms: i64) {
        self.test.clock.advance_ms(ms);
        let now = self.test.app.clock.now();
        self.one.script().now = now;
        self.two.script().now = now;
    }

    /// Signs in with `one` from a new browser; returns that and the last answer.
    pub(super) async fn sign_in(&self) -> (Visitor, Answer) {
        let mut visitor = Visitor::default();
        let answer = visitor.sign_in(self, "one", &self.one).await;
        (visitor, answer)
    }

    /// The entries of the audit log: action, reason.
    pub(super) async fn audited(&self) -> Vec<(String, Option<String>)> {
        let read = |tx: &mut dyn crate::store::Tx| {
            let rows = tx.query("SELECT action, reason FROM audit_log ORDER BY seq", &[])?;
            rows.iter()
                .map(|row| Ok((row.text(0)?.to_owned(), row.opt_text(1)?.map(str::to_owned))))
                .collect::<crate::error::Result<Vec<_>>>()
        };
        self.test.app.db.read("test", read).await.expect("read")
    }
}

fn secret() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\nnot this\n")).expect("written");
    let only_we = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, only_we).expect("ours");
    folder
}

fn settings(one: &Issuer, two: &Issuer, secret: &TempDir) -> impl FnOnce(&mut Config) + use<> {
    let provider = |issuer: &Issuer| OidcProviderConfig {
        issuer: issuer.url.clone(),
        client_id: CLIENT.to_owned(),
        client_secret_file: Some(secret.path().join("secret")),
        display_name: None,
    };
    let providers = [("one", provider(one)), ("two", provider(two))];
    move |config| {
        config.oidc = providers.map(|(name, it)| (name.to_owned(), it)).into();
        config.outbound.allow_private = vec!["127.0.0.0/8".parse().expect("a range")];
        config.auth.attempts_per_minute_ip = 60_000;
    }
}

/// What a browser has: cookies. What came with the last redirect: `query`.
#[derive(Debug, Default)]
pub(super) struct Visitor {
    pub(super) cookies: HashMap<String, String>,
    /// Of the last way to an issuer.
    pub(super) query: HashMap<String, String>,
}

impl Visitor {
    pub(super) async fn visit(
        &mut self,
        place: &Place,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, cookies.join("; "));
        let body = if method == "GET" {
            // what a browser says when another site sends it here
            request = request.header("sec-fetch-site", "cross-site");
            Body::empty()
        } else {
            request = request
                .header("sec-fetch-site", "same-origin")
                .header("x-requested-with", "ramarket")
                .header(header::CONTENT_TYPE, "application/json");
            Body::from(if body.is_null() {
                String::new()
            } else {
                body.to_string()
            })
        };
        let answer = place
            .test
            .send(request.body(body).expect("a request"))
            .await;
        for name in ["at", "rt", "oidc"] {
            match answer.cookie(name).as_deref() {
                Some("") => drop(self.cookies.remove(name)),
                Some(value) => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
                None => {}
            }
        }
        answer
    }

    pub(super) async fn get(&mut self, place: &Place, path: &str) -> Answer {
        self.visit(place, "GET", path, &Value::Null).await
    }

    /// Goes to the issuer by `start`, and returns with which callback it is sent back.
    pub(super) async fn go(
        &mut self,
        place: &Place,
        name: &str,
        issuer: &Issuer,
        more: &str,
    ) -> String {
        let path = format!("/api/v1/auth/oidc/{name}/start?next=/rentals{more}");
        let answer = self.get(place, &path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        let to = answer.headers[header::LOCATION].to_str().expect("text");
        assert!(
            to.starts_with(&format!("{}/auth?tenant=1&", issuer.url)),
            "{to}"
        );
        self.back_from(name, issuer, to)
    }

    /// From where a link to the issuer leads back.
    pub(super) fn back_from(&mut self, name: &str, issuer: &Issuer, to: &str) -> String {
        let uri = to.parse().expect("a URL");
        let axum::extract::Query(query) =
            axum::extract::Query::<HashMap<String, String>>::try_from_uri(&uri).expect("a query");
        let code = issuer.authorize(&query);
        let state = query["state"].clone();
        self.query = query;
        format!("/api/v1/auth/oidc/{name}/callback?code={code}&state={state}&scope=openid")
    }

    pub(super) async fn sign_in(&mut self, place: &Place, name: &str, issuer: &Issuer) -> Answer {
        let back = self.go(place, name, issuer, "").await;
        self.get(place, &back).await
    }

    /// Begins to link and returns with which callback the issuer sends back.
    pub(super) async fn go_link(&mut self, place: &Place, name: &str, issuer: &Issuer) -> String {
        let asked = json!({"provider": name, "next": "/"});
        let answer = self
            .visit(place, "POST", "/api/v1/auth/identities", &asked)
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let to = answer.json()["authorize_url"]
            .as_str()
            .expect("a URL")
            .to_owned();
        self.back_from(name, issuer, &to)
    }

    /// Signs up with a password, as the browser.
    pub(super) async fn sign_up(&mut self, place: &Place, email: &str) {
        let body = json!({"email": email, "password": "a long password"});
        let answer = self
            .visit(place, "POST", "/api/v1/auth/signup", &body)
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }

    /// Who is signed in.
    pub(super) async fn me(&mut self, place: &Place) -> Value {
        self.get(place, "/api/v1/auth/me").await.json()
    }

    pub(super) async fn identities(&mut self, place: &Place) -> Vec<Value> {
        let answer = self.get(place, "/api/v1/auth/identities").await;
        answer.json()["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }
}
