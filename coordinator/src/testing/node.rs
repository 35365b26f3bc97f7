//! A machine that behaves as an agent does, without Docker: a real key, a real journal chain, real signed beats through the
//! router. What an agent may do wrong can be done here on purpose.
//!
//! # Invariants
//! - Its clocks are the test's: boot time is the clock's, wall time is the clock's plus an offset of its own.
//! - Its journal only grows; what isn't acknowledged is sent again.

mod containers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Request, StatusCode},
};
use serde_json::Value;
use shared::{
    clock::{Clock as _, ManualClock},
    http_signature::{self, Params},
    id::{NodeId, RentalId},
    journal::{Hash, SignedRecord},
    resources::{Inventory, Load},
    sign::SigningKey,
    time::Timestamp,
    wire::{
        BACKLOG_BYTES_MAX,
        desired::{DesiredRental, Wanted},
        enroll::{self, EnrollReply},
        heartbeat::{Beat, JournalHead, Recover, Reply},
        observed::ObservedRental,
    },
};

use super::{Answer, TestApp};

/// A container that the machine has.
#[derive(Debug, Clone)]
pub struct Container {
    /// As beats report it.
    pub seen: ObservedRental,
    /// When its lease ends, on the boot clock.
    pub lease_ends_ms: i64,
    /// CPU time used, nanoseconds.
    pub cpu_ns: i64,
}

/// A signed request as it travels.
#[derive(Debug, Clone)]
pub struct SignedBeat {
    /// Where it goes.
    pub path: String,
    /// The three signature headers.
    pub headers: HeaderMap,
    /// The beat.
    pub body: Bytes,
}

impl SignedBeat {
    /// The request, as often as wanted.
    ///
    /// # Panics
    /// If the path isn't one.
    #[must_use]
    pub fn request(&self) -> Request<Body> {
        let mut request = Request::post(&self.path)
            .body(Body::from(self.body.clone()))
            .expect("a request");
        request.headers_mut().extend(self.headers.clone());
        request
    }
}

/// The machine. Copies share its key, as two processes would.
#[derive(Debug, Clone)]
pub struct ScriptedNode {
    /// Who it is.
    pub id: NodeId,
    /// Signs beats and records.
    pub key: Arc<SigningKey>,
    /// The coordinator's URL as it was told.
    pub public_url: String,
    /// What it measured.
    pub inventory: Inventory,
    /// Of this process.
    pub instance: String,
    /// Of the last beat of this process.
    pub seq: i64,
    /// The latest beacon.
    pub beacon: String,
    /// Of this boot.
    pub boot_id: String,
    /// How far its wall clock is ahead, milliseconds.
    pub wall_ahead_ms: i64,
    /// How far its idea of our time is ahead of its wall clock (`created` is corrected by it), seconds.
    pub correction_s: i64,
    /// Every record that it made.
    pub journal: Vec<SignedRecord>,
    /// Up to which it was acknowledged.
    pub acked: i64,
    /// What runs or ran.
    pub containers: BTreeMap<RentalId, Container>,
    /// Whether running containers are metered; a broken meter isn't.
    pub metering: bool,
    /// Rentals of which a GPU doesn't work.
    pub degraded: BTreeSet<RentalId>,
    /// Beats that it sent.
    pub beats: u64,
    clock: ManualClock,
    booted_ms: i64,
}

/// A machine of 16 processors.
#[must_use]
pub fn inventory(ram_total_bytes: i64) -> Inventory {
    Inventory {
        hostname: "scripted".into(),
        kernel: "6.1.0".into(),
        os: "Debian GNU/Linux 12".into(),
        ram_total_bytes,
        cpu_model: "Test CPU".into(),
        cpu_count: 16,
        disks: Vec::new(),
        gpus: Vec::new(),
        gpu_absent_reason: Some("no NVIDIA driver".into()),
        docker: None,
        docker_absent_reason: Some("a test".into()),
        cgroup_version: 2,
        gpus_refused: None,
        rental_disk: None,
        shortage: None,
        isolation: None,
        images: None,
    }
}

