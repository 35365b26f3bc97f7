//! A market with everybody in it: real accounts, keys, tokens, a node that beats, a rental that runs.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request},
};
use serde_json::{Value, json};
use shared::{
    http_signature::{self, Params},
    sign::SigningKey,
    wire::enroll,
};

use super::{
    body_of,
    rows::{Owner, Row},
};
use crate::{
    context::{Role, Scope},
    domain::{
        access::{self, Keys},
        auth::{self, model::Email},
        payments,
    },
    http::error::PROBLEM_JSON,
    lifecycle::Lifecycle,
    tasks::market_feed,
    testing::{
        Answer, CRON_TOKEN, TestApp,
        market::{self, rental_of},
        node::{self, ScriptedNode},
        payer::Payer,
        request,
    },
};

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    Nobody,
    Consumer,
    OtherConsumer,
    Provider,
    OtherProvider,
    Node,
    KeyWithoutScope,
    KeyWithScope,
    Admin,
    RentalToken,
    Cron,
    /// A payer without an account; has no column: see `of_wallet`.
    Wallet,
}

/// The columns.
pub(super) const CALLERS: [As; 11] = [
    As::Nobody,
    As::Consumer,
    As::OtherConsumer,
    As::Provider,
    As::OtherProvider,
    As::Node,
    As::KeyWithoutScope,
    As::KeyWithScope,
    As::Admin,
    As::RentalToken,
    As::Cron,
];

/// The market.
pub(super) struct World {
    test: TestApp,
    lifecycle: Lifecycle,
    node: ScriptedNode,
    tokens: BTreeMap<&'static str, String>,
    names: BTreeMap<&'static str, String>,
    fresh: u64,
}

fn text(answer: &Answer, field: &str) -> String {
    assert!(answer.status.is_success(), "{answer:?}");
    text_at(answer, &format!("/{field}"))
}

fn text_at(answer: &Answer, pointer: &str) -> String {
    let found = answer.json().pointer(pointer).cloned();
    let found = found.unwrap_or_else(|| panic!("{pointer} of {answer:?}"));
    found.as_str().expect("text").to_owned()
}

async fn key(test: &TestApp, token: &str, scopes: &[Scope]) -> Answer {
    let body = json!({"name": "matrix", "scopes": scopes});
    test.post("/api/v1/api-keys", token, &body).await
}

