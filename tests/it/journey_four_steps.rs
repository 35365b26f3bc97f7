//! The order in four steps: quote, authorize (the room is held, nothing is charged), complete, settle; and what becomes of an
//! authorization that nobody completes. In one process, on a clock that the test moves.

use coordinator::{
    lifecycle::Lifecycle,
    testing::{Answer, CRON_TOKEN, TestApp, request},
};
use serde_json::{Value, json};
use shared::{
    clock::Clock as _,
    http_signature,
    id::NodeId,
    journal::Hash,
    resources::{Inventory, Load},
    sign::SigningKey,
    wire::{
        enroll::{self, EnrollReply, EnrollRequest},
        heartbeat::{Beat, JournalHead},
    },
    x402::{client::SignedPayment, header},
};
use system_tests::{GIB, MIB, books::atomic, payer::Payer};

/// Longer than room is held for an authorization.
const TOO_LATE_MS: i64 = 121_000;

/// A market in this process with one node that has beaten once, and an offer of its memory.
struct Stand {
    app: TestApp,
    /// Takes beats, and runs the timers.
    _tasks: Lifecycle,
    provider: String,
    node_id: NodeId,
    order: Value,
}

impl Stand {
    async fn set(app: TestApp) -> Self {
        let tasks = app.start_tasks();
        let provider = app.signup("provider@ramarket.example", &["provider"]).await;
        let node_id = online_node(&app, &provider).await;
        let offer =
            json!({"node_id": node_id, "prices": {"ram_gib_hour": "3.60", "cpu_hour": "0.36"}});
        let offer = app.post("/api/v1/offers", &provider, &offer).await;
        assert_eq!(offer.status, 201, "{offer:?}");
        let order = json!({
            "offer_id": offer.json()["id"],
            "resources": {"ram_bytes": 256 * MIB, "cpu_millis": 100},
            "duration_seconds": 600,
            "image": "busybox:latest",
        });
        Self {
            app,
            _tasks: tasks,
            provider,
            node_id,
            order,
        }
    }

    async fn free(&self) -> i64 {
        let path = format!("/api/v1/nodes/{}", self.node_id);
        let node = self.app.get(&path, &self.provider).await.json();
        node["free"]["ram_bytes"].as_i64().expect("a figure")
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.app.post(path, "", body).await
    }

    /// Sends the order to `authorize` with a payment.
    async fn authorize(&self, order: &Value, payment: &SignedPayment) -> Answer {
        let mut paid = request("POST", "/api/v1/payments/authorize", "", order);
        let value = payment.header_v2.parse().expect("a header");
        paid.headers_mut().insert(header::PAYMENT_SIGNATURE, value);
        self.app.send(paid).await
    }

    /// Sends the order to `POST /rentals` with a payment.
    async fn rent(&self, order: &Value, payment: &SignedPayment) -> Answer {
        let mut paid = request("POST", "/api/v1/rentals", "", order);
        let value = payment.header_v2.parse().expect("a header");
        paid.headers_mut().insert(header::PAYMENT_SIGNATURE, value);
        self.app.send(paid).await
    }

    /// Quote, 402 and a signature: an order with its quote's id, and its payment.
    async fn quoted(&self, payer: &Payer) -> (Value, SignedPayment) {
        let mut asked = self.order.clone();
        asked.as_object_mut().expect("an object").remove("image");
        let quote = self.post("/api/v1/payments/quote", &asked).await;
        assert_eq!(quote.status, 201, "{quote:?}");
        let quote = quote.json();
        let parts = ["platform_fee", "provider_share"].map(|part| atomic(&quote[part]));
        assert_eq!(atomic(&quote["price"]), parts[0] + parts[1]);
        assert_eq!(atomic(&quote["price"]), 156_000);
        let mut order = self.order.clone();
        order["quote_id"] = quote["id"].clone();
        let terms = self.post("/api/v1/payments/authorize", &order).await;
        assert_eq!(terms.status, 402, "{terms:?}");
        let terms = terms.headers[header::PAYMENT_REQUIRED].to_str();
        let payment = payer.sign_terms(terms.expect("text"), self.app.app.clock.now());
        (order, payment)
    }
}

