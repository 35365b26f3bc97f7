//! What the market is to be told, until it has answered; and how the node stands there.
//!
//! # Invariants
//! - Numbers grow, over restarts and over a restored folder too: each is beyond the last one, the market's, and the clock's microseconds.
//! - An order is durable before it is taken; it goes when the market's standing covers its number.
//! - Orders are sent only to a market that has shown a standing: an older one wouldn't understand them.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::{
    id::NodeId,
    time::Timestamp,
    wire::operator::{ORDERS_MAX, Order, Outcome, Standing, Wish},
};
use tokio::sync::watch;

use crate::durable;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1_024;

/// The orders of one node.
#[derive(Debug)]
pub struct Orders {
    path: PathBuf,
    node_id: NodeId,
    kept: Mutex<Kept>,
    standing: watch::Sender<Option<Standing>>,
}

/// `orders.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    node_id: NodeId,
    last: i64,
    waiting: Vec<Order>,
}

impl Orders {
    /// What is kept at `path` of this node; nothing of another one.
    ///
    /// # Errors
    /// The file is there and can't be read.
    pub fn open(path: PathBuf, node_id: NodeId) -> anyhow::Result<Self> {
        let none = Kept {
            node_id,
            last: 0,
            waiting: Vec::new(),
        };
        let kept = match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => none,
            found => {
                let length = found.with_context(|| unreadable(&path))?.len();
                anyhow::ensure!(
                    length <= FILE_BYTES_MAX,
                    "{}: it is too long",
                    unreadable(&path)
                );
                let text = std::fs::read(&path).with_context(|| unreadable(&path))?;
                let kept: Kept =
                    serde_json::from_slice(&text).with_context(|| unreadable(&path))?;
                if kept.node_id == node_id { kept } else { none }
            }
        };
        Ok(Self {
            path,
            node_id,
            kept: Mutex::new(kept),
            standing: watch::Sender::new(None),
        })
    }

    /// Takes an order; returns its number once it is durable.
    ///
    /// # Errors
    /// Too many wait, or the file system refuses.
    pub fn give(&self, wish: Wish, now: Timestamp) -> anyhow::Result<i64> {
        let mut kept = self.lock();
        anyhow::ensure!(
            kept.waiting.len() < ORDERS_MAX,
            "{ORDERS_MAX} orders wait for the coordinator's answer already; see `ramarket-agent status` for the contact"
        );
        let seen = self.standing.borrow().as_ref().map_or(0, |s| s.orders_seen);
        let number = kept.last.max(seen).saturating_add(1).max(now.as_micros());
        let mut next = kept.clone();
        next.last = number;
        next.waiting.push(Order { number, wish });
        self.write(&next)?;
        *kept = next;
        Ok(number)
    }

    /// What is to be sent now.
    #[must_use]
    pub fn to_send(&self) -> Vec<Order> {
        if self.standing.borrow().is_none() {
            return Vec::new();
        }
        self.lock().waiting.clone()
    }

    /// How many the market hasn't answered for.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Takes the market's word.
    ///
    /// # Errors
    /// The file system refuses: the orders are sent again, which changes nothing.
    pub fn settle(&self, standing: Standing) -> anyhow::Result<()> {
        let mut kept = self.lock();
        let seen = standing.orders_seen;
        let mut next = kept.clone();
        next.waiting.retain(|order| order.number > seen);
        let written = if next.waiting.len() == kept.waiting.len() {
            Ok(())
        } else {
            self.write(&next)
        };
        if written.is_ok() {
            *kept = next;
        }
        drop(kept);
        self.standing.send_replace(Some(standing));
        written
    }

    /// How the node stands, as the market said last; changes with each answer.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Option<Standing>> {
        self.standing.subscribe()
    }

    /// What became of an order; `None` while that isn't known.
    #[must_use]
    pub fn outcome(&self, number: i64) -> Option<Outcome> {
        let standing = self.standing.borrow();
        let standing = standing.as_ref()?;
        let known = standing
            .outcomes
            .iter()
            .find(|outcome| outcome.number == number);
        known.cloned()
    }

    fn write(&self, kept: &Kept) -> anyhow::Result<()> {
        debug_assert_eq!(kept.node_id, self.node_id);
        durable::replace(&self.path, &serde_json::to_vec(kept)?, 0o600)
            .with_context(|| format!("{} can't be written", self.path.display()))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(path: &std::path::Path) -> String {
    format!(
        "{} can't be read; remove it: what it holds are orders that the market hasn't answered for",
        path.display()
    )
}