impl World {
    pub(super) async fn open() -> Self {
        let test = TestApp::with(|config| {
            // everybody has one address, and signs in again and again
            config.auth.attempts_per_minute_account = 1_000;
            config.auth.attempts_per_minute_ip = 1_000;
            config.payouts.address_hold_s = 0;
            config.ssh.listen = Some(([127, 0, 0, 1], 2222).into());
        })
        .await;
        let lifecycle = test.start_tasks();
        let mut tokens = people(&test).await;
        let provider = tokens["provider"].clone();
        let mut node = ScriptedNode::enrol(&test, &provider, 16 << 30).await;
        node.beat(&test).await;
        let idle = ScriptedNode::enrol(&test, &provider, 4 << 30).await;
        let offer = market::offer(&test, &provider, &node, "0.002").await;
        market_feed::load(&test.app).await.expect("the index loads");
        let consumer = tokens["consumer"].clone();
        let bought = Payer::numbered(1)
            .buy(
                &test,
                "/api/v1/rentals",
                &consumer,
                &market::order(offer, 600),
            )
            .await;
        let rental = rental_of(&bought);
        tokens.insert("rental", text(&bought, "rental_token"));
        node.beat(&test).await;
        node.start(rental);
        node.beat(&test).await;
        let invoice = invoiced(&test, &mut node, &consumer, offer).await;
        let (disputed, dispute) = disputed(&test, &consumer, offer).await;
        let find = test
            .app
            .db
            .read("test.payment", move |tx| payments::of_rental(tx, rental));
        let payment = find.await.expect("read").expect("there is one").id;
        let to_end = key(&test, &consumer, &[Scope::AccountRead]).await;
        let ssh_key = json!({"public_key": format!("ssh-ed25519 {}", ed25519(u64::MAX))});
        let ssh_key = test.post("/api/v1/ssh-keys", &consumer, &ssh_key).await;
        let hook = new_hook(&test, &consumer).await;
        let path = format!("/api/v1/webhooks/{hook}/test");
        let delivery = test.post(&path, &consumer, &Value::Null).await;
        let someone = test.signup("someone@example.org", &[]).await;
        let proof = json!({"documents": [{"kind": "passport", "content": "iVBORw0KGgo="}]});
        let case = test.post("/api/v1/kyc", &someone, &proof).await;
        let someone = test.get("/api/v1/auth/me", &someone).await;
        let quoted = json!({
            "offer_id": offer, "resources": {"ram_bytes": market::RAM_BYTES, "cpu_millis": 100}, "duration_seconds": 600,
        });
        let quote = test.post("/api/v1/payments/quote", "", &quoted).await;
        let payout = paid_out(&test, &consumer).await;
        let names = BTreeMap::from([
            ("payout", payout),
            ("session", another_session(&test, &consumer).await),
            ("offer", offer.to_string()),
            ("node", node.id.to_string()),
            ("idle_node", idle.id.to_string()),
            ("rental", rental.to_string()),
            ("payment", payment.to_string()),
            ("rental_in_dispute", disputed),
            ("dispute", dispute),
            ("invoice", invoice),
            ("month", "2027-01".to_owned()),
            ("quote", text(&quote, "id")),
            ("api_key", text(&to_end, "id")),
            ("ssh_key", text(&ssh_key, "id")),
            ("user", text(&someone, "id")),
            ("case", text_at(&case, "/case/id")),
            ("document", text_at(&case, "/case/documents/0/id")),
            ("delivery", text(&delivery, "id")),
            ("hook", hook),
            ("provider", "nowhere".to_owned()),
            ("container_port", "8080".to_owned()),
            (
                "identity",
                test.app.ids.mint::<shared::id::IdentityId>().to_string(),
            ),
        ]);
        Self {
            test,
            lifecycle,
            node,
            tokens,
            names,
            fresh: 0,
        }
    }

    pub(super) async fn close(self) {
        self.lifecycle.stop().await.expect("in good order");
    }

    /// Asks as `caller` and returns the status, and the code of a problem.
    pub(super) async fn ask(
        &mut self,
        row: &Row,
        method: &Method,
        path: &str,
        caller: As,
    ) -> (u16, Option<String>) {
        self.fresh += 1;
        self.names.insert("fresh", self.fresh.to_string());
        let fresh_key = ed25519(self.fresh);
        self.names.insert("fresh_key", fresh_key);
        if row.object == "offer_of_its_own" {
            let offer = market::offer(&self.test, &self.tokens["provider"], &self.node, "0.004");
            let offer = offer.await;
            self.names.insert("offer_of_its_own", offer.to_string());
        }
        if row.object == "hook_of_its_own" {
            let hook = new_hook(&self.test, &self.tokens["consumer"]).await;
            self.names.insert("hook_of_its_own", hook);
        }
        if caller == As::Node && row.operation == "heartbeat" {
            let beat = self.node.next_beat();
            let signed = self.node.sign(&beat).request();
            return (self.test.send(signed).await.status.as_u16(), None);
        }
        let (object, query) = row.object.split_once('?').unwrap_or((row.object, ""));
        let mut target = path.to_owned();
        for object in object.split('/').filter(|name| !name.is_empty()) {
            let (start, end) = (target.find('{'), target.find('}'));
            let place = start.expect("a parameter")..=end.expect("a parameter");
            target.replace_range(place, &self.names[object]);
        }
        if !query.is_empty() {
            target = format!("{target}?{query}");
        }
        if row.operation == "node_link" && caller == As::Node {
            target = target.replace("beacon=none", &format!("beacon={}", self.node.beacon));
        }
        let body = if row.body == "enrol" {
            unknown_enrolment()
        } else {
            body_of(row, &self.names)
        };
        let mut request = request(method.as_str(), &target, &self.token(row, caller), &body);
        let fresh = HeaderValue::from(self.fresh);
        request.headers_mut().insert("idempotency-key", fresh);
        if row.operation == "put_settings" {
            let first = HeaderValue::from_static("\"v0\"");
            request.headers_mut().insert("if-match", first);
        }
        if caller == As::Wallet {
            let asked = self.test.get("/api/v1/auth/wallet/challenge", "").await;
            let claim = Payer::numbered(1).sign_in(&asked.json());
            let claim = HeaderValue::from_str(&claim).expect("a header value");
            request.headers_mut().insert("sign-in-with-x", claim);
        }
        if caller == As::Node {
            self.sign(&mut request, &target, &body);
        }
        if row.operation == "node_link" {
            upgrade(&mut request);
        }
        let answer = self.test.open(request).await;
        let status = answer.status().as_u16();
        // a stream has no end to wait for; a problem has
        if answer.headers().get("content-type") != Some(&PROBLEM_JSON) {
            return (status, None);
        }
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await;
        let problem: Value = serde_json::from_slice(&body.expect("a problem")).expect("JSON");
        (status, problem["code"].as_str().map(str::to_owned))
    }

