//! A coordinator that checks everything an agent sends, keeps the chain, and has mishaps on demand.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State as AppState, WebSocketUpgrade, ws},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use shared::{
    clock::{Clock as _, SystemClock},
    http_signature::{Request, parse},
    id::{Ids, NodeId},
    journal::{ACK_DOMAIN, Ack, Hash, SignedRecord, verify_chain},
    link::{
        SUBPROTOCOL,
        lines::{self, Lines},
        open::{self, Control, Open, Opened},
        session::{Role, Session, Started},
        socket::{ByteSocket, Carried},
    },
    sign::{PublicKey, SigningKey},
    wire::{
        desired::DesiredState,
        enroll::{DOMAIN, EnrollReply, EnrollRequest},
        heartbeat::{Beat, Recover, Reply},
        problem::{Problem, agent_codes},
    },
};
use tokio::{
    net::TcpListener,
    sync::{broadcast, watch},
    task::JoinHandle,
};

use super::node::PATIENCE;

/// What agents are told to sign over: not where they connect to.
const PUBLIC_URL: &str = "https://market.example/base";

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    /// Nothing: it is answered.
    Answer,
    /// It is taken, and the answer gets lost.
    LoseAnswer,
    /// The next beat that brings new records is taken, and the answer gets lost. Beats without wait for no mishap.
    LoseReceipt,
}

/// What the coordinator knows, and what it saw.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) node_id: NodeId,
    /// Of all enrolments; the last one counts.
    pub(super) keys: Vec<PublicKey>,
    pub(super) enrolments: usize,
    pub(super) seq: i64,
    hash: Hash,
    pub(super) records: Vec<SignedRecord>,
    /// Records that came again.
    pub(super) repeated: usize,
    /// Records whose receipt was lost, and that haven't come again.
    pub(super) owed: BTreeSet<i64>,
    pub(super) beats: Vec<Beat>,
    pub(super) accepted: usize,
    pub(super) refused: usize,
    pub(super) links: usize,
    /// Pings that were answered.
    pub(super) pongs: usize,
    /// Links are refused as an older agent's are.
    pub(super) refuse_links: bool,
    pub(super) largest_usage: usize,
    pub(super) interval_ms: i64,
    /// What an agent must never do.
    pub(super) faults: Vec<String>,
    pub(super) mishaps: VecDeque<Mishap>,
    nonces: BTreeSet<String>,
    beacons: Vec<String>,
    beacons_made: u64,
    always_refuse: bool,
}

/// What is said on links.
#[derive(Debug, Clone)]
enum Said {
    Control(Control),
    /// Nothing more: it is cut.
    Cut,
}

#[derive(Clone)]
struct Shared {
    known: Arc<watch::Sender<Known>>,
    key: Arc<SigningKey>,
    nudges: broadcast::Sender<Said>,
}

pub(super) struct Coordinator {
    shared: Shared,
    address: SocketAddr,
    server: Option<JoinHandle<()>>,
}

impl Coordinator {
    pub(super) async fn start() -> Self {
        let pkcs8 = SigningKey::generate_pkcs8().expect("random");
        let known = Known {
            node_id: Ids::System.mint(),
            keys: Vec::new(),
            enrolments: 0,
            seq: 0,
            hash: Hash::GENESIS,
            records: Vec::new(),
            repeated: 0,
            owed: BTreeSet::new(),
            beats: Vec::new(),
            accepted: 0,
            refused: 0,
            links: 0,
            pongs: 0,
            refuse_links: false,
            largest_usage: 0,
            interval_ms: 5_000,
            faults: Vec::new(),
            mishaps: VecDeque::new(),
            nonces: BTreeSet::new(),
            beacons: Vec::new(),
            beacons_made: 0,
            always_refuse: false,
        };
        let mut coordinator = Self {
            shared: Shared {
                known: Arc::new(watch::Sender::new(known)),
                key: Arc::new(SigningKey::from_pkcs8(&pkcs8).expect("key")),
                nudges: broadcast::Sender::new(8),
            },
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            server: None,
        };
        coordinator.come_back().await;
        coordinator
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("bound");
        self.address = listener.local_addr().expect("address");
        let router = Router::new()
            .route("/api/v1/nodes/enroll", post(enroll))
            .route("/api/v1/nodes/{id}/heartbeat", post(heartbeat))
            .route("/api/v1/nodes/{id}/link", get(link))
            .with_state(self.shared.clone());
        self.server = Some(tokio::spawn(async move {
            axum::serve(listener, router).await.expect("served");
        }));
    }