/// A node whose agent is this test: enrolled, and heard once.
async fn online_node(app: &TestApp, provider: &str) -> NodeId {
    let key = SigningKey::generate_pkcs8().expect("a key");
    let key = SigningKey::from_pkcs8(&key).expect("a key");
    let token = app
        .post("/api/v1/nodes/enrollment-tokens", provider, &json!({}))
        .await;
    let token = token.json()["token"].as_str().expect("a token").to_owned();
    let inventory = Inventory {
        hostname: "by-hand".to_owned(),
        kernel: "6.1".to_owned(),
        os: "Debian".to_owned(),
        ram_total_bytes: 8 * GIB,
        cpu_model: "any".to_owned(),
        cpu_count: 4,
        disks: Vec::new(),
        gpus: Vec::new(),
        gpu_absent_reason: None,
        docker: None,
        docker_absent_reason: None,
        cgroup_version: 2,
        gpus_refused: None,
        rental_disk: None,
        shortage: None,
        isolation: None,
        images: None,
    };
    let request = EnrollRequest {
        proof: key.sign(enroll::DOMAIN, token.as_bytes()),
        token,
        public_key: key.public(),
        name: "by-hand".to_owned(),
        inventory: inventory.clone(),
        agent_version: "0.1.0".to_owned(),
        protocol_version: shared::PROTOCOL_VERSION,
    };
    let enrolled = app.post("/api/v1/nodes/enroll", "", &json!(request)).await;
    assert_eq!(enrolled.status, 201, "{enrolled:?}");
    let reply: EnrollReply = serde_json::from_slice(&enrolled.body).expect("a reply");
    let beat = Beat {
        node_id: reply.node_id,
        instance_id: "00".repeat(16),
        seq: 1,
        beacon: String::new(),
        boot_id: "11".repeat(16),
        sent_wall: app.app.clock.now(),
        sent_boot_ms: app.app.clock.boot_ms(),
        agent_version: "0.1.0".to_owned(),
        inventory,
        load: Load::default(),
        generation: 0,
        observed: Vec::new(),
        journal_head: JournalHead {
            seq: 0,
            hash: Hash::GENESIS,
        },
        usage: Vec::new(),
    };
    // the first is refused for its beacon, and the answer has one
    let first = app.send(signed(app, &key, &reply, &beat)).await;
    assert_eq!(first.status, 401, "{first:?}");
    let beacon = first.json()["recover"]["beacon"]
        .as_str()
        .map(str::to_owned);
    let beat = Beat {
        seq: 2,
        beacon: beacon.expect("a beacon"),
        ..beat
    };
    let second = app.send(signed(app, &key, &reply, &beat)).await;
    assert_eq!(second.status, 200, "{second:?}");
    reply.node_id
}

fn signed(
    app: &TestApp,
    key: &SigningKey,
    reply: &EnrollReply,
    beat: &Beat,
) -> axum::http::Request<axum::body::Body> {
    let path = format!("/api/v1/nodes/{}/heartbeat", reply.node_id);
    let mut sent = request("POST", &path, "", &json!(beat));
    let body = json!(beat).to_string();
    let headers = http_signature::sign(
        key,
        &http_signature::Request {
            method: "POST",
            target_uri: &format!("{}{path}", reply.public_url),
            body: Some(body.as_bytes()),
        },
        &http_signature::Params {
            created_s: app.app.clock.now().as_secs(),
            nonce: format!("beat-{}-of-this-node", beat.seq),
            key_id: reply.node_id.to_string(),
        },
    );
    for (name, value) in [
        ("content-digest", headers.content_digest.expect("a body")),
        ("signature-input", headers.signature_input),
        ("signature", headers.signature),
    ] {
        sent.headers_mut()
            .insert(name, value.parse().expect("a header"));
    }
    sent
}

