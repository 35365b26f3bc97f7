//! Nodes of one provider that enrol and beat in process, with real keys, chains and signatures.

use anyhow::{Context as _, Result, ensure};
use axum::{body::Body, http::Request};
use coordinator::testing::{TestApp, request};
use serde_json::{Value, json};
use shared::{
    http_signature::{self, Params},
    id::{LeaseId, NodeId, RentalId},
    journal::{Hash, MeterState, Record, SignedRecord},
    resources::{Inventory, Load},
    sign::SigningKey,
    wire::{
        enroll::{self, EnrollReply, EnrollRequest},
        heartbeat::{Beat, JournalHead, Reply},
        observed::{ObservedRental, Phase},
    },
};

use crate::market::random;

/// All nodes, with an offer each.
pub(crate) struct Fleet {
    provider: String,
    nodes: Vec<Node>,
}

struct Node {
    id: NodeId,
    key: SigningKey,
    public_url: String,
    instance_id: String,
    offer_id: Option<String>,
    beacon: String,
    beats: i64,
    records: i64,
    head: Hash,
    rental: Option<(RentalId, LeaseId)>,
}

impl Fleet {
    /// Enrols so many nodes; each has beaten.
    pub(crate) async fn enrolled(app: &TestApp, count: usize) -> Result<Self> {
        let provider = app.signup("provider@bench.example", &["provider"]).await;
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            nodes.push(Node::enrolled(app, &provider).await?);
        }
        let mut fleet = Self { provider, nodes };
        fleet.settle(app).await?;
        Ok(fleet)
    }

    /// One beat of each, which takes the beacon and the rental from its answer.
    pub(super) async fn settle(&mut self, app: &TestApp) -> Result<()> {
        for node in &mut self.nodes {
            node.settle(app).await?;
        }
        Ok(())
    }

    /// A paid request for a slice of a node, ready to be sent.
    pub(crate) async fn order(&mut self, app: &TestApp, number: usize) -> Result<Request<Body>> {
        let node = &mut self.nodes[number];
        if node.offer_id.is_none() {
            let body = json!({"node_id": node.id, "region": "local", "prices": {"ram_gib_hour": "0.01", "cpu_hour": "0.01"}});
            let made = app.post("/api/v1/offers", &self.provider, &body).await;
            node.offer_id = made.json()["id"].as_str().map(str::to_owned);
        }
        super::order(app, node.offer_id.as_deref().context("no offer was made")?).await
    }

    /// Signed beats, `each` of every node, in so many lists; the beats of a node are in one list, in their order.
    pub(super) fn beats(
        &mut self,
        app: &TestApp,
        each: usize,
        lists: usize,
    ) -> Result<Vec<Vec<Request<Body>>>> {
        let mut all: Vec<Vec<Request<Body>>> = (0..lists).map(|_| Vec::new()).collect();
        for _ in 0..each {
            for (number, node) in self.nodes.iter_mut().enumerate() {
                all[number % lists].push(node.beat(app)?);
            }
        }
        Ok(all)
    }
}

