//! Is this request an honest node's? Headers, key, signature, time, beacon, order: each refusal has its own code.
//!
//! # Invariants
//! - The signature is checked before anything the body says is believed.
//! - A refusal that an honest agent can recover from carries our time and a fresh beacon.

use http::{HeaderMap, Method};
use shared::{
    http_signature::{self, Request, Unverified, VerifyError},
    id::NodeId,
    journal::Record,
    sign::PublicKey,
    time::Timestamp,
    wire::{
        CREATED_SKEW_S_MAX, RENTALS_PER_NODE_MAX,
        heartbeat::{Beat, Recover},
        problem::agent_codes,
    },
};

use super::AgentLink;
use crate::{
    domain::nodes::{self, model::Lifecycle},
    error::{Error, Result},
};

/// A refusal, with what an honest agent needs to recover by itself.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub error: Error,
    /// Our time and a fresh beacon, if that may help.
    pub recover: Option<Box<Recover>>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            error,
            recover: None,
        }
    }
}

/// A signed request as it came.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Path and query, as in the request line.
    pub path_and_query: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, if it has one.
    pub body: Option<&'a [u8]>,
}

impl AgentLink {
    /// Checks that a request is signed now by the key of `node`; returns the key and the nonce.
    ///
    /// # Errors
    /// 401 with one of [`agent_codes`].
    pub async fn authenticate(
        &self,
        node: NodeId,
        signed: Signed<'_>,
        now: Timestamp,
    ) -> Result<(PublicKey, String), Refusal> {
        let unverified = read_headers(&signed)?;
        if unverified.params.key_id != node.to_string() {
            return Err(Error::unauthenticated(
                agent_codes::SIGNATURE_INVALID,
                "the signature's keyid isn't the node of the path",
            )
            .into());
        }
        let key = self.key_of(node, now).await?;
        let target_uri = format!("{}{}", self.public_url, signed.path_and_query);
        let request = Request {
            method: signed.method.as_str(),
            target_uri: &target_uri,
            body: signed.body,
        };
        unverified.verify(&key, &request).map_err(refused)?;
        if unverified.params.created_s.abs_diff(now.as_secs()) > CREATED_SKEW_S_MAX.unsigned_abs() {
            let error = Error::unauthenticated(
                agent_codes::SIGNATURE_STALE,
                "the signature was made more than 60 s from our time: correct the clock by `recover`",
            );
            return Err(self.recoverable(node, error, now));
        }
        Ok((key, unverified.params.nonce))
    }

    /// Checks that a beat is live: its beacon is fresh and it is the next one of its process.
    ///
    /// # Errors
    /// 401 with one of [`agent_codes`]; 422 out of bounds.
    pub fn admit(&self, node: NodeId, beat: &Beat, now: Timestamp) -> Result<(), Refusal> {
        if beat.node_id != node {
            return Err(Error::unauthenticated(
                agent_codes::SIGNATURE_INVALID,
                "the beat is another node's",
            )
            .into());
        }
        if !self.beacons.is_live(node, &beat.beacon, now) {
            return Err(self.stale_beacon(node, now));
        }
        check_bounds(beat)?;
        if let Some(bad) = beat
            .usage
            .iter()
            .find(|signed| !self.dates(node, &signed.record))
        {
            let seq = bad.record.seq;
            return Err(Error::conflict(
                "journal_beacon_unknown",
                format!("record {seq} carries no beacon of ours"),
            )
            .into());
        }
        self.presence
            .admit(node, &beat.instance_id, beat.seq, now)
            .map_err(|error| self.recoverable(node, error, now))
    }

    /// Whether a record proves to be younger than a moment of ours: by its beacon, or, written by an agent that started while
    /// cut off and has none yet, by the record that it points to.
    fn dates(&self, node: NodeId, record: &Record) -> bool {
        (record.beacon.is_empty() && record.seq > 1)
            || self.beacons.was_issued(node, &record.beacon)
    }

    /// The refusal of a beacon that isn't fresh.
    #[must_use]
    pub fn stale_beacon(&self, node: NodeId, now: Timestamp) -> Refusal {
        let error = Error::unauthenticated(
            agent_codes::BEACON_STALE,
            "the beacon isn't of this coordinator's run, or is older than 60 s: use the one in `recover`",
        );
        self.recoverable(node, error, now)
    }

    fn recoverable(&self, node: NodeId, error: Error, now: Timestamp) -> Refusal {
        let recover = Recover {
            server_time: now,
            beacon: self.beacons.issue(node, now),
        };
        Refusal {
            error,
            recover: Some(Box::new(recover)),
        }
    }

    async fn key_of(&self, node: NodeId, now: Timestamp) -> Result<PublicKey> {
        if let Some(key) = self.presence.key(node, now) {
            return Ok(key);
        }
        let unknown = || {
            Error::unauthenticated(
                agent_codes::NODE_UNKNOWN,
                format!("no member node has the id {node}"),
            )
        };
        let found = self
            .db
            .read("beat.key", move |tx| nodes::get(tx, node))
            .await
            .map_err(|error| {
                if error.kind() == crate::error::Kind::NotFound {
                    unknown()
                } else {
                    error
                }
            })?;
        let void = match found.lifecycle {
            Lifecycle::Member => None,
            Lifecycle::Retired => Some((
                agent_codes::NODE_REVOKED,
                "this node was retired by its owner: its key is void",
            )),
            Lifecycle::Banned => Some((
                agent_codes::NODE_BANNED,
                "this node was thrown out of the market: ask the market's operators",
            )),
        };
        if let Some((code, why)) = void {
            self.presence.forget(node);
            return Err(Error::unauthenticated(code, why));
        }
        self.presence.learn_key(node, found.public_key, now);
        Ok(found.public_key)
    }
}

fn read_headers(signed: &Signed<'_>) -> Result<Unverified> {
    let header = |name: &str| -> Result<Option<&str>> {
        let mut values = signed.headers.get_all(name).iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(refused(VerifyError::Malformed));
        }
        first
            .map(|value| value.to_str().map_err(|_| refused(VerifyError::Malformed)))
            .transpose()
    };
    let missing = || refused(VerifyError::Malformed);
    let input = header("signature-input")?.ok_or_else(missing)?;
    let signature = header("signature")?.ok_or_else(missing)?;
    http_signature::parse(signed.body, header("content-digest")?, input, signature).map_err(refused)
}

fn refused(error: VerifyError) -> Error {
    let code = match error {
        VerifyError::Malformed | VerifyError::WrongCoverage => agent_codes::SIGNATURE_MALFORMED,
        VerifyError::WrongDigest => agent_codes::DIGEST_MISMATCH,
        VerifyError::BadSignature => agent_codes::SIGNATURE_INVALID,
    };
    Error::unauthenticated(code, error.to_string())
}

fn check_bounds(beat: &Beat) -> Result<()> {
    if beat.observed.len() > RENTALS_PER_NODE_MAX {
        return Err(Error::invalid(
            "/observed",
            format!("a node holds at most {RENTALS_PER_NODE_MAX} rentals"),
        ));
    }
    let hex_ok = |text: &str| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    if !hex_ok(&beat.instance_id) {
        return Err(Error::invalid("/instance_id", "1 to 64 hexadecimal digits"));
    }
    if !hex_ok(&beat.boot_id) {
        return Err(Error::invalid("/boot_id", "1 to 64 hexadecimal digits"));
    }
    nodes::check_inventory(&beat.inventory)
}
