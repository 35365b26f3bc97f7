//! The parts of an archive: what the market keeps, and what the rental's node keeps.
//!
//! # Invariants
//! - Each part is bounded in size and time; where a bound cuts it, it says so.
//! - A failure of the node costs its part and nothing else; one of our own database, all of it.

use std::{fs::File, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shared::{
    id::{NodeId, RentalId},
    journal::BUNDLE_FORMAT,
    link::{
        lines::Lines,
        open::{Entry, LogsQuery, Open},
    },
    time::Timestamp,
};
use tokio::time::{Instant, timeout_at};

use super::{no_room, spool::Spool};
use crate::{
    app::App,
    context::OpCtx,
    domain::{
        events, metering, nodes,
        rentals::{self, api::view::view},
        settlement,
    },
    error::{Error, Kind, Result},
};

const LOGS_BYTES_MAX: u64 = 64 << 20;
const SAMPLES_BYTES_MAX: u64 = 16 << 20;
const EVENTS_BYTES_MAX: u64 = 16 << 20;
/// What `ramarket receipts verify` reads is at most 256 MiB.
const RECEIPTS_BYTES_MAX: u64 = 128 << 20;
/// For what closes a document that was cut.
const TAIL_BYTES_MAX: u64 = 1 << 20;
/// Everything is gathered within this: a request takes at most 60 s, and the archive is yet to be made.
const GATHERED_WITHIN: Duration = Duration::from_secs(20);
/// Rows at once.
const PAGE: i64 = 500;

/// A part.
#[derive(Debug)]
pub(super) struct Part {
    /// Its file's name.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) what: &'static str,
    /// Its content and how long that is; `None` if there is none.
    pub(super) file: Option<(File, u64)>,
    /// What of it is missing, and why.
    pub(super) missing: Option<String>,
}

/// What is gathered, for whom.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) app: Arc<App>,
    pub(super) ctx: OpCtx,
    pub(super) rental: RentalId,
    pub(super) node: NodeId,
    /// Whether its node keeps nothing of it any more.
    pub(super) is_forgotten: bool,
}

impl Gathering {
    /// All parts.
    pub(super) async fn all(&self) -> Result<Vec<Part>> {
        let until = Instant::now() + GATHERED_WITHIN;
        let (logs, samples, events, receipts) = tokio::try_join!(
            self.logs(until),
            self.samples(until),
            self.events(until),
            self.receipts(until)
        )?;
        // it comes last: the bill then knows of every window
        Ok(vec![self.bill().await?, events, receipts, samples, logs])
    }

    async fn logs(&self, until: Instant) -> Result<Part> {
        let open = Open::Logs {
            rental_id: self.rental,
            query: LogsQuery::default(),
        };
        let part = self.lines::<Entry>(&open, LOGS_BYTES_MAX, until).await?;
        Ok(part.named(
            "logs.jsonl",
            "what it wrote: at, stream (stdout, stderr), line",
        ))
    }

    async fn samples(&self, until: Instant) -> Result<Part> {
        let open = Open::Metrics {
            rental_id: self.rental,
            follow: false,
        };
        let part = self.lines::<Value>(&open, SAMPLES_BYTES_MAX, until).await?;
        let what = "what it used, each 10 s of its last hour and each 5 min before that; counters begin with its container";
        Ok(part.named("metrics.jsonl", what))
    }

