//! The link to agents: one heartbeat touches nodes, rentals and metering, so it is composed here, above them.
//!
//! [`admission`] decides whether a request is an honest node's, [`ingest`] takes queued beats and commits them together,
//! [`beat`] is one beat's transaction, [`presence`] and [`beacon`] are what memory and keys hold, [`nudger`] wakes agents.
//!
//! # Invariants
//! - A refused beat changes nothing, but for the note that a node did what an honest one doesn't.
//! - A beat that changes nothing writes nothing.
//! - What a reply acknowledges is durable.

pub mod admission;
pub mod api;
pub mod beacon;
pub mod beat;
pub mod ingest;
pub mod nudger;
pub mod presence;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use shared::{
    clock::Clock,
    id::{Ids, NodeId},
    sign::SigningKey,
    time::Timestamp,
};

use self::{beacon::Beacons, nudger::Nudger, presence::Presence};
use super::{
    nodes::{self, model::Patience},
    rentals::Rules,
};
use crate::{
    context::{Actor, OpCtx},
    error::Result,
    keys::Sealer,
    store::Db,
};

/// The rhythm of beats and what silence means.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// A node beats so often.
    pub beat_interval_ms: i64,
    /// What silence means.
    pub patience: Patience,
    /// Of a gap in which a node couldn't reach us, so much is billed.
    pub coverage_gap_ms: i64,
}

/// Everything that the link needs.
#[derive(Debug)]
pub struct AgentLink {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<Ids>,
    /// Who is there.
    pub presence: Presence,
    /// Proofs of youth.
    pub beacons: Beacons,
    /// Open links.
    pub nudger: Arc<Nudger>,
    /// The market's rules.
    pub rules: Rules,
    /// The rhythm.
    pub rhythm: Rhythm,
    /// Signs acknowledgements.
    pub ack_key: Arc<SigningKey>,
    /// Opens what rentals run.
    pub specs: Arc<Sealer>,
    /// Without a slash at its end: signatures are over URLs that begin with it.
    pub public_url: String,
    /// Beats that wait.
    pub queue: ingest::Queue,
}

impl AgentLink {
    /// A context for a node, at `now`.
    #[must_use]
    pub fn context(&self, node: NodeId, now: Timestamp) -> OpCtx {
        OpCtx::new(
            Actor::Node(node),
            now,
            format!("beat-{node}"),
            Arc::clone(&self.ids),
        )
    }

    /// Writes what the silence of nodes means, for all of them; returns how many changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn judge_silence(&self, ctx: &OpCtx) -> Result<usize> {
        let mut after = String::new();
        let mut changed = 0;
        loop {
            let cursor = after.clone();
            let members = self
                .db
                .read("liveness.members", move |tx| {
                    nodes::members(tx, &cursor, 1_000)
                })
                .await?;
            let Some((last, _)) = members.last() else {
                return Ok(changed);
            };
            after = last.to_string();
            for (node, written) in members {
                let (silent_ms, heard) = self.presence.silence(node, ctx.now);
                let now_is = nodes::model::availability(silent_ms, heard, self.rhythm.patience);
                if now_is == written {
                    continue;
                }
                let ctx = ctx.clone();
                let news = move |tx: &mut dyn crate::store::Tx| {
                    nodes::observe_availability(tx, &ctx, node, now_is)
                };
                self.db.write("liveness.judge", news).await?;
                self.presence.note_availability(node, now_is);
                changed += 1;
            }
        }
    }
}
