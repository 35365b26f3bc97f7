//! The courier: gives each endpoint that has something due its turn, sends, and writes down what came of it.
//!
//! # Invariants
//! - Nothing is sent inside a transaction; a turn is leased, so one coordinator at a time sends to an endpoint. Whoever dies in a turn is
//!   followed by another after the lease: what was sent and not written down is sent again, under the same `webhook-id`.
//! - An endpoint that fails gets one attempt a turn and rests between turns: it costs the others nothing, however much waits for it.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use http::{HeaderMap, HeaderValue, Method, header};
use shared::{
    clock::Clock,
    id::{Ids, WebhookId},
    time::Timestamp,
};

use super::{
    disable, live_secrets,
    model::{ANSWER_BYTES_MAX, Attempt, Delivery, DisabledReason, State, Webhook, rest_ms},
    signature::{SigningSecret, sign},
    store,
};
use crate::{
    context::{Actor, OpCtx},
    error::{Error, Result},
    keys::Sealer,
    outbound::{Outbound, OutboundAnswer, OutboundRequest},
    store::{Db, Tx},
};

/// Endpoints that are sent to at the same time.
const TURNS_AT_ONCE: usize = 16;
/// Turns of one run; what is due then is the next run's.
const TURNS_MAX: usize = 256;
/// Deliveries of one turn, and how many of them at the same time.
const DELIVERIES_PER_TURN: i64 = 16;
const DELIVERIES_AT_ONCE: usize = 4;
/// A turn is over by then: four rounds of five seconds, and the database.
const LEASE_MS: i64 = 60_000;
/// While turns are under way, who else is due is looked up so often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Sends.
#[derive(Debug)]
pub struct Courier {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<Ids>,
    /// How it calls.
    pub outbound: Arc<Outbound>,
    /// Opens secrets.
    pub sealer: Arc<Sealer>,
    /// An endpoint that fails for so long is switched off, milliseconds.
    pub disable_after_ms: i64,
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Turns taken.
    pub turns: usize,
    /// Attempts that were taken.
    pub delivered: usize,
    /// Attempts that weren't.
    pub failed: usize,
    /// Whether more was due when it ended.
    pub more: bool,
}

/// What is to be done in a turn.
#[derive(Debug, Clone)]
struct Turn {
    webhook: Webhook,
    deliveries: Vec<Delivery>,
    secrets: Vec<SigningSecret>,
    until: Timestamp,
}

impl Courier {
    /// Sends what is due, until nothing is.
    ///
    /// # Errors
    /// The database's; what was sent and not written down is sent again.
    pub async fn run(&self) -> Result<Sent> {
        let mut sent = Sent::default();
        let mut turns = FuturesUnordered::new();
        loop {
            let room = TURNS_AT_ONCE
                .saturating_sub(turns.len())
                .min(TURNS_MAX.saturating_sub(sent.turns));
            let due = self.due(room).await?;
            for id in due {
                if let Some(turn) = self.begin(id).await? {
                    sent.turns += 1;
                    turns.push(self.turn(turn));
                }
            }
            // another may become due while these take their time
            match tokio::time::timeout(LOOK_AGAIN, turns.next()).await {
                Ok(Some(outcome)) => {
                    let (delivered, failed) = outcome?;
                    sent.delivered += delivered;
                    sent.failed += failed;
                }
                Ok(None) => {
                    sent.more = sent.turns >= TURNS_MAX;
                    return Ok(sent);
                }
                Err(_) => {}
            }
        }
    }

    fn context(&self) -> OpCtx {
        let name = "task-webhook_courier".to_owned();
        OpCtx::new(Actor::System, self.clock.now(), name, Arc::clone(&self.ids))
    }

    async fn due(&self, room: usize) -> Result<Vec<WebhookId>> {
        if room == 0 {
            return Ok(Vec::new());
        }
        let (now, limit) = (
            self.clock.now(),
            i64::try_from(room).map_err(Error::internal)?,
        );
        self.db
            .read("webhook.due", move |tx| store::due(tx, now, limit))
            .await
    }

    /// Leases an endpoint's turn and loads what is to be sent; nothing if somebody else was first.
    async fn begin(&self, id: WebhookId) -> Result<Option<Turn>> {
        let (now, sealer) = (self.clock.now(), Arc::clone(&self.sealer));
        let until = now.plus_ms(LEASE_MS);
        self.db
            .write("webhook.begin", move |tx| {
                if !store::lease(tx, id, now, until)? {
                    return Ok(None);
                }
                let webhook = store::find(tx, id)?.ok_or_else(|| Error::not_found("webhook"))?;
                let deliveries = store::deliveries::due(tx, id, now, DELIVERIES_PER_TURN)?;
                let secrets = live_secrets(tx, id, now, &sealer)?;
                Ok(Some(Turn {
                    webhook,
                    deliveries,
                    secrets,
                    until,
                }))
            })
            .await
    }

