//! Enrolment: a one-time token and a public key become a node.

use serde::{Deserialize, Serialize};

use crate::{
    id::NodeId,
    resources::Inventory,
    sign::{PublicKey, Signature},
    time::Timestamp,
};

/// Domain tag of [`EnrollRequest::proof`].
pub const DOMAIN: &str = "ramarket/enroll/v1";

/// `POST /api/v1/nodes/enroll`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The one-time token from `POST /nodes/enrollment-tokens`.
    pub token: String,
    /// The node's new key.
    pub public_key: PublicKey,
    /// Signature over the token's text with [`DOMAIN`]: the sender holds the private key.
    pub proof: Signature,
    /// A name for people; the host's name unless set.
    pub name: String,
    /// What was measured.
    pub inventory: Inventory,
    /// The agent's version.
    pub agent_version: String,
    /// [`crate::PROTOCOL_VERSION`].
    pub protocol_version: u32,
}

/// The answer: who the node is now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnrollReply {
    /// The node's id: `keyid` of every signature from now on.
    pub node_id: NodeId,
    /// The key with which the coordinator signs acknowledgements.
    pub coordinator_key: PublicKey,
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// The URL that signatures are made over: `<public_url>/api/v1/nodes/{id}/heartbeat`.
    pub public_url: String,
}
