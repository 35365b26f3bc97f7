//! The signed usage journal: one hash chain per node, written by the agent, kept by the coordinator as evidence.
//!
//! # Invariants
//! - Canonical bytes have one form per record: fixed field order, big-endian integers, length-prefixed text.
//! - `hash = SHA-256(canonical bytes)`; the next record's `prev_hash` is it, so nothing can be removed or reordered.
//! - Counters are cumulative over the container's life and never go down.
//! - The signature is over [`DOMAIN`] ‖ 0 ‖ canonical bytes and outlives the request that carried it.

use serde::{Deserialize, Serialize};

use crate::{
    id::{LeaseId, NodeId, RentalId},
    sign::{PublicKey, SignError, Signature, SigningKey},
    time::Timestamp,
};

/// Domain tag of a record's signature.
pub const DOMAIN: &str = "ramarket/journal/v1";
/// Domain tag of the coordinator's signature on an acknowledgement.
pub const ACK_DOMAIN: &str = "ramarket/journal-ack/v1";
/// Format of a bundle of a rental's bill and the records behind it, as clients write and check it.
pub const BUNDLE_FORMAT: &str = "ramarket-receipts-1";
/// Version of the canonical form.
const VERSION: u8 = 1;

/// SHA-256 of a record. Text form: hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first record of a chain points to.
    pub const GENESIS: Self = Self([0; 32]);

    /// From 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // one hash has one text
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        hex::decode(text)
            .ok()
            .filter(|_| lower)
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or("a hash is 64 lower-case hexadecimal digits")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// What the container was doing when the record was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterState {
    /// Created but not started, or being pulled.
    Preparing,
    /// Running, as Docker says.
    Running,
    /// Ended; `exit` says how.
    Exited,
    /// Running, and something that is rented with it (a GPU) doesn't work: time that isn't billed.
    Degraded,
}

/// How a container ended, as Docker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The process's exit code; 137 after SIGKILL.
    pub code: i64,
    /// Killed by the kernel for taking more memory than rented.
    pub oom_killed: bool,
}

/// One statement about one rental at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Whose chain.
    pub node_id: NodeId,
    /// The kernel's boot id, hex without dashes: `t_boot_ms` counts from its start.
    pub boot_id: String,
    /// Which rental.
    pub rental_id: RentalId,
    /// Under which lease.
    pub lease_id: LeaseId,
    /// 1, 2, 3, … without gaps over the whole chain of the node.
    pub seq: i64,
    /// Hash of record `seq − 1`; [`Hash::GENESIS`] for the first.
    pub prev_hash: Hash,
    /// The latest beacon the agent had (hex): this record is younger than it.
    pub beacon: String,
    /// The node's wall clock.
    pub t_wall: Timestamp,
    /// The node's `CLOCK_BOOTTIME`, milliseconds.
    pub t_boot_ms: i64,
    /// What the container did.
    pub state: MeterState,
    /// Docker's id of the container, hex; empty before it was created.
    pub container_id: String,
    /// Digest or id of the image that runs; empty before it is known.
    pub image_digest: String,
    /// Hash of the specification, hex.
    pub spec_sha256: String,
    /// Docker's `StartedAt`, by the node's wall clock.
    pub started_at: Option<Timestamp>,
    /// Docker's `FinishedAt`, by the node's wall clock.
    pub finished_at: Option<Timestamp>,
    /// CPU time used, nanoseconds.
    pub cum_cpu_ns: i64,
    /// Memory used × time, byte·seconds.
    pub cum_mem_byte_s: i64,
    /// Bytes received.
    pub cum_rx_bytes: i64,
    /// Bytes sent.
    pub cum_tx_bytes: i64,
    /// How it ended, once it did.
    pub exit: Option<Exit>,
}

/// A record with its signature, as it travels and as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRecord {
    /// What is said.
    pub record: Record,
    /// By whom.
    pub signature: Signature,
}

/// The coordinator's signed receipt for everything up to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Everything up to this record is durable at the coordinator.
    pub seq: i64,
    /// Hash of that record.
    pub hash: Hash,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The coordinator's signature over [`Ack::canonical`] with [`ACK_DOMAIN`].
    pub signature: Signature,
}

impl Ack {
    /// The bytes that the coordinator signs.
    #[must_use]
    pub fn canonical(node_id: NodeId, seq: i64, hash: &Hash, received_at: Timestamp) -> Vec<u8> {
        let mut out = Writer::default();
        out.text(&node_id.to_string());
        out.int(seq);
        out.0.extend_from_slice(hash.as_bytes());
        out.int(received_at.as_micros());
        out.0
    }
}

