//! A small market for tests: one provider with one machine on offer, and whoever wants to rent.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::{Value, json};
use shared::{
    clock::Clock as _,
    id::{NodeId, OfferId},
    money::Amount,
    resources::{Gpu, GpuHealth, Inventory},
    sign::SigningKey,
    wire::enroll,
    x402::{
        client,
        header::{PAYMENT_REQUIRED, PAYMENT_SIGNATURE, decode},
        signature::PayerKey,
    },
};

use crate::{
    context::{Actor, OpCtx},
    domain::{
        auth,
        nodes::{self, model::Availability},
    },
    store::Tx,
    testing::{Answer, TestApp, request},
};

/// The market.
pub(crate) struct Stall {
    pub(crate) test: TestApp,
    pub(crate) provider: String,
    pub(crate) node: NodeId,
    pub(crate) offer: OfferId,
}

fn inventory() -> Inventory {
    Inventory {
        hostname: "stall".into(),
        kernel: "6.1".into(),
        os: "Debian 12".into(),
        ram_total_bytes: 16 << 30,
        cpu_model: "of tests".into(),
        cpu_count: 8,
        disks: Vec::new(),
        gpus: vec![Gpu {
            uuid: "GPU-1".into(),
            model: "of tests".into(),
            vram_total_bytes: 1 << 34,
            pci_bus_id: "1".into(),
            driver: "1".into(),
            cuda: None,
            pcie: None,
            mig: false,
            health: GpuHealth::Good,
        }],
        gpu_absent_reason: None,
        docker: None,
        docker_absent_reason: Some("none".into()),
        cgroup_version: 2,
        gpus_refused: None,
        rental_disk: None,
        shortage: None,
        isolation: None,
        images: None,
    }
}

impl Stall {
    /// With a machine that is online and on offer: 0.002 USDC per GiB and hour.
    pub(crate) async fn open(test: TestApp) -> Self {
        let provider = test.signup("provider@example.org", &["provider"]).await;
        let node = Self::enrol(&test, &provider).await;
        let body =
            json!({"node_id": node, "prices": {"ram_gib_hour": "0.002", "cpu_hour": "0.01"}});
        let offer = test.post("/api/v1/offers", &provider, &body).await.json();
        let offer = offer["id"].as_str().expect("an id").parse();
        let stall = Self {
            offer: offer.expect("an offer's id"),
            test,
            provider,
            node,
        };
        stall.be(Availability::Online).await;
        stall
    }

    async fn enrol(test: &TestApp, provider: &str) -> NodeId {
        let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random"));
        let key = key.expect("a key");
        let user = auth::authenticate(&test.app, provider).await.expect("user");
        let ctx = test.app.context(Actor::User(user), "test".to_owned());
        let enrol = move |tx: &mut dyn Tx| {
            nodes::add_token(tx, &ctx, "token")?;
            let request = enroll::EnrollRequest {
                token: "token".into(),
                public_key: key.public(),
                proof: key.sign(enroll::DOMAIN, b"token"),
                name: "stall".into(),
                inventory: inventory(),
                agent_version: "test".into(),
                protocol_version: shared::PROTOCOL_VERSION,
            };
            Ok(nodes::enroll(tx, &ctx, &request)?.id)
        };
        let db = &test.app.db;
        db.write("test.enrol", enrol).await.expect("enrolled")
    }

    /// What is observed of the machine.
    pub(crate) async fn be(&self, availability: Availability) {
        let (ctx, node) = (self.system(), self.node);
        let observe =
            move |tx: &mut dyn Tx| nodes::observe_availability(tx, &ctx, node, availability);
        let db = &self.test.app.db;
        db.write("test.be", observe).await.expect("written");
    }

    pub(crate) fn system(&self) -> OpCtx {
        self.test.app.task_context("test")
    }

    /// An order for `seconds`.
    pub(crate) fn order(&self, seconds: i64) -> Value {
        json!({
            "offer_id": self.offer,
            "resources": {"ram_bytes": 256 << 20, "cpu_millis": 100},
            "duration_seconds": seconds,
            "image": "busybox:latest",
        })
    }

    /// A consumer with money in their balance.
    pub(crate) async fn consumer(&self) -> String {
        let token = self
            .test
            .signup("consumer@example.org", &["consumer"])
            .await;
        let body = json!({"amount": {"amount": "50", "currency": "USDC"}, "source": "sandbox"});
        let answer = self.keyed("/api/v1/balance/topups", &token, "money", &body);
        assert_eq!(answer.await.status, StatusCode::CREATED);
        token
    }

    /// `POST` with an idempotency key.
    pub(crate) async fn keyed(&self, path: &str, token: &str, key: &str, body: &Value) -> Answer {
        let mut request = request("POST", path, token, body);
        let key = key.parse().expect("a header");
        request.headers_mut().insert("idempotency-key", key);
        self.test.send(request).await
    }

    /// The paid repeat of a request that is answered with 402.
    pub(crate) async fn signed(&self, path: &str, token: &str, body: &Value, nonce: u8) -> Signed {
        let asked = self.test.post(path, token, body).await;
        assert_eq!(asked.status, StatusCode::PAYMENT_REQUIRED, "{asked:?}");
        let terms = asked.headers.get(PAYMENT_REQUIRED).expect("terms");
        let offer = decode(terms.as_bytes()).expect("a header");
        let key = PayerKey::from_bytes(&[7; 32]).expect("a key");
        let limit = Amount::from_atomic(1_000_000_000).expect("an amount");
        let paid = client::choose(&offer, limit)
            .and_then(|chosen| chosen.pay(&key, [nonce; 32], self.test.clock.now()));
        Signed {
            path: path.to_owned(),
            body: body.clone(),
            header: paid.expect("payable").header_v2,
        }
    }

    /// Sends a signed payment.
    pub(crate) async fn pay(&self, signed: &Signed, token: &str) -> Answer {
        self.test.send(signed.request(token)).await
    }
}

/// A request that carries its payment.
pub(crate) struct Signed {
    path: String,
    body: Value,
    pub(crate) header: String,
}

impl Signed {
    fn request(&self, token: &str) -> Request<Body> {
        let mut request = request("POST", &self.path, token, &self.body);
        let header = self.header.parse().expect("a header");
        request.headers_mut().insert(PAYMENT_SIGNATURE, header);
        request
    }
}

/// The id in an answer.
pub(crate) fn id_of<T: std::str::FromStr<Err: std::fmt::Debug>>(answer: &Answer) -> T {
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let id = answer.json()["id"].as_str().expect("an id").parse();
    id.expect("of its kind")
}