    /// Lines of the rental's node.
    async fn lines<T>(&self, open: &Open, limit: u64, until: Instant) -> Result<Part>
    where
        T: DeserializeOwned + Serialize,
    {
        let opened = timeout_at(until, self.app.gateway.open(self.rental, open)).await;
        let stream = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.not_had(error),
            Err(_) => return Ok(Part::without(AWAY)),
        };
        let mut lines = Lines::new(stream);
        let mut spool = self.spool(limit)?;
        let mut count = 0_u64;
        let missing = loop {
            let line = match timeout_at(until, lines.next::<T>()).await {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => break None,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a rental's node broke off");
                    break Some(format!(
                        "the connection to its node broke after {count} lines: ask again"
                    ));
                }
                Err(_) => {
                    break Some(format!(
                        "its node was too slow, and there are {count} lines: ask again"
                    ));
                }
            };
            if !push_line(&mut spool, &line).await? {
                break Some(format!(
                    "it is larger than an archive takes; the first {count} lines are here"
                ));
            }
            count += 1;
        };
        Part::of(spool, missing).await
    }

    /// Why there is nothing of the node's, where that isn't a failure of our own.
    fn not_had(&self, error: Error) -> Result<Part> {
        match (error.kind(), error.code()) {
            (Kind::Internal, _) => Err(error),
            (_, "node_unreachable") if self.is_forgotten => Ok(Part::without(
                "its node isn't connected; nodes keep this for 7 days after the end as a rule, and those are over",
            )),
            (_, "node_unreachable") => Ok(Part::without(AWAY)),
            (_, "rental_not_running") if self.is_forgotten => Ok(Part::without(
                "forgotten: nodes keep this for 7 days after the end as a rule",
            )),
            (_, "rental_not_running") => Ok(Part::without(
                "its node has none: the rental wrote or ran nothing, or its owner's space or time for it was used up",
            )),
            _ => Ok(Part::without(format!(
                "its node couldn't give it: {}",
                error.detail()
            ))),
        }
    }

    async fn events(&self, until: Instant) -> Result<Part> {
        let mut spool = self.spool(EVENTS_BYTES_MAX)?;
        let (mut after, id) = (0, self.rental);
        let missing = loop {
            let page = self
                .app
                .db
                .read("rental.events", move |tx| {
                    events::of_rental(tx, id, after, PAGE)
                })
                .await?;
            let Some(last) = page.last().map(|event| event.seq) else {
                break None;
            };
            after = last;
            let mut fits = true;
            for event in &page {
                fits = fits && push_line(&mut spool, event).await?;
            }
            if !fits || Instant::now() > until {
                break Some("the latest aren't here: they are at /events of the rental".to_owned());
            }
        };
        let part = Part::of(spool, missing).await?;
        Ok(part.named(
            "events.jsonl",
            "what happened to it, as the market's events",
        ))
    }

    /// The bundle that the client checks: rental, windows and records in one document.
    async fn receipts(&self, until: Instant) -> Result<Part> {
        let mut spool = self.spool(RECEIPTS_BYTES_MAX)?;
        let head = format!("{{\"format\":\"{BUNDLE_FORMAT}\",\"usage\":[");
        spool.push(head.as_bytes()).await.map_err(no_room)?;
        let mut whole = self.windows(&mut spool, until).await?;
        spool.allow(TAIL_BYTES_MAX);
        spool.push(b"],\"receipts\":[").await.map_err(no_room)?;
        whole = whole && self.records(&mut spool, until).await?;
        // the rental comes last, as of a rental that isn't settled yet the bill then knows every window
        let rental = serde_json::to_string(&self.view().await?).map_err(Error::internal)?;
        spool.allow(TAIL_BYTES_MAX);
        let tail = format!("],\"rental\":{rental}}}\n");
        spool.push(tail.as_bytes()).await.map_err(no_room)?;
        let missing = (!whole).then(|| {
            format!("there are more than an archive takes: all come by `ramarket receipts {} --output FILE`", self.rental)
        });
        let part = Part::of(spool, missing).await?;
        Ok(part.named(
            "receipts.json",
            "the bill, its windows, and the node's signed records behind it",
        ))
    }

    async fn windows(&self, spool: &mut Spool, until: Instant) -> Result<bool> {
        let (mut after, id) = (Timestamp::from_micros(i64::MIN), self.rental);
        let mut is_first = true;
        loop {
            let ctx = self.ctx.clone();
            let read = move |tx: &mut dyn crate::store::Tx| {
                let currency = rentals::find(tx, id)?.asset;
                Ok((currency, settlement::windows(tx, &ctx, id, after, PAGE)?))
            };
            let (currency, page) = self.app.db.read("settlement.windows", read).await?;
            let Some(last) = page.last().map(|window| window.span.start) else {
                return Ok(true);
            };
            after = last;
            for window in page {
                let shown = settlement::api::window(&window, currency);
                if !push_item(spool, &mut is_first, &shown).await? {
                    return Ok(false);
                }
            }
            if Instant::now() > until {
                return Ok(false);
            }
        }
    }

    async fn records(&self, spool: &mut Spool, until: Instant) -> Result<bool> {
        let (node, id) = (self.node, self.rental);
        let (mut after, mut is_first) = (0, true);
        loop {
            let read = move |tx: &mut dyn crate::store::Tx| {
                let key = nodes::get(tx, node)?.public_key;
                Ok((key, metering::records_of(tx, node, id, after, PAGE)?))
            };
            let (node_key, page) = self.app.db.read("settlement.receipts", read).await?;
            let Some(last) = page.last().map(|(signed, _)| signed.record.seq) else {
                return Ok(true);
            };
            after = last;
            for (record, received_at) in page {
                let shown = settlement::api::receipt(record, node_key, received_at);
                if !push_item(spool, &mut is_first, &shown).await? {
                    return Ok(false);
                }
            }
            if Instant::now() > until {
                return Ok(false);
            }
        }
    }

    async fn bill(&self) -> Result<Part> {
        let mut spool = self.spool(TAIL_BYTES_MAX)?;
        let mut text =
            serde_json::to_string_pretty(&self.view().await?).map_err(Error::internal)?;
        text.push('\n');
        let fits = spool.push(text.as_bytes()).await.map_err(no_room)?;
        let missing = (!fits).then(|| "it is too large".to_owned());
        let part = Part::of(spool, missing).await?;
        let what = "the rental: state, reason, phase (with the exit code, and whether memory ran out), times and money";
        Ok(part.named("rental.json", what))
    }

    async fn view(&self) -> Result<Value> {
        let id = self.rental;
        let find = move |tx: &mut dyn crate::store::Tx| rentals::find(tx, id);
        let rental = self.app.db.read("gateway.rental", find).await?;
        let view = view(&self.app, &rental, self.app.clock.now())?;
        serde_json::to_value(view).map_err(Error::internal)
    }

    fn spool(&self, limit: u64) -> Result<Spool> {
        Spool::new(&self.app.config.data_dir, limit).map_err(no_room)
    }
}

const AWAY: &str = "its node isn't connected at this moment: ask again within 7 days of the end";

impl Part {
    async fn of(spool: Spool, missing: Option<String>) -> Result<Self> {
        let file = spool.done().await.map_err(no_room)?;
        Ok(Self {
            name: "",
            what: "",
            file: Some(file),
            missing,
        })
    }

    fn without(why: impl Into<String>) -> Self {
        Self {
            name: "",
            what: "",
            file: None,
            missing: Some(why.into()),
        }
    }

    fn named(self, name: &'static str, what: &'static str) -> Self {
        Self { name, what, ..self }
    }
}

async fn push_line<T: Serialize>(spool: &mut Spool, line: &T) -> Result<bool> {
    let mut bytes = serde_json::to_vec(line).map_err(Error::internal)?;
    bytes.push(b'\n');
    spool.push(&bytes).await.map_err(no_room)
}

async fn push_item<T: Serialize>(spool: &mut Spool, is_first: &mut bool, item: &T) -> Result<bool> {
    let mut bytes = Vec::new();
    if !std::mem::take(is_first) {
        bytes.push(b',');
    }
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, item).map_err(Error::internal)?;
    spool.push(&bytes).await.map_err(no_room)
}
