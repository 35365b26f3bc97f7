//! One admitted beat: what it changes and what is answered.
//!
//! # Invariants
//! - All that a beat changes is one transaction; a beat that changes nothing only reads.
//! - Evidence is taken in before reports are folded, so that an end that is reported is covered by the beat that reports it.

use std::sync::Arc;

use ring::digest;
use shared::{
    id::{Ids, NodeId},
    journal::{Ack, Hash},
    sign::{PublicKey, SigningKey},
    time::Timestamp,
    wire::{
        heartbeat::{Beat, Reply},
        observed::{ObservedRental, Phase},
    },
};

use super::{AgentLink, presence::Written};
use crate::{
    context::OpCtx,
    domain::{
        metering::{self, Evidence, Taken},
        nodes::{
            self,
            model::{Availability, Node},
        },
        rentals::{
            self, Rules,
            desired::desired,
            model::Rental,
            observe::{Reception, observe},
        },
    },
    error::{Error, Result},
    keys::Sealer,
    store::Tx,
};

/// A beat that was admitted.
#[derive(Debug)]
pub struct Admitted {
    /// Whose.
    pub node: NodeId,
    /// The node's key, with which it was signed.
    pub key: PublicKey,
    /// What it says.
    pub beat: Beat,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// What a beat's transaction found.
#[derive(Debug, Clone)]
struct Outcome {
    reply: Reply,
    ended: bool,
}

/// What the transaction needs besides the beat.
#[derive(Clone)]
struct Means {
    rules: Rules,
    gap_ms: i64,
    ids: Arc<Ids>,
    ack_key: Arc<SigningKey>,
    specs: Arc<Sealer>,
    beacon: String,
    beat_interval_ms: i64,
    before: Option<Written>,
    now_written: Written,
    clock_offset_us: i64,
}

impl AgentLink {
    /// Applies an admitted beat; returns the reply and whether a rental ended by it.
    ///
    /// # Errors
    /// 409 for a journal that doesn't continue (noted as a flag); the database's.
    pub async fn apply(&self, admitted: Arc<Admitted>) -> Result<(Reply, bool)> {
        let written = Written {
            facts_sha256: facts_sha256(&admitted.beat)?,
            availability: Availability::Online,
        };
        let means = Means {
            rules: self.rules,
            gap_ms: self.rhythm.coverage_gap_ms,
            ids: Arc::clone(&self.ids),
            ack_key: Arc::clone(&self.ack_key),
            specs: Arc::clone(&self.specs),
            beacon: self.beacons.issue(admitted.node, admitted.received_at),
            beat_interval_ms: self.rhythm.beat_interval_ms,
            before: self.presence.written(admitted.node),
            now_written: written.clone(),
            clock_offset_us: self.presence.clock_offset_us(
                admitted.node,
                &admitted.beat,
                admitted.received_at,
            ),
        };
        let quiet = means.before.as_ref() == Some(&written)
            && admitted.beat.usage.is_empty()
            && admitted.beat.observed.is_empty();
        let outcome = if quiet {
            self.quiet(&admitted, &means).await?
        } else {
            None
        };
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => self.news(&admitted, means).await?,
        };
        self.presence.note_written(admitted.node, written);
        Ok((outcome.reply, outcome.ended))
    }

    /// A beat that says nothing new of a node on which nothing lives: only read. `None` if something lives there after all.
    async fn quiet(&self, admitted: &Arc<Admitted>, means: &Means) -> Result<Option<Outcome>> {
        let (admitted, means) = (Arc::clone(admitted), means.clone());
        self.db
            .read("beat.quiet", move |tx| {
                if !rentals::of_node(tx, admitted.node)?.is_empty() {
                    return Ok(None);
                }
                let node = nodes::get(tx, admitted.node)?;
                if node.availability != Availability::Online {
                    // a coordinator that doesn't hear this node took it for gone
                    return Ok(None);
                }
                let head = metering::head(tx, admitted.node)?;
                let claimed = admitted.beat.journal_head;
                let known = head
                    .as_ref()
                    .map_or((0, Hash::GENESIS), |head| (head.seq, head.hash));
                if known != (claimed.seq, claimed.hash) {
                    return Ok(None);
                }
                let taken = head.map(|head| Taken {
                    heard_before: Some(head.received_at),
                    head,
                    more: false,
                    faults: Vec::new(),
                });
                reply(tx, &admitted, &means, &node, taken.as_ref()).map(|reply| {
                    Some(Outcome {
                        reply,
                        ended: false,
                    })
                })
            })
            .await
    }

    async fn news(&self, admitted: &Arc<Admitted>, means: Means) -> Result<Outcome> {
        let body = {
            let admitted = Arc::clone(admitted);
            move |tx: &mut dyn Tx| apply(tx, &admitted, &means)
        };
        let outcome = self.db.write("beat.news", body).await;
        if let Err(error) = &outcome {
            self.note_fraud(admitted, error).await;
        }
        outcome
    }

    /// A journal that forks is proof of fraud, or of two machines with one key: it is noted even though the beat is refused.
    async fn note_fraud(&self, admitted: &Admitted, error: &Error) {
        use shared::wire::problem::agent_codes::{JOURNAL_FORKED, JOURNAL_GAP};
        if ![JOURNAL_FORKED, JOURNAL_GAP].contains(&error.code()) {
            return;
        }
        self.flag(
            admitted.node,
            error.code(),
            error.detail(),
            admitted.received_at,
        )
        .await;
    }