async fn four_steps(app: TestApp) {
    let stand = Stand::set(app).await;
    let free = stand.free().await;
    let (order, payment) = stand.quoted(&Payer::new()).await;
    assert_eq!(stand.free().await, free, "a quote holds nothing");
    let authorized = stand.authorize(&order, &payment).await;
    assert_eq!(authorized.status, 201, "{authorized:?}");
    let authorized = authorized.json();
    assert_eq!(authorized["state"], "verified");
    assert_eq!(authorized["transaction"], Value::Null, "nothing is charged");
    assert_eq!(stand.free().await, free - 256 * MIB, "the room is held");
    let again = stand.authorize(&order, &payment).await;
    assert_eq!(again.json()["id"], authorized["id"], "{again:?}");
    assert_eq!(stand.free().await, free - 256 * MIB, "once");

    let complete = json!({"payment_id": authorized["id"]});
    let rental = stand.post("/api/v1/payments/complete", &complete).await;
    assert_eq!(rental.status, 201, "{rental:?}");
    let rental = rental.json();
    assert_eq!(rental["id"], authorized["rental_id"]);
    assert_eq!(rental["state"], "scheduled");
    let again = stand
        .post("/api/v1/payments/complete", &complete)
        .await
        .json();
    assert_eq!(again["id"], rental["id"]);
    let path = format!(
        "/api/v1/payments/{}",
        authorized["id"].as_str().expect("an id")
    );
    let payment = stand.app.get(&path, "").await.json();
    assert_eq!(payment["state"], "credited");

    let token = rental["rental_token"].as_str().expect("a token");
    let settle = json!({"rental_id": rental["id"]});
    let split = stand
        .app
        .post("/api/v1/payments/settle", token, &settle)
        .await
        .json();
    assert_eq!(split["settled"], false, "it is about to run: {split}");
    assert_eq!(atomic(&split["escrow"]), 156_000, "all of it is held");
    let nobody = stand.post("/api/v1/payments/settle", &settle).await;
    assert_eq!(nobody.status, 401);
}

/// A payment that was verified when its coordinator died looks like one that was authorized.
async fn taken_up(app: TestApp) {
    let stand = Stand::set(app).await;
    let (order, payment) = stand.quoted(&Payer::new()).await;
    let verified = stand.authorize(&order, &payment).await.json();
    let (one, other) = tokio::join!(stand.rent(&order, &payment), stand.rent(&order, &payment));
    for rented in [one, other, stand.rent(&order, &payment).await] {
        assert_eq!(rented.status, 201, "{rented:?}");
        assert_eq!(rented.json()["id"], verified["rental_id"]);
    }
    let report = coordinator::books::check(&stand.app.app.db, stand.app.clock.now()).await;
    let report = report.expect("a report");
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.size.transfers, 1, "one charge");
}

async fn lapses(app: TestApp) {
    let stand = Stand::set(app).await;
    let free = stand.free().await;
    let (order, payment) = stand.quoted(&Payer::new()).await;
    let authorized = stand.authorize(&order, &payment).await.json();
    assert_eq!(stand.free().await, free - 256 * MIB);
    let run_jobs = async || {
        let ran = stand
            .app
            .post("/api/v1/cron/metering", CRON_TOKEN, &Value::Null)
            .await;
        assert_eq!(ran.status, 200, "{ran:?}");
    };
    stand.app.clock.advance_ms(60_000);
    run_jobs().await;
    assert_eq!(
        stand.free().await,
        free - 256 * MIB,
        "it is held for two minutes"
    );
    stand.app.clock.advance_ms(TOO_LATE_MS - 60_000);
    run_jobs().await;
    assert_eq!(stand.free().await, free, "the room is free again");
    let path = format!(
        "/api/v1/payments/{}",
        authorized["id"].as_str().expect("an id")
    );
    let payment_now = stand.app.get(&path, "").await.json();
    assert_eq!(payment_now["state"], "expired", "{payment_now}");
    assert_eq!(payment_now["transaction"], Value::Null);
    let complete = json!({"payment_id": authorized["id"]});
    let late = stand.post("/api/v1/payments/complete", &complete).await;
    assert_eq!(
        (late.status.as_u16(), &late.json()["code"]),
        (409, &json!("payment_expired"))
    );
    // running the jobs again gives nothing back twice
    run_jobs().await;
    assert_eq!(stand.free().await, free);
    let report = coordinator::books::check(&stand.app.app.db, stand.app.clock.now())
        .await
        .expect("a report");
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.size.transfers, 0, "nothing was charged");
}

#[tokio::test(flavor = "multi_thread")]
async fn quote_authorize_complete_settle_on_sqlite() {
    four_steps(TestApp::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quote_authorize_complete_settle_on_postgres() {
    four_steps(TestApp::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_payment_that_is_repeated_is_taken_up_once_on_sqlite() {
    taken_up(TestApp::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_payment_that_is_repeated_is_taken_up_once_on_postgres() {
    taken_up(TestApp::on_postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_that_nobody_completes_lapses_on_sqlite() {
    lapses(TestApp::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_that_nobody_completes_lapses_on_postgres() {
    lapses(TestApp::on_postgres().await).await;
}
