//! Who is there, in memory: the last beat of each node in this run of the coordinator. No row is written for a beat that changes
//! nothing; what is news is written by whoever asks [`Presence`].
//!
//! # Invariants
//! - A beat is admitted once: sequence numbers of one agent process only grow.
//! - One process per key: once another process has taken over, the first one is refused.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use shared::{
    id::NodeId,
    sign::PublicKey,
    time::Timestamp,
    wire::{heartbeat::Beat, problem::agent_codes},
};

use crate::{
    domain::nodes::model::Availability,
    error::{Error, Result},
};

/// How long a looked-up key is believed: how late a ban takes effect at another coordinator.
const KEY_TTL_MS: i64 = 30_000;
/// Agent processes that are remembered per node.
const INSTANCES_MAX: usize = 8;
/// Nonces of link requests that are remembered per node.
const NONCES_MAX: usize = 32;
/// Beats that tell the node's clock from ours.
const OFFSETS_MAX: usize = 32;

#[derive(Debug)]
struct Live {
    key: PublicKey,
    key_at: Timestamp,
    instance: String,
    /// With the number of the last beat of each.
    earlier_instances: VecDeque<(String, i64)>,
    seq: i64,
    last_beat_at: Option<Timestamp>,
    written: Option<Written>,
    link_nonces: VecDeque<String>,
    /// We asked for the next beat.
    asked: bool,
    boot_id: String,
    /// Our clock less the node's boot clock, by each of the last beats of this boot, microseconds.
    offsets_us: VecDeque<i64>,
}

/// What the database knows of a node, as far as this run wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Hash of the inventory and agent version.
    pub facts_sha256: [u8; 32],
    /// Observed availability.
    pub availability: Availability,
}

/// Everybody who was heard of in this run.
#[derive(Debug)]
pub struct Presence {
    started_at: Timestamp,
    nodes: Mutex<HashMap<NodeId, Live>>,
}

impl Presence {
    /// Nobody yet.
    #[must_use]
    pub fn new(started_at: Timestamp) -> Self {
        Self {
            started_at,
            nodes: Mutex::default(),
        }
    }

    /// When this run began.
    #[must_use]
    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The key of a node if it was looked up lately.
    #[must_use]
    pub fn key(&self, node: NodeId, now: Timestamp) -> Option<PublicKey> {
        let nodes = self.lock();
        nodes
            .get(&node)
            .filter(|live| now.ms_since(live.key_at) < KEY_TTL_MS)
            .map(|live| live.key)
    }

    /// Remembers a key that was looked up.
    pub fn learn_key(&self, node: NodeId, key: PublicKey, now: Timestamp) {
        let mut nodes = self.lock();
        let live = nodes.entry(node).or_insert_with(|| Live {
            key,
            key_at: now,
            instance: String::new(),
            earlier_instances: VecDeque::new(),
            seq: i64::MIN,
            last_beat_at: None,
            written: None,
            link_nonces: VecDeque::new(),
            asked: false,
            boot_id: String::new(),
            offsets_us: VecDeque::new(),
        });
        (live.key, live.key_at) = (key, now);
    }

    /// Forgets a node whose key is void.
    pub fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    /// Admits a beat whose signature and beacon hold.
    ///
    /// # Errors
    /// 401 `beat_replayed`, or `key_in_use_twice` for a process that another one had replaced.
    pub fn admit(&self, node: NodeId, instance: &str, seq: i64, now: Timestamp) -> Result<()> {
        let mut nodes = self.lock();
        let live = nodes.get_mut(&node).ok_or_else(|| unknown(node))?;
        if live.instance != instance {
            let earlier = live.earlier_instances.iter();
            let mut last_seq = earlier.filter_map(|(name, seq)| (name == instance).then_some(*seq));
            if let Some(last_seq) = last_seq.next() {
                if seq <= last_seq {
                    return Err(replayed());
                }
                return Err(Error::unauthenticated(
                    agent_codes::KEY_IN_USE_TWICE,
                    "another process beats with this key: stop one of them, and enrol the other machine on its own",
                ));
            }
            if !live.instance.is_empty() {
                let replaced = std::mem::take(&mut live.instance);
                live.earlier_instances.push_back((replaced, live.seq));
                while live.earlier_instances.len() > INSTANCES_MAX {
                    live.earlier_instances.pop_front();
                }
            }
            instance.clone_into(&mut live.instance);
        } else if seq <= live.seq {
            return Err(replayed());
        }
        live.seq = seq;
        live.last_beat_at = Some(now);
        Ok(())
    }

    /// Notes that we asked a node to beat at once.
    pub fn ask_beat(&self, node: NodeId) {
        if let Some(live) = self.lock().get_mut(&node) {
            live.asked = true;
        }
    }

    /// Whether we asked for this beat; each asking lets one pass.
    pub fn was_asked(&self, node: NodeId) -> bool {
        let mut nodes = self.lock();
        nodes
            .get_mut(&node)
            .is_some_and(|live| std::mem::take(&mut live.asked))
    }

    /// Admits a link request once.
    ///
    /// # Errors
    /// 401 `beat_replayed`.
    pub fn admit_link(&self, node: NodeId, nonce: &str) -> Result<()> {
        let mut nodes = self.lock();
        let live = nodes.get_mut(&node).ok_or_else(|| unknown(node))?;
        if live.link_nonces.iter().any(|used| used == nonce) {
            return Err(Error::unauthenticated(
                agent_codes::BEAT_REPLAYED,
                "this request was accepted before",
            ));
        }
        live.link_nonces.push_back(nonce.to_owned());
        while live.link_nonces.len() > NONCES_MAX {
            live.link_nonces.pop_front();
        }
        Ok(())
    }