    /// Notes that a node did what an honest one doesn't; failing to is logged.
    pub async fn flag(&self, node: NodeId, code: &'static str, detail: &str, now: Timestamp) {
        let (ctx, text) = (self.context(node, now), detail.to_owned());
        let noted = self
            .db
            .write("beat.flag", move |tx| {
                let node = nodes::get(tx, node)?;
                nodes::flag(tx, &ctx, &node, code, &text)
            })
            .await;
        if let Err(error) = noted {
            tracing::error!(node.id = %node, code, %error, "node flag could not be written");
        }
    }
}

fn facts_sha256(beat: &Beat) -> Result<[u8; 32]> {
    let mut text = serde_json::to_vec(&beat.inventory).map_err(Error::internal)?;
    text.extend_from_slice(beat.agent_version.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, &text).as_ref());
    Ok(hash)
}

fn apply(tx: &mut dyn Tx, admitted: &Admitted, means: &Means) -> Result<Outcome> {
    let beat = &admitted.beat;
    let ctx = OpCtx::new(
        crate::context::Actor::Node(admitted.node),
        admitted.received_at,
        format!("beat-{}-{}", admitted.node, beat.seq),
        Arc::clone(&means.ids),
    );
    let node = nodes::get(tx, admitted.node)?;
    let facts_changed = means
        .before
        .as_ref()
        .is_none_or(|old| old.facts_sha256 != means.now_written.facts_sha256);
    if facts_changed
        && (node.inventory != beat.inventory || node.agent_version != beat.agent_version)
    {
        nodes::observe_inventory(tx, &ctx, &node, &beat.inventory, &beat.agent_version)?;
    }
    if node.availability != Availability::Online {
        nodes::observe_availability(tx, &ctx, node.id, Availability::Online)?;
    }
    let taken = metering::ingest(
        tx,
        node.id,
        &admitted.key,
        &evidence(admitted),
        means.gap_ms,
    )?;
    let ended = fold(tx, &ctx, admitted, means, &taken)?;
    // the generation may have moved with what was folded
    let node = nodes::get(tx, admitted.node)?;
    let reply = reply(tx, admitted, means, &node, Some(&taken))?;
    Ok(Outcome { reply, ended })
}

fn evidence(admitted: &Admitted) -> Evidence {
    let beat = &admitted.beat;
    Evidence {
        boot_id: beat.boot_id.clone(),
        boot_ms: beat.sent_boot_ms,
        received_at: admitted.received_at,
        records: beat.usage.clone(),
        journal_head: beat.journal_head,
        claims_running: beat
            .observed
            .iter()
            .any(|seen| seen.phase == Phase::Running),
    }
}

fn fold(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    admitted: &Admitted,
    means: &Means,
    taken: &Taken,
) -> Result<bool> {
    let beat = &admitted.beat;
    let reception = Reception {
        received_at: admitted.received_at,
        clock_offset_us: means.clock_offset_us,
        heard_before: taken.heard_before,
    };
    let mut ended = false;
    for rental in rentals::of_node(tx, admitted.node)? {
        if let Some(seen) = beat
            .observed
            .iter()
            .find(|seen| seen.rental_id == rental.id)
        {
            let fault = taken.faults.iter().find(|(id, _)| *id == rental.id);
            let rental = match fault {
                Some((_, begun)) => rentals::changes::tell_fault(tx, ctx, rental, *begun)?,
                None => rental,
            };
            let seen = with_end_of_evidence(tx, &rental, seen)?;
            ended |= observe(tx, ctx, &means.rules, &rental, &seen, reception)?;
        }
    }
    Ok(ended)
}

/// A container that is gone without a trace has no `FinishedAt`: it ran at most until the journal last spoke of it.
fn with_end_of_evidence(
    tx: &mut dyn Tx,
    rental: &Rental,
    seen: &ObservedRental,
) -> Result<ObservedRental> {
    let mut seen = seen.clone();
    let lost = matches!(seen.phase, Phase::Failed { .. }) && rental.started_at.is_some();
    if lost && seen.finished_at.is_none() && rental.finished_at.is_none() {
        seen.finished_at = metering::last_spoken_of(tx, rental.node_id, rental.id)?;
    }
    Ok(seen)
}

fn reply(
    tx: &mut dyn Tx,
    admitted: &Admitted,
    means: &Means,
    node: &Node,
    taken: Option<&Taken>,
) -> Result<Reply> {
    let live = rentals::of_node(tx, admitted.node)?;
    let told = desired(node.generation, &live, admitted.received_at, &means.specs)?;
    let ack = taken.filter(|taken| taken.head.seq > 0).map(|taken| {
        let (seq, hash, received_at) = (taken.head.seq, taken.head.hash, admitted.received_at);
        let bytes = Ack::canonical(admitted.node, seq, &hash, received_at);
        let signature = means.ack_key.sign(shared::journal::ACK_DOMAIN, &bytes);
        Ack {
            seq,
            hash,
            received_at,
            signature,
        }
    });
    Ok(Reply {
        desired: told.desired,
        leases: told.leases,
        pull_secrets: told.pull_secrets,
        ack,
        beacon: means.beacon.clone(),
        more: taken.is_some_and(|taken| taken.more),
        server_time: admitted.received_at,
        beat_interval_ms: means.beat_interval_ms,
    })
}