    fn token(&self, row: &Row, caller: As) -> String {
        let name = match caller {
            As::Nobody | As::Node | As::Wallet => return String::new(),
            As::Cron => return CRON_TOKEN.to_owned(),
            As::Consumer => "consumer",
            As::OtherConsumer => "other_consumer",
            As::Provider => "provider",
            As::OtherProvider => "other_provider",
            As::Admin => "admin",
            As::RentalToken => "rental",
            As::KeyWithScope if row.owner == Owner::Consumer => "consumer_key",
            As::KeyWithScope => "provider_key",
            As::KeyWithoutScope => {
                let needed = access::line(row.operation).expect("a line").keys;
                // one of the two isn't what is needed
                let bare = if needed == Keys::With(Scope::AnalyticsRead) {
                    "events_only"
                } else {
                    "analytics_only"
                };
                return self.tokens[&*format!("{:?}_{bare}", row.owner).to_lowercase()].clone();
            }
        };
        self.tokens[name].clone()
    }

    /// Signs as the node does, whatever it asks for.
    fn sign(&self, request: &mut Request<Body>, target: &str, body: &Value) {
        let body = (!body.is_null()).then(|| body.to_string());
        let signed = http_signature::sign(
            &self.node.key,
            &http_signature::Request {
                method: request.method().as_str(),
                target_uri: &format!("{}{target}", self.node.public_url),
                body: body.as_deref().map(str::as_bytes),
            },
            &Params {
                created_s: self.node.wall().as_secs(),
                nonce: format!("matrix{}", self.fresh),
                key_id: self.node.id.to_string(),
            },
        );
        let headers = request.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        };
        set("signature-input", &signed.signature_input);
        set("signature", &signed.signature);
        if let Some(digest) = &signed.content_digest {
            set("content-digest", digest);
        }
    }
}

/// A public key of its own for each number, as OpenSSH writes it.
fn ed25519(number: u64) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let key = ring::digest::digest(&ring::digest::SHA256, &number.to_be_bytes());
    let parts = [&b"ssh-ed25519"[..], key.as_ref()];
    let blob = parts.iter().flat_map(|part| {
        let length = u32::try_from(part.len()).expect("short");
        [&length.to_be_bytes()[..], part].concat()
    });
    STANDARD.encode(blob.collect::<Vec<u8>>())
}