impl Record {
    /// The one byte form of this record.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(512));
        out.0.push(VERSION);
        out.text(&self.node_id.to_string());
        out.text(&self.boot_id);
        out.text(&self.rental_id.to_string());
        out.text(&self.lease_id.to_string());
        out.int(self.seq);
        out.0.extend_from_slice(self.prev_hash.as_bytes());
        out.text(&self.beacon);
        out.int(self.t_wall.as_micros());
        out.int(self.t_boot_ms);
        out.0.push(match self.state {
            MeterState::Preparing => 0,
            MeterState::Running => 1,
            MeterState::Exited => 2,
            MeterState::Degraded => 3,
        });
        out.text(&self.container_id);
        out.text(&self.image_digest);
        out.text(&self.spec_sha256);
        out.optional_int(self.started_at.map(Timestamp::as_micros));
        out.optional_int(self.finished_at.map(Timestamp::as_micros));
        out.int(self.cum_cpu_ns);
        out.int(self.cum_mem_byte_s);
        out.int(self.cum_rx_bytes);
        out.int(self.cum_tx_bytes);
        out.optional_int(self.exit.map(|exit| exit.code));
        out.0
            .push(u8::from(self.exit.is_some_and(|exit| exit.oom_killed)));
        out.0
    }

    /// SHA-256 of the canonical bytes.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(
            ring::digest::digest(&ring::digest::SHA256, &self.canonical()).as_ref(),
        );
        Hash(bytes)
    }

    /// Signs.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> SignedRecord {
        let signature = key.sign(DOMAIN, &self.canonical());
        SignedRecord {
            record: self,
            signature,
        }
    }
}

impl SignedRecord {
    /// Checks the signature, strictly and singly: this is evidence.
    ///
    /// # Errors
    /// It doesn't match.
    pub fn verify(&self, key: &PublicKey) -> Result<(), SignError> {
        key.verify(DOMAIN, &self.record.canonical(), &self.signature)
    }
}

/// Why a run of records isn't a continuation of a chain.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum ChainError {
    /// A number is missing.
    #[error("record {expected} is missing: the next one is {found}")]
    Gap {
        /// The next number of the chain.
        expected: i64,
        /// What came.
        found: i64,
    },
    /// `prev_hash` isn't the hash of the record before.
    #[error("record {seq} doesn't point to the record before it")]
    Fork {
        /// Which record.
        seq: i64,
    },
    /// A signature is wrong.
    #[error("record {seq} isn't signed by this node's key")]
    BadSignature {
        /// Which record.
        seq: i64,
    },
}

/// Checks that `records` continue the chain whose last record is (`seq`, `hash`), each signed by `key`; returns the new head.
///
/// # Errors
/// A gap, a fork or a bad signature, at the first record that has it.
pub fn verify_chain(
    mut seq: i64,
    mut hash: Hash,
    records: &[SignedRecord],
    key: &PublicKey,
) -> Result<(i64, Hash), ChainError> {
    for signed in records {
        let record = &signed.record;
        if record.seq != seq.saturating_add(1) {
            return Err(ChainError::Gap {
                expected: seq.saturating_add(1),
                found: record.seq,
            });
        }
        if record.prev_hash != hash {
            return Err(ChainError::Fork { seq: record.seq });
        }
        signed
            .verify(key)
            .map_err(|_| ChainError::BadSignature { seq: record.seq })?;
        (seq, hash) = (record.seq, record.hash());
    }
    Ok((seq, hash))
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn optional_int(&mut self, value: Option<i64>) {
        self.0.push(u8::from(value.is_some()));
        self.int(value.unwrap_or_default());
    }

    fn text(&mut self, text: &str) {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ids;

    fn record(seq: i64, prev_hash: Hash) -> Record {
        let ids = Ids::counting();
        Record {
            node_id: ids.mint(),
            boot_id: "b".into(),
            rental_id: ids.mint(),
            lease_id: ids.mint(),
            seq,
            prev_hash,
            beacon: String::new(),
            t_wall: Timestamp::from_secs(1),
            t_boot_ms: seq,
            state: MeterState::Running,
            container_id: "c".into(),
            image_digest: "sha256:0".into(),
            spec_sha256: "0".into(),
            started_at: None,
            finished_at: None,
            cum_cpu_ns: 0,
            cum_mem_byte_s: 0,
            cum_rx_bytes: 0,
            cum_tx_bytes: 0,
            exit: None,
        }
    }

    #[test]
    fn a_chain_verifies_and_any_change_breaks_it() {
        let key =
            SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random")).expect("key");
        let mut records = Vec::new();
        let mut prev = Hash::GENESIS;
        for seq in 1..=4 {
            let record = record(seq, prev);
            prev = record.hash();
            records.push(record.sign(&key));
        }
        let public = key.public();
        assert_eq!(
            verify_chain(0, Hash::GENESIS, &records, &public),
            Ok((4, prev))
        );

        let mut removed = records.clone();
        removed.remove(1);
        assert_eq!(
            verify_chain(0, Hash::GENESIS, &removed, &public),
            Err(ChainError::Gap {
                expected: 2,
                found: 3
            })
        );
        let mut changed = records.clone();
        changed[1].record.cum_cpu_ns += 1;
        assert_eq!(
            verify_chain(0, Hash::GENESIS, &changed, &public),
            Err(ChainError::BadSignature { seq: 2 })
        );
        let resigned = changed[1].record.clone().sign(&key);
        changed[1] = resigned;
        assert_eq!(
            verify_chain(0, Hash::GENESIS, &changed, &public),
            Err(ChainError::Fork { seq: 3 })
        );
    }
}