    /// Sends in small rounds until one brings nothing but failures; returns how many were taken and how many not.
    async fn turn(&self, turn: Turn) -> Result<(usize, usize)> {
        let (mut delivered, mut failed) = (0, 0);
        let mut rest = &turn.deliveries[..];
        // one attempt shows whether an endpoint that failed is back
        let mut at_once = if turn.webhook.failures > 0 {
            1
        } else {
            DELIVERIES_AT_ONCE
        };
        while !rest.is_empty() {
            let (round, later) = rest.split_at(at_once.min(rest.len()));
            let outcomes =
                join_all(round.iter().map(|delivery| self.attempt(&turn, delivery))).await;
            let mut arrived = 0;
            for outcome in outcomes {
                arrived += usize::from(outcome?);
            }
            delivered += arrived;
            failed += round.len() - arrived;
            if arrived == 0 {
                break;
            }
            (rest, at_once) = (later, DELIVERIES_AT_ONCE);
        }
        let (id, until, now) = (turn.webhook.id, turn.until, self.clock.now());
        self.db
            .write("webhook.rest", move |tx| end_turn(tx, id, until, now))
            .await?;
        Ok((delivered, failed))
    }

    /// Sends one delivery and writes down what came of it; returns whether it was taken.
    async fn attempt(&self, turn: &Turn, delivery: &Delivery) -> Result<bool> {
        let (at, started_ms) = (self.clock.now(), self.clock.boot_ms());
        let outcome = match request(&turn.webhook, delivery, &turn.secrets, at) {
            Ok(request) => self
                .outbound
                .send(request)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut attempt = match outcome {
            Ok(answer) => answered(&answer),
            Err(why) => unanswered(&why),
        };
        attempt.at = self.clock.now();
        attempt.took_ms = self.clock.boot_ms().saturating_sub(started_ms);
        let arrived = attempt.arrived();
        let outcome = if arrived { "delivered" } else { "failed" };
        metrics::counter!("webhook_attempts_total", "outcome" => outcome).increment(1);
        let (ctx, delivery, disable_after_ms) =
            (self.context(), delivery.clone(), self.disable_after_ms);
        self.db
            .write("webhook.attempted", move |tx| {
                record(tx, &ctx, &delivery, &attempt, disable_after_ms)
            })
            .await?;
        Ok(arrived)
    }
}

fn request(
    webhook: &Webhook,
    delivery: &Delivery,
    secrets: &[SigningSecret],
    at: Timestamp,
) -> Result<OutboundRequest> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(Error::internal);
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert("webhook-id", value(&delivery.event.to_string())?);
    headers.insert("webhook-timestamp", value(&at.as_secs().to_string())?);
    headers.insert(
        "webhook-signature",
        value(&sign(secrets, delivery.event, at, &delivery.body))?,
    );
    Ok(OutboundRequest {
        method: Method::POST,
        url: webhook.url.clone(),
        headers,
        body: delivery.body.clone().into(),
    })
}

fn answered(answer: &OutboundAnswer) -> Attempt {
    let retry_after = answer
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    Attempt {
        at: Timestamp::from_micros(0),
        took_ms: 0,
        status: Some(answer.status.as_u16()),
        answer: text_of(&answer.body),
        retry_after_s: retry_after.and_then(|seconds| seconds.trim().parse().ok()),
    }
}

fn unanswered(why: &str) -> Attempt {
    Attempt {
        at: Timestamp::from_micros(0),
        took_ms: 0,
        status: None,
        answer: text_of(why.as_bytes()),
        retry_after_s: None,
    }
}

/// The beginning of what was answered, as text that a database can hold.
fn text_of(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(ANSWER_BYTES_MAX)];
    String::from_utf8_lossy(kept).replace('\0', "\u{fffd}")
}

/// Writes down an attempt, what it says about the endpoint's health, and switches the endpoint off when that says so.
fn record(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    delivery: &Delivery,
    attempt: &Attempt,
    disable_after_ms: i64,
) -> Result<()> {
    if !store::deliveries::attempted(tx, delivery, attempt, attempt.outcome(delivery))? {
        return Ok(());
    }
    let webhook = store::find(tx, delivery.webhook)?.ok_or_else(|| Error::not_found("webhook"))?;
    if attempt.arrived() {
        if webhook.failures > 0 {
            store::save_health(
                tx,
                &Webhook {
                    failing_since: None,
                    failures: 0,
                    ..webhook
                },
            )?;
        }
        return Ok(());
    }
    let failing_since = webhook.failing_since.unwrap_or(attempt.at);
    let failing = Webhook {
        failing_since: Some(failing_since),
        failures: webhook.failures.saturating_add(1),
        ..webhook
    };
    let reason = if attempt.is_gone() {
        Some(DisabledReason::Gone)
    } else if attempt.at.ms_since(failing_since) >= disable_after_ms {
        Some(DisabledReason::Failing)
    } else {
        None
    };
    match reason {
        Some(reason) if failing.state == State::Active => disable(tx, ctx, &failing, reason),
        _ => store::save_health(tx, &failing),
    }
}

/// Ends a turn: the endpoint is due again when its next delivery is, after its rest if it fails.
fn end_turn(tx: &mut dyn Tx, id: WebhookId, until: Timestamp, now: Timestamp) -> Result<()> {
    // the lock comes first: what is handed out from here on wakes the endpoint after us
    if !store::lock_leased(tx, id, until)? {
        return Ok(());
    }
    let Some(webhook) = store::find(tx, id)? else {
        return Ok(());
    };
    let earliest = match webhook.failures {
        0 => now,
        failures => now.plus_ms(rest_ms(failures)),
    };
    let due = store::deliveries::next_due(tx, id)?.map(|due| due.max(earliest));
    store::rest(tx, id, due)
}
