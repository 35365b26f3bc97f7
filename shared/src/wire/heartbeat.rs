//! The heartbeat: `POST /api/v1/nodes/{id}/heartbeat`, signed by RFC 9421.

use serde::{Deserialize, Serialize};

use super::{
    desired::{DesiredState, Lease, PullSecret},
    observed::ObservedRental,
    operator::{Order, Standing},
};
use crate::{
    id::NodeId,
    journal::{Ack, Hash, SignedRecord},
    resources::{Inventory, Load},
    time::Timestamp,
};

/// One beat: the whole truth of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beat {
    /// The node; equal to the path's and to the signature's `keyid`.
    pub node_id: NodeId,
    /// Random per process start (hex): two live processes with one key show by it.
    pub instance_id: String,
    /// Grows with every beat of this instance.
    pub seq: i64,
    /// The beacon of the latest reply, or of the latest 401; empty in the very first beat.
    pub beacon: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The node's wall clock when the beat was sent.
    pub sent_wall: Timestamp,
    /// The node's `CLOCK_BOOTTIME` when the beat was sent, milliseconds.
    pub sent_boot_ms: i64,
    /// The agent's version.
    pub agent_version: String,
    /// What the machine has.
    pub inventory: Inventory,
    /// How busy it is.
    pub load: Load,
    /// Generation of the desired state that the agent holds.
    pub generation: i64,
    /// Every rental that the agent knows of.
    pub observed: Vec<ObservedRental>,
    /// The newest record of the journal, sent or not.
    pub journal_head: JournalHead,
    /// Records not yet acknowledged, oldest first, contiguous, at most 256 KiB of them.
    pub usage: Vec<SignedRecord>,
    /// What the machine's owner wants, as long as it isn't answered for; at most [`super::operator::ORDERS_MAX`]. Left out when there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
}

/// The end of a node's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalHead {
    /// Number of the last record; 0 when there is none.
    pub seq: i64,
    /// Its hash.
    pub hash: Hash,
}

/// What the coordinator answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The whole desired state.
    pub desired: DesiredState,
    /// How long each running rental may go on.
    pub leases: Vec<Lease>,
    /// For rentals whose private image may still have to be fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<PullSecret>,
    /// Receipt for the journal, once there is anything in it.
    pub ack: Option<Ack>,
    /// For the next beat and the records until then (hex).
    pub beacon: String,
    /// There is a backlog: beat again at once.
    pub more: bool,
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// When to beat again, milliseconds.
    pub beat_interval_ms: i64,
    /// How the node stands on the market, for agents that ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
}

/// Why a beat was refused, beside the problem document: what an honest agent needs to recover by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recover {
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// A fresh beacon (hex).
    pub beacon: String,
}