    /// Stops listening and cuts all connections.
    pub(super) async fn go_away(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
        // connections that are open are tasks of their own: what they carry is lost
        self.shared.known.send_modify(|known| {
            known.mishaps = std::iter::repeat_n(Mishap::LoseAnswer, 1_000).collect();
        });
        let probe = async { while tokio::net::TcpStream::connect(self.address).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, probe)
            .await
            .expect("nobody listens");
        self.shared.known.send_modify(|known| known.mishaps.clear());
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.shared.known.borrow())
    }

    pub(super) async fn until(&self, what: &str, is: impl FnMut(&Known) -> bool) {
        let mut known = self.shared.known.subscribe();
        let found = tokio::time::timeout(PATIENCE, known.wait_for(is)).await;
        let reached = found.is_ok_and(|found| found.is_ok());
        assert!(reached, "{what} never came: {}", self.with(summary));
    }

    pub(super) fn next(&self, mishaps: &[Mishap]) {
        self.shared
            .known
            .send_modify(|known| known.mishaps.extend(mishaps));
    }

    pub(super) fn set_interval_ms(&self, ms: i64) {
        self.shared
            .known
            .send_modify(|known| known.interval_ms = ms);
    }

    pub(super) fn set_always_refuse(&self, refuse: bool) {
        self.shared
            .known
            .send_modify(|known| known.always_refuse = refuse);
    }

    pub(super) fn forget_beacons(&self) {
        self.shared.known.send_modify(|known| known.beacons.clear());
    }

    pub(super) fn nudge(&self) {
        self.say(Said::Control(Control::Beat));
    }

    pub(super) fn ping(&self) {
        self.say(Said::Control(Control::Ping));
    }

    pub(super) fn cut_links(&self) {
        self.say(Said::Cut);
    }

    pub(super) fn refuse_links(&self, refuse: bool) {
        self.shared
            .known
            .send_modify(|known| known.refuse_links = refuse);
    }

    fn say(&self, said: Said) {
        self.shared.nudges.send(said).expect("a link listens");
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

fn summary(known: &Known) -> String {
    format!(
        "{} accepted, {} refused, record {}, {} links, faults {:?}",
        known.accepted, known.refused, known.seq, known.links, known.faults
    )
}

impl Known {
    fn new_beacon(&mut self) -> String {
        self.beacons_made += 1;
        let beacon = format!("{:032x}", self.beacons_made);
        self.beacons.insert(0, beacon.clone());
        self.beacons.truncate(2);
        beacon
    }

    fn refuse(&mut self, code: &str, recoverable: bool) -> Response {
        self.refused += 1;
        let recover = recoverable.then(|| Recover {
            server_time: SystemClock.now(),
            beacon: self.new_beacon(),
        });
        let problem = Problem {
            kind: "about:blank".into(),
            title: code.into(),
            status: 401,
            detail: format!("refused: {code}"),
            code: code.into(),
            request_id: "r".into(),
            errors: Vec::new(),
            recover,
        };
        (StatusCode::UNAUTHORIZED, Json(problem)).into_response()
    }

    /// Checks a signed request; `Err` is the refusal.
    fn check(
        &mut self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Result<(), Box<Response>> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let input = text("signature-input").unwrap_or_default();
        let signature = text("signature").unwrap_or_default();
        let target_uri = format!("{PUBLIC_URL}{target}");
        let request = Request {
            method,
            target_uri: &target_uri,
            body,
        };
        let key = *self.keys.last().expect("enrolled");
        let unverified = match parse(body, text("content-digest"), input, signature) {
            Ok(unverified) if unverified.verify(&key, &request).is_ok() => unverified,
            other => {
                self.faults
                    .push(format!("{method} {target_uri}: {other:?}"));
                return Err(Box::new(self.refuse(agent_codes::SIGNATURE_INVALID, false)));
            }
        };
        if unverified.params.key_id != self.node_id.to_string() {
            self.faults
                .push(format!("key id {}", unverified.params.key_id));
        }
        if !self.nonces.insert(unverified.params.nonce.clone()) {
            self.faults.push("a nonce was used twice".into());
        }
        if (unverified.params.created_s - SystemClock.now().as_secs()).abs() > 60 {
            return Err(Box::new(self.refuse(agent_codes::SIGNATURE_STALE, true)));
        }
        Ok(())
    }

    fn take(&mut self, beat: Beat) {
        if self.beats.last().is_some_and(|last| last.seq >= beat.seq) {
            self.faults
                .push(format!("beat {} isn't later than the one before", beat.seq));
        }
        let json = serde_json::to_vec(&beat.usage).expect("json").len();
        self.largest_usage = self.largest_usage.max(json);
        let fresh: Vec<SignedRecord> = beat
            .usage
            .iter()
            .filter(|signed| signed.record.seq > self.seq)
            .cloned()
            .collect();
        for signed in &beat.usage {
            let known = self
                .records
                .iter()
                .find(|known| known.record.seq == signed.record.seq);
            match known {
                Some(known) if known != signed => {
                    self.faults
                        .push(format!("record {} has two forms", signed.record.seq));
                }
                Some(_) => {
                    self.repeated += 1;
                    self.owed.remove(&signed.record.seq);
                }
                None => {}
            }
        }
        let key = *self.keys.last().expect("enrolled");
        match verify_chain(self.seq, self.hash, &fresh, &key) {
            Ok((seq, hash)) => (self.seq, self.hash) = (seq, hash),
            Err(error) => self.faults.push(error.to_string()),
        }
        self.records.extend(fresh);
        self.accepted += 1;
        self.beats.push(beat);
    }
}

/// A body that breaks off: the agent never learns what was answered.
fn lost() -> Response {
    let broken =
        futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("lost")) });
    ([(header::CONTENT_LENGTH, "10")], Body::from_stream(broken)).into_response()
}

