//! Beacons: proof that a message is younger than a moment of this coordinator.
//!
//! 32 bytes, hex: when it was issued (µs, 8 bytes) ‖ the coordinator's epoch (8 random bytes, new at each start) ‖ the first 16 bytes of
//! HMAC-SHA256(node ‖ both). Nothing is stored: any coordinator that shares the key recognises a beacon that one of them issued.
//!
//! # Invariants
//! - A beacon belongs to one node.
//! - A live beat needs one of this epoch and at most [`LIVE_MS_MAX`] old, so that a captured beat is dead after a restart; a late
//!   record needs any that was issued.

use ring::hmac;
use shared::{id::NodeId, time::Timestamp};

/// How old the beacon of a live beat may be.
pub const LIVE_MS_MAX: i64 = 60_000;
const MAC_BYTES: usize = 16;

/// Issues and checks beacons.
#[derive(Debug)]
pub struct Beacons {
    key: hmac::Key,
    epoch: [u8; 8],
}

impl Beacons {
    /// A new epoch under a key that all coordinators of one market share.
    #[must_use]
    pub const fn new(key: hmac::Key, epoch: [u8; 8]) -> Self {
        Self { key, epoch }
    }

    /// This run's name, hex.
    #[must_use]
    pub fn epoch(&self) -> String {
        hex::encode(self.epoch)
    }

    /// A beacon for a node.
    #[must_use]
    pub fn issue(&self, node: NodeId, now: Timestamp) -> String {
        let mut bytes = now.as_micros().to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.epoch);
        let mac = self.mac(node, &bytes);
        bytes.extend_from_slice(&mac);
        hex::encode(bytes)
    }

    /// Whether a live beat may carry this beacon.
    #[must_use]
    pub fn is_live(&self, node: NodeId, beacon: &str, now: Timestamp) -> bool {
        self.read(node, beacon).is_some_and(|(issued, epoch)| {
            epoch == self.epoch && (0..=LIVE_MS_MAX).contains(&now.ms_since(issued))
        })
    }

    /// Whether some coordinator of this market issued this beacon to this node.
    #[must_use]
    pub fn was_issued(&self, node: NodeId, beacon: &str) -> bool {
        self.read(node, beacon).is_some()
    }

    fn read(&self, node: NodeId, beacon: &str) -> Option<(Timestamp, [u8; 8])> {
        let bytes: [u8; 32] = hex::decode(beacon).ok()?.try_into().ok()?;
        let (head, mac) = bytes.split_at(16);
        let (issued, epoch) = head.split_at(8);
        if hmac_differs(&self.mac(node, head), mac) {
            return None;
        }
        let issued = i64::from_be_bytes(issued.try_into().ok()?);
        Some((Timestamp::from_micros(issued), epoch.try_into().ok()?))
    }

    fn mac(&self, node: NodeId, head: &[u8]) -> [u8; MAC_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(node.to_string().as_bytes());
        context.update(head);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&context.sign().as_ref()[..MAC_BYTES]);
        mac
    }
}

/// Compares without telling by its time where the difference is.
fn hmac_differs(a: &[u8], b: &[u8]) -> bool {
    a.len() != b.len()
        || a.iter()
            .zip(b)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            != 0
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;

    use super::*;

    #[test]
    fn a_beacon_is_live_for_its_node_epoch_and_minute_only() {
        let key = || hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let ids = Ids::counting();
        let (node, other): (NodeId, NodeId) = (ids.mint(), ids.mint());
        let now = Timestamp::from_secs(1_000);
        let first = Beacons::new(key(), [1; 8]);
        let beacon = first.issue(node, now);
        assert!(first.is_live(node, &beacon, now.plus_ms(60_000)));
        assert!(!first.is_live(node, &beacon, now.plus_ms(60_001)));
        assert!(!first.is_live(other, &beacon, now));
        let restarted = Beacons::new(key(), [2; 8]);
        assert!(!restarted.is_live(node, &beacon, now));
        assert!(restarted.was_issued(node, &beacon));
        assert!(!restarted.was_issued(other, &beacon));
        assert!(
            !Beacons::new(hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]), [1; 8])
                .was_issued(node, &beacon)
        );
        for bad in ["", "00", "zz", &beacon[2..]] {
            assert!(!first.was_issued(node, bad));
        }
    }
}
