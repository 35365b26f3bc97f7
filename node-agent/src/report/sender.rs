//! Sends beats, one at a time, and hands the answers on.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use shared::{
    http_signature::Request,
    journal::{Ack, SignedRecord},
    resources::{Inventory, Load},
    wire::{
        BACKLOG_BYTES_MAX, HEARTBEAT_BYTES_MAX,
        heartbeat::{Beat, JournalHead, Recover, Reply},
    },
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Contact, ServerClock, Shared, backoff, contact, lock, reply};
use crate::{
    http::{self, RequestError},
    identity::Identity,
    journal::JournalError,
    probe::Prober,
    status::Status,
};

/// How often in a row a refused beat is sent again at once with what the refusal said.
const RECOVERIES_MAX: u32 = 3;
/// The ticker wakes the sender; this much later than the interval it wakes itself.
const OVERDUE_MS: i64 = 1_000;

pub(super) struct Setup {
    pub(super) identity: Identity,
    pub(super) prober: Arc<Mutex<Prober>>,
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
    pub(super) boot_id: String,
    pub(super) status_file: Option<PathBuf>,
    pub(super) nudge: Arc<Notify>,
    pub(super) beacon: watch::Sender<String>,
    pub(super) interval_ms: watch::Sender<i64>,
    pub(super) server_clock: watch::Sender<ServerClock>,
    pub(super) contact: watch::Sender<Contact>,
}

pub(super) struct Sender {
    shared: Shared,
    setup: Setup,
    client: reqwest::Client,
    instance_id: String,
    seq: i64,
    failures: u32,
    recoveries: u32,
    /// `CLOCK_BOOTTIME` at which the first lease ends.
    lease_end_boot_ms: Option<i64>,
    /// The load as it was measured last.
    load: Option<Load>,
}

/// When the next beat is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Now.
    Now,
    /// When the ticker has something new.
    Sampled,
    /// After a pause, in which only a nudge counts; milliseconds.
    After(i64),
}

/// What a beat carries beside what is known already.
struct Gathered {
    load: Load,
    head: JournalHead,
    usage: Vec<SignedRecord>,
}

