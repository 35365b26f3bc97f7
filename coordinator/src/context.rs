//! Who acts, when, and for which request: the first argument of every service.
//!
//! # Invariants
//! - One operation has one `now`; services never read a clock.
//! - Default deny: a service's first line asks this context for what it needs.

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};
use shared::{
    id::{ApiKeyId, Ids, Minted, NodeId, RentalId, SessionId, SshKeyId, UserId},
    time::Timestamp,
    x402::address::Address,
};

use crate::error::{Error, Kind, Result};

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

/// What an API key may do; see `domain/access` for what each opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Who the account is, and its balance.
    #[serde(rename = "account:read")]
    AccountRead,
    /// Looking at rentals, their usage and receipts.
    #[serde(rename = "rentals:read")]
    RentalsRead,
    /// Renting, extending and stopping: spends the balance.
    #[serde(rename = "rentals:write")]
    RentalsWrite,
    /// Reaching into rentals: what they wrote, programs, files and ports of theirs. More than writing: whatever is in them can be had by it.
    #[serde(rename = "rentals:reach")]
    RentalsReach,
    /// Filling the balance.
    #[serde(rename = "balance:write")]
    BalanceWrite,
    /// Looking at nodes.
    #[serde(rename = "nodes:read")]
    NodesRead,
    /// Enrolling, changing and retiring nodes.
    #[serde(rename = "nodes:write")]
    NodesWrite,
    /// Making, changing and deleting offers.
    #[serde(rename = "offers:write")]
    OffersWrite,
    /// Following the event stream.
    #[serde(rename = "events:read")]
    EventsRead,
    /// Looking at webhooks and their deliveries.
    #[serde(rename = "webhooks:read")]
    WebhooksRead,
    /// Making and changing webhooks.
    #[serde(rename = "webhooks:write")]
    WebhooksWrite,
    /// Own figures over time.
    #[serde(rename = "analytics:read")]
    AnalyticsRead,
}

impl Scope {
    /// Every scope there is.
    pub const ALL: [Self; 12] = [
        Self::AccountRead,
        Self::RentalsRead,
        Self::RentalsWrite,
        Self::RentalsReach,
        Self::BalanceWrite,
        Self::NodesRead,
        Self::NodesWrite,
        Self::OffersWrite,
        Self::EventsRead,
        Self::WebhooksRead,
        Self::WebhooksWrite,
        Self::AnalyticsRead,
    ];

    /// The scope's name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccountRead => "account:read",
            Self::RentalsRead => "rentals:read",
            Self::RentalsWrite => "rentals:write",
            Self::RentalsReach => "rentals:reach",
            Self::BalanceWrite => "balance:write",
            Self::NodesRead => "nodes:read",
            Self::NodesWrite => "nodes:write",
            Self::OffersWrite => "offers:write",
            Self::EventsRead => "events:read",
            Self::WebhooksRead => "webhooks:read",
            Self::WebhooksWrite => "webhooks:write",
            Self::AnalyticsRead => "analytics:read",
        }
    }

    /// The scope of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// A program that acts for a person by an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Which key.
    pub id: ApiKeyId,
    /// Whose.
    pub user: UserId,
    /// The person's roles, never [`Role::Admin`]: the market isn't run by keys.
    pub roles: BTreeSet<Role>,
    /// What the key may do of what the person may.
    pub scopes: BTreeSet<Scope>,
}

/// The person behind an action, signed in or by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person<'a> {
    /// Who.
    pub id: UserId,
    /// What they may do.
    pub roles: &'a BTreeSet<Role>,
}

/// Whoever came in by a key for SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshKey {
    /// Where it let them in.
    pub rental: RentalId,
    /// The account that has the key, and which of its keys; none of one that is the rental's own.
    pub account: Option<(UserId, SshKeyId)>,
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Nobody said who they are.
    Anonymous,
    /// A signed-in person.
    User(User),
    /// A person's program, by an API key.
    ApiKey(ApiKey),
    /// Whoever holds the token of one rental (a payer without an account).
    RentalToken(RentalId),
    /// A payer without an account, by the signature of their wallet.
    Wallet(Address),
    /// Whoever reaches into a rental by SSH; nothing else is theirs to do.
    SshKey(SshKey),
    /// A node, by its signature.
    Node(NodeId),
    /// A built-in timer or the cron token.
    System,
}

impl Actor {
    /// The person who acts, themselves or by a key.
    #[must_use]
    pub const fn person(&self) -> Option<Person<'_>> {
        match self {
            Self::User(user) => Some(Person {
                id: user.id,
                roles: &user.roles,
            }),
            Self::ApiKey(key) => Some(Person {
                id: key.user,
                roles: &key.roles,
            }),
            Self::Anonymous
            | Self::RentalToken(_)
            | Self::Wallet(_)
            | Self::SshKey(_)
            | Self::Node(_)
            | Self::System => None,
        }
    }
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

    /// The same, when it has come out who acts.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Self {
        Self {
            actor,
            ..self.clone()
        }
    }

    /// A new id.
    #[must_use]
    pub fn mint<T: Minted>(&self) -> T {
        self.ids.mint()
    }

    /// The person who acts, signed in or by an API key.
    ///
    /// # Errors
    /// 401 for anybody else.
    pub fn user(&self) -> Result<Person<'_>> {
        self.actor.person().ok_or_else(sign_in_required)
    }

    /// The person who signed in themselves, with their session: for what a key must never do.
    ///
    /// # Errors
    /// 401 for anybody else, 403 for an API key.
    pub fn signed_in(&self) -> Result<&User> {
        match &self.actor {
            Actor::User(user) => Ok(user),
            Actor::ApiKey(_) => Err(key_refused()),
            _ => Err(sign_in_required()),
        }
    }

    /// The person who acts, who must have `role`.
    ///
    /// # Errors
    /// 401 for anybody who isn't signed in, 403 without the role.
    pub fn user_with(&self, role: Role) -> Result<Person<'_>> {
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

    /// Whether an administrator acts; an API key never is one.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        matches!(&self.actor, Actor::User(user) if user.roles.contains(&Role::Admin))
    }
}

/// 401: a person must sign in.
#[must_use]
pub fn sign_in_required() -> Error {
    Error::unauthenticated("sign_in_required", "sign in first: POST /api/v1/auth/login")
}

/// 403: what no API key opens.
#[must_use]
pub fn key_refused() -> Error {
    Error::new(
        Kind::Forbidden,
        "key_not_allowed",
        "an API key can't do this: sign in to do it",
    )
}