impl ScriptedNode {
    /// Enrols a machine for the provider who holds `token`.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn enrol(test: &TestApp, token: &str, ram_total_bytes: i64) -> Self {
        Self::enrol_as(test, token, inventory(ram_total_bytes)).await
    }

    /// Enrols a machine that measured this.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn enrol_as(test: &TestApp, token: &str, inventory: Inventory) -> Self {
        let path = "/api/v1/nodes/enrollment-tokens";
        let answer = test.post(path, token, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let one_time = answer.json()["token"].as_str().expect("a token").to_owned();
        let pkcs8 = SigningKey::generate_pkcs8().expect("random numbers");
        let key = SigningKey::from_pkcs8(&pkcs8).expect("a key");
        let request = enroll::EnrollRequest {
            proof: key.sign(enroll::DOMAIN, one_time.as_bytes()),
            token: one_time,
            public_key: key.public(),
            name: "scripted".into(),
            inventory: inventory.clone(),
            agent_version: "0.0.0-test".into(),
            protocol_version: shared::PROTOCOL_VERSION,
        };
        let body = serde_json::to_value(&request).expect("JSON");
        let answer = test.post("/api/v1/nodes/enroll", "", &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let reply: EnrollReply = serde_json::from_slice(&answer.body).expect("a reply");
        Self {
            id: reply.node_id,
            key: Arc::new(key),
            public_url: reply.public_url,
            inventory,
            instance: "aa01".into(),
            seq: 0,
            beacon: String::new(),
            boot_id: "b0071d".into(),
            wall_ahead_ms: 0,
            correction_s: 0,
            journal: Vec::new(),
            acked: 0,
            containers: BTreeMap::new(),
            metering: true,
            degraded: BTreeSet::new(),
            beats: 0,
            clock: test.clock.clone(),
            booted_ms: 0,
        }
    }

    /// Its wall clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.clock.now().plus_ms(self.wall_ahead_ms)
    }

    /// Its boot clock.
    #[must_use]
    pub fn boot_ms(&self) -> i64 {
        self.clock.boot_ms() - self.booted_ms
    }

    /// Where its beats go.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/api/v1/nodes/{}/heartbeat", self.id)
    }

    /// The end of its journal.
    #[must_use]
    pub fn head(&self) -> JournalHead {
        self.journal.last().map_or(
            JournalHead {
                seq: 0,
                hash: Hash::GENESIS,
            },
            |last| JournalHead {
                seq: last.record.seq,
                hash: last.record.hash(),
            },
        )
    }

    /// The next beat: the whole truth now, with as much of the backlog as fits.
    pub fn next_beat(&mut self) -> Beat {
        self.seq += 1;
        let mut usage = Vec::new();
        let mut bytes = 0;
        for signed in self.journal.iter().filter(|r| r.record.seq > self.acked) {
            bytes += serde_json::to_vec(signed).expect("JSON").len() + 1;
            if bytes > BACKLOG_BYTES_MAX {
                break;
            }
            usage.push(signed.clone());
        }
        Beat {
            node_id: self.id,
            instance_id: self.instance.clone(),
            seq: self.seq,
            beacon: self.beacon.clone(),
            boot_id: self.boot_id.clone(),
            sent_wall: self.wall(),
            sent_boot_ms: self.boot_ms(),
            agent_version: "0.0.0-test".into(),
            inventory: self.inventory.clone(),
            load: Load::default(),
            generation: 0,
            observed: self.containers.values().map(|c| c.seen.clone()).collect(),
            journal_head: self.head(),
            usage,
        }
    }

    /// Signs a beat with its key, now.
    #[must_use]
    pub fn sign(&self, beat: &Beat) -> SignedBeat {
        let created_s = self.wall().as_secs() + self.correction_s;
        self.sign_for(beat, self.id, created_s)
    }

    /// Signs a beat for the path of `node`, as if at `created_s`.
    ///
    /// # Panics
    /// Never: a beat is JSON.
    #[must_use]
    pub fn sign_for(&self, beat: &Beat, node: NodeId, created_s: i64) -> SignedBeat {
        let body = serde_json::to_vec(beat).expect("JSON");
        let path = format!("/api/v1/nodes/{node}/heartbeat");
        let request = http_signature::Request {
            method: "POST",
            target_uri: &format!("{}{path}", self.public_url),
            body: Some(&body),
        };
        let params = Params {
            created_s,
            nonce: format!("{}{:08x}", self.instance, beat.seq),
            key_id: node.to_string(),
        };
        let signed = http_signature::sign(&self.key, &request, &params);
        let value = |text: &str| HeaderValue::from_str(text).expect("a header value");
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert(
            "content-digest",
            value(&signed.content_digest.expect("there is a body")),
        );
        headers.insert("signature-input", value(&signed.signature_input));
        headers.insert("signature", value(&signed.signature));
        SignedBeat {
            path,
            headers,
            body: body.into(),
        }
    }

    /// Sends the next beat once and takes in whatever is answered.
    pub async fn try_beat(&mut self, test: &TestApp) -> Answer {
        let beat = self.next_beat();
        let signed = self.sign(&beat);
        self.beats += 1;
        let answer = test.send(signed.request()).await;
        if answer.status == StatusCode::OK {
            self.absorb(&answer, beat.sent_boot_ms);
        } else if let Ok(recover) =
            serde_json::from_value::<Recover>(answer.json()["recover"].clone())
        {
            self.beacon = recover.beacon;
            self.correction_s = recover.server_time.as_secs() - self.wall().as_secs();
        }
        answer
    }

    /// Beats until everything is sent, recovering once from a refusal; returns the last reply.
    ///
    /// # Panics
    /// If a beat is refused for good.
    pub async fn beat(&mut self, test: &TestApp) -> Reply {
        let mut recovered = false;
        loop {
            let answer = self.try_beat(test).await;
            if answer.status == StatusCode::UNAUTHORIZED && !recovered {
                recovered = true;
                continue;
            }
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let reply: Reply = serde_json::from_slice(&answer.body).expect("a reply");
            if !reply.more {
                return reply;
            }
        }
    }

    /// Believes a reply: beacon, receipt, leases; forgets rentals that left the desired state, stops what is to be stopped.
    ///
    /// # Panics
    /// If it isn't a reply.
    pub fn absorb(&mut self, answer: &Answer, sent_boot_ms: i64) {
        let reply: Reply = serde_json::from_slice(&answer.body).expect("a reply");
        self.beacon.clone_from(&reply.beacon);
        if let Some(ack) = &reply.ack {
            self.acked = ack.seq;
        }
        let wanted: BTreeMap<RentalId, &DesiredRental> = reply
            .desired
            .rentals
            .iter()
            .map(|rental| (rental.rental_id, rental))
            .collect();
        self.containers.retain(|id, _| wanted.contains_key(id));
        for rental in wanted.values() {
            self.containers
                .entry(rental.rental_id)
                .or_insert_with(|| containers::pending(rental.rental_id, rental.lease_id));
        }
        for lease in &reply.leases {
            if let Some(container) = self.containers.get_mut(&lease.rental_id) {
                let ends_ms = sent_boot_ms + lease.lease_ms;
                container.lease_ends_ms = container.lease_ends_ms.max(ends_ms);
            }
        }
        let stopped: Vec<RentalId> = wanted
            .values()
            .filter(|rental| rental.wanted == Wanted::Stop)
            .map(|rental| rental.rental_id)
            .collect();
        for id in stopped {
            self.stop(id);
        }
    }

    /// The agent's process dies and comes back: what it knew only in memory is gone.
    pub fn restart_agent(&mut self) {
        self.instance = format!("{}f", self.instance);
        self.seq = 0;
        self.beacon.clear();
    }

    /// The machine starts anew: another boot, another process. Containers are left to the test.
    pub fn reboot(&mut self) {
        self.restart_agent();
        self.boot_id = format!("{}0", self.boot_id);
        self.booted_ms = self.clock.boot_ms();
    }
}
