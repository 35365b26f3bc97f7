//! Who acts, when, and for which request: the first argument of every service.
//!
//! # Invariants
//! - One operation has one `now`; services never read a clock.
//! - Default deny: a service's first line asks this context for what it needs.

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use shared::{
    id::{Ids, Minted, NodeId, RentalId, SessionId, UserId},
    time::Timestamp,
};

use crate::error::{Error, Result};

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Rents.
    Consumer,
    /// Lends machines.
    Provider,
    /// Runs the market.
    Admin,
}

impl Role {
    /// The role's name in the database and in tokens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Provider => "provider",
            Self::Admin => "admin",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Consumer, Self::Provider, Self::Admin]
            .into_iter()
            .find(|role| role.name() == name)
    }
}

/// A signed-in person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// By which login.
    pub session: SessionId,
    /// When they last proved in this session who they are: by password, issuer or second factor.
    pub proven_at: Timestamp,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Nobody said who they are.
    Anonymous,
    /// A signed-in person.
    User(User),
    /// Whoever holds the token of one rental (a payer without an account).
    RentalToken(RentalId),
    /// A node, by its signature.
    Node(NodeId),
    /// A built-in timer or the cron token.
    System,
}

/// The context of one operation.
#[derive(Clone)]
pub struct OpCtx {
    /// Who acts.
    pub actor: Actor,
    /// The moment of the operation.
    pub now: Timestamp,
    /// To find the operation in the logs.
    pub request_id: String,
    /// The client's address; nothing for timers, commands and connections without one.
    pub client: Option<IpAddr>,
    ids: Arc<Ids>,
}

impl fmt::Debug for OpCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OpCtx({:?} at {}, {})",
            self.actor, self.now, self.request_id
        )
    }
}

impl OpCtx {
    /// A context; edges and tasks make it, services take it.
    #[must_use]
    pub const fn new(actor: Actor, now: Timestamp, request_id: String, ids: Arc<Ids>) -> Self {
        Self {
            actor,
            now,
            request_id,
            client: None,
            ids,
        }
    }

    /// The same, asked for from `client`.
    #[must_use]
    pub const fn with_client(mut self, client: Option<IpAddr>) -> Self {
        self.client = client;
        self
    }

    /// A new id.
    #[must_use]
    pub fn mint<T: Minted>(&self) -> T {
        self.ids.mint()
    }

    /// The signed-in person.
    ///
    /// # Errors
    /// 401 for anybody else.
    pub fn user(&self) -> Result<&User> {
        match &self.actor {
            Actor::User(user) => Ok(user),
            _ => Err(Error::unauthenticated(
                "sign_in_required",
                "sign in first: POST /api/v1/auth/login",
            )),
        }
    }

    /// The signed-in person, who must have `role`.
    ///
    /// # Errors
    /// 401 for anybody who isn't signed in, 403 without the role.
    pub fn user_with(&self, role: Role) -> Result<&User> {
        let user = self.user()?;
        if user.roles.contains(&role) {
            Ok(user)
        } else {
            Err(Error::forbidden(format!(
                "this needs the role {}",
                role.name()
            )))
        }
    }

    /// Whether an administrator acts.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        matches!(&self.actor, Actor::User(user) if user.roles.contains(&Role::Admin))
    }
}