impl Sender {
    pub(super) fn new(shared: Shared, setup: Setup) -> anyhow::Result<Self> {
        Ok(Self {
            client: http::client(&setup.identity.url)?,
            instance_id: http::random_hex(16)?,
            shared,
            setup,
            seq: 0,
            failures: 0,
            recoveries: 0,
            lease_end_boot_ms: None,
            load: None,
        })
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let nudge = Arc::clone(&self.setup.nudge);
        let sampled = Arc::clone(&self.shared.sampled);
        let mut next = Next::Sampled;
        loop {
            let wait_ms = match next {
                Next::Now => 0,
                Next::Sampled => *self.setup.interval_ms.borrow() + OVERDUE_MS,
                Next::After(ms) => ms,
            };
            let due =
                Instant::now() + Duration::from_millis(u64::try_from(wait_ms).unwrap_or_default());
            let mut nudged = false;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = nudge.notified() => nudged = true,
                () = sampled.notified(), if next == Next::Sampled => {}
                () = sleep_until(due) => {}
            }
            next = tokio::select! {
                () = shutdown.cancelled() => return,
                next = Box::pin(self.beat(nudged)) => next,
            };
        }
    }

    /// One beat. Who nudges waits for it: then the load as last measured will do.
    async fn beat(&mut self, nudged: bool) -> Next {
        if !nudged {
            self.load = None;
        }
        let next = match Box::pin(self.exchange()).await {
            Ok(more) => {
                self.failures = 0;
                self.recoveries = 0;
                contact::connected(
                    &self.setup.contact,
                    &self.setup.identity,
                    self.shared.clock.now(),
                );
                if more { Next::Now } else { Next::Sampled }
            }
            Err(error) => self.failed(&error),
        };
        self.write_status().await;
        next
    }

    /// One request and its answer; returns whether the next one is wanted at once.
    async fn exchange(&mut self) -> Result<bool, RequestError> {
        let local = |error: anyhow::Error| RequestError::Unreachable(format!("{error:#}"));
        let gathered = self.gather().await.map_err(local)?;
        self.load = Some(gathered.load.clone());
        let beat = self.compose(gathered);
        let body = serde_json::to_vec(&beat).map_err(|error| {
            RequestError::Unreachable(format!("a beat can't be written: {error}"))
        })?;
        if body.len() > HEARTBEAT_BYTES_MAX {
            return Err(RequestError::Unreachable(format!(
                "a beat of {} bytes is larger than the {HEARTBEAT_BYTES_MAX} that the protocol allows",
                body.len()
            )));
        }
        let identity = &self.setup.identity;
        let request = Request {
            method: "POST",
            target_uri: &identity.public_url.heartbeat(identity.node_id),
            body: Some(&body),
        };
        let created_s = self.server_now_s();
        let headers = http::signature_headers(identity, &request, created_s).map_err(local)?;
        let response = self
            .client
            .post(identity.url.heartbeat(identity.node_id))
            .headers(headers)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(|error| http::unreachable(&error))?;
        let answer = http::answer(response, reply::REPLY_BYTES_MAX).await;
        let received_boot_ms = self.shared.clock.boot_ms();
        let sent_boot_ms = beat.sent_boot_ms;
        match answer {
            Ok(body) => {
                let reply = reply::parse(&body).map_err(RequestError::BadAnswer)?;
                self.take(reply, sent_boot_ms, received_boot_ms).await
            }
            Err(error) => {
                if let RequestError::Refused {
                    recover: Some(recover),
                    ..
                } = &error
                {
                    self.learn(recover, sent_boot_ms, received_boot_ms)?;
                }
                Err(error)
            }
        }
    }

    /// Reads the journal and, if it isn't known, the machine's load, off the async threads.
    async fn gather(&mut self) -> anyhow::Result<Gathered> {
        let meter = Arc::clone(&self.shared.meter);
        let prober = Arc::clone(&self.setup.prober);
        let inventory = self.setup.inventory.borrow().clone();
        let load = self.load.take();
        tokio::task::spawn_blocking(move || {
            let (head, usage) = {
                let meter = lock(&meter);
                let journal = meter.journal();
                (journal.head(), journal.unacked(BACKLOG_BYTES_MAX)?)
            };
            let load = load.unwrap_or_else(|| lock(&prober).load(&inventory));
            Ok(Gathered { load, head, usage })
        })
        .await?
    }

    /// The whole truth, as of now.
    fn compose(&mut self, gathered: Gathered) -> Beat {
        let live = self.shared.rentals.live();
        let observed = live
            .borrow()
            .iter()
            .map(|rental| rental.observed.clone())
            .collect();
        let sent_wall = self.shared.clock.now();
        // from the wall clock, so that it grows over restarts without being stored
        self.seq = (self.seq + 1).max(sent_wall.as_micros());
        Beat {
            node_id: self.setup.identity.node_id,
            instance_id: self.instance_id.clone(),
            seq: self.seq,
            beacon: self.setup.beacon.borrow().clone(),
            boot_id: self.setup.boot_id.clone(),
            sent_wall,
            sent_boot_ms: self.shared.clock.boot_ms(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            inventory: self.inventory(),
            load: gathered.load,
            generation: self.shared.rentals.generation(),
            observed,
            journal_head: gathered.head,
            usage: gathered.usage,
        }
    }

    /// What the machine has, its GPUs as the ticker saw them last.
    fn inventory(&self) -> Inventory {
        let mut inventory = self.setup.inventory.borrow().as_ref().clone();
        let gpus = self.shared.gpus.borrow();
        for known in &mut inventory.gpus {
            if let Some((gpu, _)) = gpus.iter().find(|(gpu, _)| gpu.uuid == known.uuid) {
                known.health = gpu.health.clone();
            }
        }
        inventory
    }

    /// Takes a good answer; returns whether the next beat is wanted at once.
    async fn take(
        &mut self,
        reply: Reply,
        sent_boot_ms: i64,
        received_boot_ms: i64,
    ) -> Result<bool, RequestError> {
        let clock = ServerClock::learned(reply.server_time, sent_boot_ms, received_boot_ms);
        self.setup.server_clock.send_replace(clock);
        self.setup.beacon.send_replace(reply.beacon.clone());
        let interval_ms = reply::interval_ms(&reply);
        self.setup
            .interval_ms
            .send_if_modified(|now| std::mem::replace(now, interval_ms) != interval_ms);
        let first_end = reply.leases.iter().map(|lease| lease.lease_ms).min();
        self.lease_end_boot_ms = first_end.map(|lease_ms| sent_boot_ms.saturating_add(lease_ms));
        // first: the wish may start a pull at once
        self.shared.rentals.take_secrets(reply.pull_secrets);
        self.shared
            .rentals
            .apply(reply.desired, reply.leases, sent_boot_ms)
            .await
            .map_err(|error| {
                RequestError::BadAnswer(format!("the desired state can't be kept: {error:#}"))
            })?;
        // after the wish: a paid rental waits for that, and for this nobody
        let progress = match reply.ack {
            Some(ack) => self.acknowledge(ack).await,
            None => false,
        };
        // `more` without progress would be a busy loop
        Ok(reply.more && progress)
    }

    /// Takes the receipt; a wrong one is logged, and the records are sent again.
    async fn acknowledge(&self, ack: Ack) -> bool {
        let taken = self
            .shared
            .with_meter(move |meter| meter.journal_mut().acknowledge(&ack))
            .await;
        match taken {
            Ok(Ok(progress)) => progress,
            Ok(Err(error @ JournalError::RolledBack { .. })) => {
                // the next pass fails with the same text, which is logged once there
                tracing::debug!(%error, "the journal is behind its receipt");
                false
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a receipt for usage records is refused");
                false
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "a receipt can't be taken");
                false
            }
        }
    }

    /// Takes from a refusal what an honest agent needs.
    fn learn(
        &self,
        recover: &Recover,
        sent_boot_ms: i64,
        received_boot_ms: i64,
    ) -> Result<(), RequestError> {
        reply::check_recover(recover).map_err(RequestError::BadAnswer)?;
        let clock = ServerClock::learned(recover.server_time, sent_boot_ms, received_boot_ms);
        self.setup.server_clock.send_replace(clock);
        self.setup.beacon.send_replace(recover.beacon.clone());
        Ok(())
    }

    fn failed(&mut self, error: &RequestError) -> Next {
        let (recoverable, asked_ms) = match error {
            RequestError::Refused {
                recover,
                retry_after_s,
                ..
            } => (
                recover.is_some(),
                retry_after_s.map(|seconds| seconds.saturating_mul(1_000)),
            ),
            _ => (false, None),
        };
        if recoverable && self.recoveries < RECOVERIES_MAX {
            self.recoveries += 1;
            tracing::debug!(code = error.code(), "beat again with what the refusal said");
            return Next::Now;
        }
        self.recoveries = 0;
        self.failures = self.failures.saturating_add(1);
        contact::lost(&self.setup.contact, error, self.shared.clock.now());
        let now = self.shared.clock.boot_ms();
        let left = self.lease_end_boot_ms.map(|end| end - now);
        let random = random_u32(now);
        Next::After(backoff::delay_ms(self.failures, random, left, asked_ms))
    }

    fn server_now_s(&self) -> i64 {
        let clock = *self.setup.server_clock.borrow();
        clock.now(self.shared.clock.as_ref()).as_secs()
    }

    async fn write_status(&self) {
        let Some(path) = self.setup.status_file.clone() else {
            return;
        };
        let contact = self.setup.contact.borrow().clone();
        let live = self.shared.rentals.live().borrow().clone();
        let fault = self.shared.metering_fault.borrow().clone();
        let node_id = self.setup.identity.node_id;
        let url = self.setup.identity.url.as_str().to_owned();
        let now = self.shared.clock.now();
        let written = self
            .shared
            .with_meter(move |meter| {
                let journal = meter.journal();
                Status::new(node_id, url, now, &contact, fault, journal, &live).write(&path)
            })
            .await;
        if let Err(error) | Ok(Err(error)) = written {
            tracing::debug!(error = format!("{error:#}"), "the status can't be written");
        }
    }
}

/// Any number: jitter needs no secrets. Falls back to the clock where the system has none.
fn random_u32(fallback: i64) -> u32 {
    http::random_hex(4)
        .ok()
        .and_then(|hex| u32::from_str_radix(&hex, 16).ok())
        .unwrap_or_else(|| u32::try_from(fallback & 0xffff).unwrap_or_default())
}
