//! An event, and who may see it.

use serde::Serialize;
use serde_json::Value;
use shared::{
    id::{EventId, NodeId, RentalId, UserId},
    time::Timestamp,
};

use crate::context::{Actor, OpCtx, Role};

/// Largest payload of an event as JSON, bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// Something that happened, to be written with the change that it tells of.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened: `rental.started`, `node.offline`; dotted, lower case.
    pub kind: &'static str,
    /// The consumer whom it concerns.
    pub consumer: Option<UserId>,
    /// The provider whom it concerns.
    pub provider: Option<UserId>,
    /// The rental that it is about.
    pub rental: Option<RentalId>,
    /// The node that it is about.
    pub node: Option<NodeId>,
    /// The facts, as a JSON object; whoever may see the event sees all of it.
    pub payload: Value,
}

impl Event {
    /// An event of `kind` that only administrators see, until somebody is named.
    #[must_use]
    pub const fn new(kind: &'static str, payload: Value) -> Self {
        Self {
            kind,
            consumer: None,
            provider: None,
            rental: None,
            node: None,
            payload,
        }
    }
}

/// An event with its place in the stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredEvent {
    /// Its place: dense, from 1.
    #[serde(skip)]
    pub seq: i64,
    /// Its identity.
    pub id: EventId,
    /// What happened.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// The consumer whom it concerns.
    #[serde(skip)]
    pub consumer: Option<UserId>,
    /// The provider whom it concerns.
    #[serde(skip)]
    pub provider: Option<UserId>,
    /// The rental that it is about.
    #[serde(rename = "rental_id", skip_serializing_if = "Option::is_none")]
    pub rental: Option<RentalId>,
    /// The node that it is about.
    #[serde(rename = "node_id", skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The facts.
    pub payload: Value,
}

/// Who looks at the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// Sees everything.
    Admin,
    /// Sees what concerns them as consumer or provider.
    User(UserId),
    /// Sees one rental.
    Rental(RentalId),
}

impl Viewer {
    /// The viewer that `ctx` is; nobody else may look.
    ///
    /// # Errors
    /// 401 when nobody is signed in.
    pub fn of(ctx: &OpCtx) -> crate::error::Result<Self> {
        match &ctx.actor {
            Actor::User(user) if user.roles.contains(&Role::Admin) => Ok(Self::Admin),
            Actor::RentalToken(rental) => Ok(Self::Rental(*rental)),
            _ => ctx.user().map(|user| Self::User(user.id)),
        }
    }

    /// Whether this viewer may see `event`.
    #[must_use]
    pub fn sees(&self, event: &StoredEvent) -> bool {
        match self {
            Self::Admin => true,
            Self::User(user) => [event.consumer, event.provider].contains(&Some(*user)),
            Self::Rental(rental) => event.rental == Some(*rental),
        }
    }
}
