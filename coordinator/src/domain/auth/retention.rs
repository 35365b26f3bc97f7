//! Forgets what is over: sessions with their refresh tokens, links that nobody used, failures of long ago.
//!
//! # Invariants
//! - The used refresh tokens of a session that could still be refreshed stay: their reuse must be noticed.
//! - Each transaction removes a bounded number of rows, found by an index.

use shared::time::Timestamp;

use super::{
    delays,
    store::{self, sessions},
};
use crate::{error::Result, store::Db};

/// Sessions are kept so long after their end: what they did is in the audit log.
const KEPT_MS: i64 = 7 * 86_400_000;
/// Most rows that one transaction removes.
const BATCH: u64 = 500;
/// Most transactions of one kind in one turn.
const ROUNDS: u64 = 100;

/// What one turn removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Sessions and refresh tokens.
    pub sessions: u64,
    /// One-time links.
    pub links: u64,
    /// Failures.
    pub delays: u64,
}

/// Removes what is over at `now`, up to a bound; the rest is the next turn's.
///
/// # Errors
/// What the database says.
pub async fn forget(db: &Db, now: Timestamp) -> Result<Forgotten> {
    let ended = now.plus_ms(-KEPT_MS);
    let old = now.plus_ms(-delays::MEMORY_MS);
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let mut done = Forgotten::default();
    for _ in 0..ROUNDS {
        let removed = db
            .write("auth.forget_sessions", move |tx| {
                sessions::forget_ended(tx, ended, limit)
            })
            .await?;
        done.sessions += removed;
        if removed < BATCH {
            break;
        }
    }
    for _ in 0..ROUNDS {
        let removed = db
            .write("auth.forget_links", move |tx| {
                store::links::forget_expired(tx, now, limit)
            })
            .await?;
        done.links += removed;
        if removed < BATCH {
            break;
        }
    }
    for _ in 0..ROUNDS {
        let removed = db
            .write("auth.forget_delays", move |tx| {
                store::delays::forget_old(tx, old, limit)
            })
            .await?;
        done.delays += removed;
        if removed < BATCH {
            break;
        }
    }
    Ok(done)
}