/// Changes what is known in one step, and loses the answer if it is its turn.
fn turn(shared: &Shared, act: impl FnOnce(&mut Known) -> Response) -> Response {
    let (mut answer, mut mishap) = (None, None);
    shared.known.send_modify(|known| {
        let before = known.seq;
        answer = Some(act(known));
        if known.mishaps.front() == Some(&Mishap::LoseReceipt) && known.seq == before {
            return;
        }
        mishap = known.mishaps.pop_front();
        if mishap == Some(Mishap::LoseReceipt) {
            known.owed.extend(before + 1..=known.seq);
        }
    });
    match (answer, mishap) {
        (Some(answer), None | Some(Mishap::Answer)) => answer,
        _ => lost(),
    }
}

async fn enroll(
    AppState(shared): AppState<Shared>,
    Json(request): Json<EnrollRequest>,
) -> Response {
    let coordinator_key = shared.key.public();
    turn(&shared, |known| {
        known.enrolments += 1;
        let proven = request
            .public_key
            .verify(DOMAIN, request.token.as_bytes(), &request.proof);
        if request.token != "one-time" || proven.is_err() || request.inventory.ram_total_bytes <= 0
        {
            known.faults.push(format!("a bad enrolment: {request:?}"));
        }
        if known.keys.last() != Some(&request.public_key) {
            if !known.keys.is_empty() {
                // another key is another node with a chain of its own
                known.node_id = Ids::System.mint();
                (known.seq, known.hash) = (0, Hash::GENESIS);
            }
            known.keys.push(request.public_key);
        }
        let reply = EnrollReply {
            node_id: known.node_id,
            coordinator_key,
            server_time: SystemClock.now(),
            public_url: PUBLIC_URL.into(),
        };
        Json(reply).into_response()
    })
}