    /// Our clock less the node's wall clock at this beat, microseconds. A beat shows it with the time added that it took to
    /// arrive: the quickest of the last ones counts, or a busy machine's rentals would seem to start late.
    #[must_use]
    pub fn clock_offset_us(&self, node: NodeId, beat: &Beat, received_at: Timestamp) -> i64 {
        let boot_us = beat.sent_boot_ms.saturating_mul(1_000);
        let offset_us = received_at.as_micros().saturating_sub(boot_us);
        let mut nodes = self.lock();
        let least_us = nodes.get_mut(&node).map_or(offset_us, |live| {
            if live.boot_id != beat.boot_id {
                live.boot_id.clone_from(&beat.boot_id);
                live.offsets_us.clear();
            }
            live.offsets_us.push_back(offset_us);
            while live.offsets_us.len() > OFFSETS_MAX {
                live.offsets_us.pop_front();
            }
            live.offsets_us.iter().copied().min().unwrap_or(offset_us)
        });
        // both of the node's clocks were read at one moment
        least_us
            .saturating_add(boot_us)
            .saturating_sub(beat.sent_wall.as_micros())
    }

    /// What was written of a node in this run.
    #[must_use]
    pub fn written(&self, node: NodeId) -> Option<Written> {
        self.lock().get(&node).and_then(|live| live.written.clone())
    }

    /// Notes what was written.
    pub fn note_written(&self, node: NodeId, written: Written) {
        if let Some(live) = self.lock().get_mut(&node) {
            live.written = Some(written);
        }
    }

    /// Notes an availability that somebody else wrote (the liveness task).
    pub fn note_availability(&self, node: NodeId, availability: Availability) {
        if let Some(written) = self
            .lock()
            .get_mut(&node)
            .and_then(|live| live.written.as_mut())
        {
            written.availability = availability;
        }
    }

    /// How long a node has been silent, and whether it was heard at all in this run.
    #[must_use]
    pub fn silence(&self, node: NodeId, now: Timestamp) -> (i64, bool) {
        let heard = self.lock().get(&node).and_then(|live| live.last_beat_at);
        (
            now.ms_since(heard.unwrap_or(self.started_at)),
            heard.is_some(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Live>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replayed() -> Error {
    Error::unauthenticated(
        agent_codes::BEAT_REPLAYED,
        "this beat, or a later one, was accepted before",
    )
}

fn unknown(node: NodeId) -> Error {
    Error::unauthenticated(
        agent_codes::NODE_UNKNOWN,
        format!("no member node has the id {node}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::{id::Ids, sign::SigningKey};

    use super::*;

    const WALL_AHEAD_S: i64 = 3;

    /// A beat sent at `boot_ms` by a node whose wall clock is ahead and which booted at our second 1000.
    fn beat(node: NodeId, boot_id: &str, boot_ms: i64) -> Beat {
        let ours = Timestamp::from_secs(1_000 + WALL_AHEAD_S).plus_ms(boot_ms);
        serde_json::from_value(json!({
            "node_id": node, "instance_id": "a", "seq": 1, "beacon": "", "boot_id": boot_id,
            "sent_wall": ours, "sent_boot_ms": boot_ms, "agent_version": "0",
            "inventory": {
                "hostname": "", "kernel": "", "os": "", "ram_total_bytes": 0, "cpu_model": "", "cpu_count": 0, "disks": [],
                "gpus": [], "gpu_absent_reason": null, "docker": null, "docker_absent_reason": null, "cgroup_version": 2
            },
            "load": {"ram_available_bytes": 0, "cpu_busy_millis": 0, "load1_millis": 0, "disk_free_bytes": [], "gpus": []},
            "generation": 0, "observed": [], "journal_head": {"seq": 0, "hash": "00".repeat(32)}, "usage": []
        }))
        .expect("a beat")
    }

    #[test]
    fn a_late_beat_doesnt_move_a_nodes_clock() {
        let presence = Presence::new(Timestamp::from_secs(0));
        let node = Ids::counting().mint();
        let key = SigningKey::generate_pkcs8().expect("a key");
        let key = SigningKey::from_pkcs8(&key).expect("a key").public();
        presence.learn_key(node, key, Timestamp::from_secs(0));
        let offset_ms = |boot_id: &str, boot_ms: i64, delay_ms: i64| {
            let received = Timestamp::from_secs(1_000).plus_ms(boot_ms + delay_ms);
            presence.clock_offset_us(node, &beat(node, boot_id, boot_ms), received) / 1_000
        };
        let behind_ms = -WALL_AHEAD_S * 1_000;
        assert_eq!(offset_ms("one", 100, 40), behind_ms + 40);
        assert_eq!(offset_ms("one", 200, 1_500), behind_ms + 40);
        assert_eq!(offset_ms("one", 300, 5), behind_ms + 5);
        assert_eq!(offset_ms("two", 50, 700), behind_ms + 700, "another boot");
        for beat in 0..100 {
            offset_ms("two", 1_000 + beat, 60);
        }
        assert_eq!(
            offset_ms("two", 5_000, 80),
            behind_ms + 60,
            "the last ones count"
        );
    }
}