impl Node {
    async fn enrolled(app: &TestApp, provider: &str) -> Result<Self> {
        let answer = app
            .post("/api/v1/nodes/enrollment-tokens", provider, &json!({}))
            .await
            .json();
        let token = answer["token"]
            .as_str()
            .with_context(|| format!("no token: {answer}"))?;
        let key = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()?)?;
        let asked = EnrollRequest {
            token: token.to_owned(),
            public_key: key.public(),
            proof: key.sign(enroll::DOMAIN, token.as_bytes()),
            name: "bench".to_owned(),
            inventory: inventory(),
            agent_version: "bench".to_owned(),
            protocol_version: shared::PROTOCOL_VERSION,
        };
        let answer = app
            .post("/api/v1/nodes/enroll", "", &serde_json::to_value(&asked)?)
            .await;
        ensure!(
            answer.status.is_success(),
            "not enrolled: {}",
            answer.json()
        );
        let reply: EnrollReply = serde_json::from_slice(&answer.body)?;
        Ok(Self {
            id: reply.node_id,
            key,
            public_url: reply.public_url,
            instance_id: hex::encode(random()?),
            offer_id: None,
            beacon: String::new(),
            beats: 0,
            records: 0,
            head: Hash::GENESIS,
            rental: None,
        })
    }

    /// Beats until it is accepted: the first one is refused with the beacon to use.
    async fn settle(&mut self, app: &TestApp) -> Result<()> {
        for _ in 0..2 {
            let answer = app.send(self.beat(app)?).await;
            if answer.status.is_success() {
                let reply: Reply = serde_json::from_slice(&answer.body)?;
                let mut rentals = reply.desired.rentals.iter();
                self.rental = rentals
                    .next()
                    .map(|rental| (rental.rental_id, rental.lease_id));
                self.beacon = reply.beacon;
                return Ok(());
            }
            let beacon = answer.json()["recover"]["beacon"]
                .as_str()
                .map(str::to_owned);
            self.beacon =
                beacon.with_context(|| format!("a beat was refused: {}", answer.json()))?;
        }
        anyhow::bail!("a node's beats are refused")
    }

    /// The next beat, signed; with a rental it says that it runs, with a record of it.
    fn beat(&mut self, app: &TestApp) -> Result<Request<Body>> {
        self.beats += 1;
        let now = app.app.clock.now();
        let usage: Vec<SignedRecord> = self
            .rental
            .map(|rental| self.record(app, rental))
            .into_iter()
            .collect();
        let observed = self.rental.map(|(rental_id, lease_id)| ObservedRental {
            rental_id,
            lease_id,
            phase: Phase::Running,
            container_id: Some("c".repeat(64)),
            image_digest: Some(format!("sha256:{}", "d".repeat(64))),
            started_at: Some(now),
            finished_at: None,
        });
        let beat = Beat {
            node_id: self.id,
            instance_id: self.instance_id.clone(),
            seq: self.beats,
            beacon: self.beacon.clone(),
            boot_id: "b".repeat(32),
            sent_wall: now,
            sent_boot_ms: self.beats,
            agent_version: "bench".to_owned(),
            inventory: inventory(),
            load: Load::default(),
            generation: 0,
            observed: observed.into_iter().collect(),
            journal_head: JournalHead {
                seq: self.records,
                hash: self.head,
            },
            usage,
        };
        self.signed(&serde_json::to_value(&beat)?, now.as_secs())
    }

    fn record(
        &mut self,
        app: &TestApp,
        (rental_id, lease_id): (RentalId, LeaseId),
    ) -> SignedRecord {
        self.records += 1;
        let now = app.app.clock.now();
        let record = Record {
            node_id: self.id,
            boot_id: "b".repeat(32),
            rental_id,
            lease_id,
            seq: self.records,
            prev_hash: self.head,
            beacon: self.beacon.clone(),
            t_wall: now,
            t_boot_ms: self.beats,
            state: MeterState::Running,
            container_id: "c".repeat(64),
            image_digest: format!("sha256:{}", "d".repeat(64)),
            spec_sha256: "e".repeat(64),
            started_at: Some(now),
            finished_at: None,
            cum_cpu_ns: self.records,
            cum_mem_byte_s: self.records,
            cum_rx_bytes: 0,
            cum_tx_bytes: 0,
            exit: None,
        };
        self.head = record.hash();
        record.sign(&self.key)
    }

    fn signed(&self, beat: &Value, created_s: i64) -> Result<Request<Body>> {
        let path = format!("/api/v1/nodes/{}/heartbeat", self.id);
        let text = beat.to_string();
        let signed = http_signature::sign(
            &self.key,
            &http_signature::Request {
                method: "POST",
                target_uri: &format!("{}{path}", self.public_url),
                body: Some(text.as_bytes()),
            },
            &Params {
                created_s,
                nonce: self.beats.to_string(),
                key_id: self.id.to_string(),
            },
        );
        let mut request = request("POST", &path, "", beat);
        let headers = request.headers_mut();
        if let Some(digest) = signed.content_digest {
            headers.insert("content-digest", digest.parse()?);
        }
        headers.insert("signature-input", signed.signature_input.parse()?);
        headers.insert("signature", signed.signature.parse()?);
        Ok(request)
    }
}

/// A large machine, so that room isn't what is measured.
fn inventory() -> Inventory {
    Inventory {
        hostname: "bench".to_owned(),
        kernel: "6.1".to_owned(),
        os: "Debian".to_owned(),
        ram_total_bytes: 1 << 42,
        cpu_model: "a processor".to_owned(),
        cpu_count: 1_024,
        disks: Vec::new(),
        gpus: Vec::new(),
        gpu_absent_reason: Some("not looked for".to_owned()),
        docker: None,
        docker_absent_reason: Some("not looked for".to_owned()),
        cgroup_version: 2,
        gpus_refused: None,
        rental_disk: None,
        shortage: None,
        isolation: None,
        images: None,
    }
}