/// A session of the consumer besides the one that they use.
async fn another_session(test: &TestApp, token: &str) -> String {
    let body = json!({"email": "consumer@example.org", "password": "a long password"});
    text(
        &test.post("/api/v1/auth/login", "", &body).await,
        "access_token",
    );
    let all = test.get("/api/v1/sessions", token).await.json();
    let mut all = all["items"].as_array().expect("sessions").iter();
    let other = all.find(|session| session["current"] == false);
    other.expect("another")["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

/// A withdrawal of the consumer's that was paid.
async fn paid_out(test: &TestApp, token: &str) -> String {
    let body = json!({"amount": {"amount": "1", "currency": "USDC"}});
    let mut payer = Payer::numbered(9);
    let topped = payer
        .buy(test, "/api/v1/balance/topups", token, &body)
        .await;
    assert!(topped.status.is_success(), "{topped:?}");
    let address = json!({"address": "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"});
    let put = request("PUT", "/api/v1/payout-address", token, &address);
    text(&test.send(put).await, "address");
    let mut asked = request("POST", "/api/v1/balance/withdrawals", token, &body);
    let key = HeaderValue::from_static("before");
    asked.headers_mut().insert("idempotency-key", key);
    let payout = text(&test.send(asked).await, "id");
    let driven = test.app.tasks.run_now(&[crate::tasks::payouts::NAME]).await;
    driven.expect("payouts are sent");
    payout
}

/// The invoice of a third rental of the consumer, which never started.
async fn invoiced(
    test: &TestApp,
    node: &mut ScriptedNode,
    consumer: &str,
    offer: shared::id::OfferId,
) -> String {
    let order = market::order(offer, 600);
    let mut payer = Payer::numbered(3);
    let bought = payer.buy(test, "/api/v1/rentals", consumer, &order).await;
    let rental = rental_of(&bought);
    node.beat(test).await;
    node.fail(rental, "image_missing");
    node.beat(test).await;
    market::settle(test).await;
    let path = format!("/api/v1/rentals/{rental}/invoice");
    text(&test.get(&path, consumer).await, "id")
}

/// Another rental of the consumer, reported; and its dispute.
async fn disputed(test: &TestApp, consumer: &str, offer: shared::id::OfferId) -> (String, String) {
    let order = market::order(offer, 600);
    let mut payer = Payer::numbered(2);
    let bought = payer.buy(test, "/api/v1/rentals", consumer, &order).await;
    let rental = rental_of(&bought).to_string();
    let path = format!("/api/v1/rentals/{rental}/report");
    let report = json!({"reason": "slow", "text": "a test"});
    let dispute = text(&test.post(&path, consumer, &report).await, "id");
    (rental, dispute)
}

/// A webhook to nowhere.
async fn new_hook(test: &TestApp, token: &str) -> String {
    let body = json!({"url": "https://hooks.invalid/"});
    text(&test.post("/api/v1/webhooks", token, &body).await, "id")
}

/// Everybody's tokens and keys.
async fn people(test: &TestApp) -> BTreeMap<&'static str, String> {
    let mut tokens = BTreeMap::new();
    for (name, roles) in [
        ("consumer", &["consumer"][..]),
        ("other_consumer", &["consumer"]),
        ("provider", &["provider"]),
        ("other_provider", &["provider"]),
        ("admin", &["consumer"]),
    ] {
        let email = format!("{name}@example.org");
        let token = test.signup(&email, roles).await;
        tokens.insert(name, token);
    }
    let email = Email::parse("admin@example.org").expect("fine");
    let ctx = test.app.task_context("test");
    let grant = test
        .app
        .db
        .write("test", move |tx| auth::grant(tx, &ctx, &email, Role::Admin));
    grant.await.expect("granted");
    for (name, owner, scopes) in [
        ("consumer_key", "consumer", &Scope::ALL[..]),
        ("provider_key", "provider", &Scope::ALL),
        (
            "consumer_analytics_only",
            "consumer",
            &[Scope::AnalyticsRead],
        ),
        (
            "provider_analytics_only",
            "provider",
            &[Scope::AnalyticsRead],
        ),
        ("consumer_events_only", "consumer", &[Scope::EventsRead]),
        ("provider_events_only", "provider", &[Scope::EventsRead]),
    ] {
        let made = key(test, &tokens[owner], scopes).await;
        tokens.insert(name, text(&made, "key"));
    }
    tokens
}

/// A whole request to enrol, by a token that nobody handed out.
fn unknown_enrolment() -> Value {
    let pkcs8 = SigningKey::generate_pkcs8().expect("random numbers");
    let key = SigningKey::from_pkcs8(&pkcs8).expect("a key");
    let token = "enr_unknown".to_owned();
    let request = enroll::EnrollRequest {
        proof: key.sign(enroll::DOMAIN, token.as_bytes()),
        token,
        public_key: key.public(),
        name: "matrix".into(),
        inventory: node::inventory(4 << 30),
        agent_version: "0.0.0-test".into(),
        protocol_version: shared::PROTOCOL_VERSION,
    };
    serde_json::to_value(&request).expect("JSON")
}

/// What a client that opens a socket sends.
fn upgrade(request: &mut Request<Body>) {
    let headers = request.headers_mut();
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", shared::link::SUBPROTOCOL),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let nothing = hyper::upgrade::on(Request::new(()));
    request.extensions_mut().insert(nothing);
}
