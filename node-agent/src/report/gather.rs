//! What a beat carries beside what is known already: the journal's end and backlog, and how busy the machine is.
//!
//! # Invariants
//! - It is read off the async threads, and it only looks.

use std::sync::{Arc, Mutex};

use shared::{
    journal::SignedRecord,
    resources::{Inventory, Load, OomKills},
    wire::{BACKLOG_BYTES_MAX, heartbeat::JournalHead},
};

use super::{Shared, lock};
use crate::{measure::InUse, probe::Prober};

/// What was read.
pub(super) struct Gathered {
    pub(super) load: Load,
    pub(super) head: JournalHead,
    pub(super) usage: Vec<SignedRecord>,
}

/// Reads the journal and, if it isn't `known`, the machine's load.
pub(super) async fn gather(
    shared: &Shared,
    prober: &Arc<Mutex<Prober>>,
    inventory: Arc<Inventory>,
    known: Option<Load>,
) -> anyhow::Result<Gathered> {
    let (meter, prober) = (Arc::clone(&shared.meter), Arc::clone(prober));
    tokio::task::spawn_blocking(move || {
        let (head, usage, in_use) = {
            let mut meter = lock(&meter);
            let in_use = meter.look();
            let journal = meter.journal();
            (journal.head(), journal.unacked(BACKLOG_BYTES_MAX)?, in_use)
        };
        let mut load = known.unwrap_or_else(|| lock(&prober).load(&inventory));
        load.oom_kills = oom_kills(&in_use);
        load.asks_standing = true;
        Ok(Gathered { load, head, usage })
    })
    .await?
}

/// Rentals of which something was killed for want of memory.
fn oom_kills(in_use: &[InUse]) -> Vec<OomKills> {
    let killed = in_use.iter().filter_map(|one| {
        let count = one.oom_kills.filter(|count| *count > 0)?;
        Some(OomKills {
            rental_id: one.rental_id,
            count,
        })
    });
    killed.collect()
}
