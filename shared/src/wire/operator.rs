//! What the person in front of a machine wants of the market, in a beat, and how the market takes it, in the reply.
//!
//! # Invariants
//! - An order has a number that only grows on its machine; the market carries each out at most once, in their order, and keeps the
//!   outcomes of the last [`OUTCOMES_MAX`]: a lost reply changes nothing.
//! - Orders go only to a coordinator that has shown a [`Standing`], and that only to an agent that asked for it
//!   (`Load::asks_standing`): either side may be the older one.

use serde::{Deserialize, Serialize};

use crate::{resources::Resources, time::Timestamp};

/// Orders that wait at a machine, and so in a beat, at most.
pub const ORDERS_MAX: usize = 16;
/// Outcomes that the market keeps of a node.
pub const OUTCOMES_MAX: usize = 32;
/// Maintenance windows that a node may have announced.
pub const WINDOWS_MAX: usize = 16;
/// Characters of a window's note.
pub const NOTE_CHARS_MAX: usize = 200;
/// The code of an order that was carried out.
pub const DONE: &str = "done";

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Greater than that of every order before it.
    pub number: i64,
    /// What is wanted.
    pub wish: Wish,
}

/// What is wanted of the market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// No new rentals; what runs goes on.
    Cordon {},
    /// New rentals again.
    Uncordon {},
    /// No new rentals; what still runs at the deadline ends.
    Drain {
        /// By the coordinator's clock; none: what runs ends at its time.
        deadline: Option<Timestamp>,
    },
    /// A maintenance window.
    Announce {
        /// When, and why.
        window: Maintenance,
    },
    /// No maintenance after all.
    Withdraw {
        /// When the window would have begun.
        starts_at: Timestamp,
    },
    /// How much of the machine is rented out; `None` keeps.
    Share {
        /// Memory.
        ram_bytes: Option<i64>,
        /// Thousandths of a CPU.
        cpu_millis: Option<i64>,
        /// Whole GPUs.
        gpu_count: Option<i64>,
        /// Disk space.
        disk_bytes: Option<i64>,
    },
}

/// A time in which a machine can't be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Its beginning, by the coordinator's clock.
    pub starts_at: Timestamp,
    /// Its end.
    pub ends_at: Timestamp,
    /// Why, for whoever rents.
    #[serde(default)]
    pub note: String,
}

impl Maintenance {
    /// Whether some of the time from `from` until `until` lies in it.
    #[must_use]
    pub fn overlaps(&self, from: Timestamp, until: Timestamp) -> bool {
        self.starts_at < until && from < self.ends_at
    }
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Of which order.
    pub number: i64,
    /// [`DONE`], or the code of the problem.
    pub code: String,
    /// In words.
    pub detail: String,
}

/// How a node stands on the market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// `active`, `cordoned`, `draining` or `drained`.
    pub schedulability: String,
    /// When what still runs is ended.
    pub drain_deadline: Option<Timestamp>,
    /// Announced windows that aren't over, by their beginning.
    pub maintenance: Vec<Maintenance>,
    /// What is rented out.
    pub rentable: Resources,
    /// What of that is free.
    pub free: Resources,
    /// The most that could be rented out.
    pub rentable_max: Resources,
    /// The highest number of an order that was looked at; 0 before the first.
    pub orders_seen: i64,
    /// What became of the last orders, the oldest first.
    pub outcomes: Vec<Outcome>,
}
