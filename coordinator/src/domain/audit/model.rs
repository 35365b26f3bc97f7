//! An entry of the audit log, and how entries are chained.
//!
//! # Invariants
//! - A row's hash covers every other field of the row, each with its length, and the hash of the row before it: no field can
//!   take over bytes of its neighbour.
//! - Texts are hashed as they are stored: nothing is parsed or written anew to check a row.

use ring::digest::{Context, SHA256};
use serde_json::Value;
use shared::time::Timestamp;

use crate::{
    context::{Actor, OpCtx, SshKey},
    error::{Error, Result},
};

/// Largest `before` or `after` as JSON, bytes.
pub const STATE_BYTES_MAX: usize = 16 * 1024;
/// Longest reason, characters.
pub const REASON_CHARS_MAX: usize = 500;
/// Hash before the first row.
pub const GENESIS: Hash = [0; 32];
/// What is hashed first: a hash of this kind is never one of another.
const DOMAIN: &[u8] = b"ramarket-audit-v1\0";

/// SHA-256 of a row.
pub type Hash = [u8; 32];

/// Something that was done, to be recorded in the transaction that does it. Secrets never go into an entry.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// What was done: `session.ended`, `role.granted`; dotted, lower case, past tense.
    pub action: &'static str,
    /// The id, with its prefix, of what it was done to.
    pub object: String,
    /// What of it was before, as far as it changed.
    pub before: Option<Value>,
    /// What of it is now, as far as it changed.
    pub after: Option<Value>,
    /// Why, in the words of who did it.
    pub reason: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// `action` was done to `object`.
    #[must_use]
    pub fn of(action: &'static str, object: impl Into<String>) -> Self {
        Self {
            action,
            object: object.into(),
            before: None,
            after: None,
            reason: None,
        }
    }

    /// With what was before.
    #[must_use]
    pub fn before(mut self, state: Value) -> Self {
        self.before = Some(state);
        self
    }

    /// With what is now.
    #[must_use]
    pub fn after(mut self, state: Value) -> Self {
        self.after = Some(state);
        self
    }

    /// With why.
    #[must_use]
    pub const fn reason(mut self, reason: &'a str) -> Self {
        self.reason = Some(reason);
        self
    }
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place: dense, from 1.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who: an account, a node, a rental (by its token or a key of its own), `anonymous` or `system`.
    pub actor: String,
    /// By which session or key.
    pub via: Option<String>,
    /// What.
    pub action: String,
    /// To what.
    pub object: String,
    /// JSON.
    pub before: Option<String>,
    /// JSON.
    pub after: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// From which address.
    pub client: Option<String>,
    /// To find it in the logs.
    pub request_id: String,
    /// The hash of the row before.
    pub prev_hash: Hash,
    /// The hash of this row.
    pub hash: Hash,
}

impl Record {
    /// The row that follows place `seq` with hash `prev_hash`.
    ///
    /// # Errors
    /// 422 for a reason that is too long; 500 for states that are too large.
    pub fn after(ctx: &OpCtx, entry: &Entry<'_>, seq: i64, prev_hash: Hash) -> Result<Self> {
        let state = |value: Option<&Value>| {
            let text = value.map(Value::to_string);
            match text.as_ref().map_or(0, String::len) {
                0..=STATE_BYTES_MAX => Ok(text),
                bytes => Err(Error::internal(format!(
                    "audit entry {} has a state of {bytes} bytes",
                    entry.action
                ))),
            }
        };
        if entry
            .reason
            .is_some_and(|reason| reason.chars().count() > REASON_CHARS_MAX)
        {
            return Err(Error::invalid(
                "/reason",
                format!("a reason has at most {REASON_CHARS_MAX} characters"),
            ));
        }
        let mut record = Self {
            seq: seq.saturating_add(1),
            at: ctx.now,
            actor: actor_name(&ctx.actor),
            via: via(&ctx.actor),
            action: entry.action.to_owned(),
            object: entry.object.clone(),
            before: state(entry.before.as_ref())?,
            after: state(entry.after.as_ref())?,
            reason: entry.reason.map(str::to_owned),
            client: ctx.client.map(|address| address.to_string()),
            request_id: ctx.request_id.clone(),
            prev_hash,
            hash: GENESIS,
        };
        record.hash = record.computed_hash();
        Ok(record)
    }

    /// The hash that this row must have.
    #[must_use]
    pub fn computed_hash(&self) -> Hash {
        let mut context = Context::new(&SHA256);
        context.update(DOMAIN);
        context.update(&self.prev_hash);
        context.update(&self.seq.to_be_bytes());
        context.update(&self.at.as_micros().to_be_bytes());
        let texts = [
            Some(&self.actor),
            self.via.as_ref(),
            Some(&self.action),
            Some(&self.object),
            self.before.as_ref(),
            self.after.as_ref(),
            self.reason.as_ref(),
            self.client.as_ref(),
            Some(&self.request_id),
        ];
        for text in texts {
            match text {
                None => context.update(&[0]),
                Some(text) => {
                    context.update(&[1]);
                    context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
                    context.update(text.as_bytes());
                }
            }
        }
        let mut hash = GENESIS;
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}

/// Which entries are wanted; `None` wants all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Who.
    pub actor: Option<String>,
    /// What.
    pub action: Option<String>,
    /// To what.
    pub object: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// How the log names who acts.
#[must_use]
pub fn actor_name(actor: &Actor) -> String {
    match actor {
        Actor::Anonymous => "anonymous".to_owned(),
        Actor::User(user) => user.id.to_string(),
        Actor::ApiKey(key) => key.user.to_string(),
        Actor::RentalToken(rental) => rental.to_string(),
        Actor::Wallet(wallet) => wallet.to_string(),
        Actor::SshKey(SshKey { rental, account }) => {
            account.map_or_else(|| rental.to_string(), |(user, _)| user.to_string())
        }
        Actor::Node(node) => node.to_string(),
        Actor::System => "system".to_owned(),
    }
}

fn via(actor: &Actor) -> Option<String> {
    match actor {
        Actor::User(user) => Some(user.session.to_string()),
        Actor::ApiKey(key) => Some(key.id.to_string()),
        Actor::SshKey(key) => key.account.map(|(_, id)| id.to_string()),
        _ => None,
    }
}