async fn heartbeat(
    AppState(shared): AppState<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let key = Arc::clone(&shared.key);
    turn(&shared, |known| {
        let target = format!("/api/v1/nodes/{id}/heartbeat");
        if let Err(refusal) = known.check("POST", &target, &headers, Some(&body)) {
            return *refusal;
        }
        let beat: Beat = match serde_json::from_slice(&body) {
            Ok(beat) => beat,
            Err(error) => {
                known.faults.push(format!("not a beat: {error}"));
                return StatusCode::BAD_REQUEST.into_response();
            }
        };
        let fresh = known.beacons.contains(&beat.beacon) || known.beacons_made == 0;
        // a new process has no beacon yet
        let first = beat.beacon.is_empty()
            && known
                .beats
                .last()
                .is_none_or(|last| last.instance_id != beat.instance_id);
        if known.always_refuse || !(fresh || first) {
            return known.refuse(agent_codes::BEACON_STALE, true);
        }
        let head = beat.journal_head;
        known.take(beat);
        let received_at = SystemClock.now();
        let canonical = Ack::canonical(known.node_id, known.seq, &known.hash, received_at);
        let reply = Reply {
            desired: DesiredState::default(),
            leases: Vec::new(),
            pull_secrets: Vec::new(),
            ack: (known.seq > 0).then(|| Ack {
                seq: known.seq,
                hash: known.hash,
                received_at,
                signature: key.sign(ACK_DOMAIN, &canonical),
            }),
            beacon: known.new_beacon(),
            more: head.seq > known.seq,
            server_time: received_at,
            beat_interval_ms: known.interval_ms,
            standing: None,
        };
        Json(reply).into_response()
    })
}

#[derive(serde::Deserialize)]
struct LinkQuery {
    beacon: String,
}

async fn link(
    AppState(shared): AppState<Shared>,
    Path(id): Path<String>,
    Query(query): Query<LinkQuery>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let mut refusal = None;
    shared.known.send_modify(|known| {
        let target = format!("/api/v1/nodes/{id}/link?beacon={}", query.beacon);
        refusal = known.check("GET", &target, &headers, None).err();
        if refusal.is_none() && !known.beacons.contains(&query.beacon) {
            refusal = Some(Box::new(known.refuse(agent_codes::BEACON_STALE, true)));
        }
    });
    if let Some(refusal) = refusal {
        return *refusal;
    }
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    assert!(upgrade.selected_protocol().is_some(), "{headers:?}");
    if shared.known.borrow().refuse_links {
        shared.known.send_modify(|known| known.links += 1);
        return StatusCode::BAD_REQUEST.into_response();
    }
    upgrade.on_upgrade(move |socket| talk(shared, socket))
}

fn carried(message: ws::Message) -> Carried {
    match message {
        ws::Message::Binary(bytes) => Carried::Bytes(bytes),
        ws::Message::Ping(_) | ws::Message::Pong(_) => Carried::Nothing,
        ws::Message::Close(_) => Carried::End,
        ws::Message::Text(_) => Carried::Violation,
    }
}

/// The coordinator's end of a link.
async fn talk(shared: Shared, socket: ws::WebSocket) {
    let mut said = shared.nudges.subscribe();
    let socket = ByteSocket::new(socket, ws::Message::Binary, carried);
    let Started {
        session, driver, ..
    } = Session::start(socket, Role::Server);
    let driven = tokio::spawn(driver);
    let mut control = session.stream().await.expect("a stream");
    let opened = open::send(&mut control, &Open::Control {}).await;
    opened.expect("the control stream is asked for");
    let opened: Opened = open::receive(&mut control).await.expect("an answer");
    assert_eq!(opened, Opened::Ready {});
    let mut lines = Lines::new(control);
    shared.known.send_modify(|known| known.links += 1);
    loop {
        tokio::select! {
            word = said.recv() => match word.expect("words") {
                Said::Control(control) => {
                    if lines::write(lines.stream(), &control).await.is_err() {
                        break;
                    }
                }
                Said::Cut => break,
            },
            line = lines.next::<Control>() => match line {
                Ok(Some(Control::Pong)) => shared.known.send_modify(|known| known.pongs += 1),
                _ => break,
            }
        }
    }
    driven.abort();
}
