//! Tickets: what a page may carry in a URL to open one stream, since a browser's WebSocket sends no header.
//!
//! # Invariants
//! - A ticket opens one stream of one rental, for whoever asked for it, within [`VALID_FOR_MS`]; whichever coordinator it is shown to,
//!   it is used once.
//! - Only its hash is kept.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::digest::{SHA256, digest};
use shared::{
    id::{ApiKeyId, RentalId, SessionId, UserId},
    secret::Secret,
    time::Timestamp,
    x402::address::Address,
};

use super::{
    access::{self, Verb},
    store,
};
use crate::{
    context::{Actor, OpCtx},
    error::{Error, Result},
    keys::random_32,
    store::{Db, Tx},
};

/// How every ticket starts.
pub const PREFIX: &str = "rmk_";
/// A ticket is used within this.
pub const VALID_FOR_MS: i64 = 30_000;
/// Most rows that one transaction removes.
const BATCH: i64 = 500;

/// By what somebody acted when they asked for a ticket: it holds no longer than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// A session of a person.
    Session(UserId, SessionId),
    /// A key of a person.
    ApiKey(UserId, ApiKeyId),
    /// The rental's token.
    RentalToken,
    /// The wallet that rents.
    Wallet(Address),
}

impl Bearer {
    fn of(actor: &Actor) -> Result<Self> {
        match actor {
            Actor::User(user) => Ok(Self::Session(user.id, user.session)),
            Actor::ApiKey(key) => Ok(Self::ApiKey(key.user, key.id)),
            Actor::RentalToken(_) => Ok(Self::RentalToken),
            Actor::Wallet(wallet) => Ok(Self::Wallet(*wallet)),
            Actor::Anonymous | Actor::SshKey(_) | Actor::Node(_) | Actor::System => {
                Err(crate::context::sign_in_required())
            }
        }
    }

    /// As it is kept: kind, account or wallet, session or key.
    pub(super) fn parts(self) -> (&'static str, String, String) {
        match self {
            Self::Session(user, session) => ("session", user.to_string(), session.to_string()),
            Self::ApiKey(user, key) => ("key", user.to_string(), key.to_string()),
            Self::RentalToken => ("token", String::new(), String::new()),
            Self::Wallet(wallet) => ("wallet", wallet.to_string(), String::new()),
        }
    }

    pub(super) fn from_parts(kind: &str, who: &str, by: &str) -> Option<Self> {
        Some(match kind {
            "session" => Self::Session(who.parse().ok()?, by.parse().ok()?),
            "key" => Self::ApiKey(who.parse().ok()?, by.parse().ok()?),
            "token" => Self::RentalToken,
            "wallet" => Self::Wallet(who.parse().ok()?),
            _ => return None,
        })
    }
}

/// A ticket as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// For which rental.
    pub(super) rental: RentalId,
    /// For what.
    pub(super) verb: Verb,
    /// Whose.
    pub(super) bearer: Bearer,
    /// Until when.
    pub(super) expires: Timestamp,
}

/// Makes a ticket for a stream that the caller may open; until when it holds.
///
/// # Errors
/// 401 for nobody, 404 for whoever doesn't rent it.
pub async fn create(
    db: &Db,
    ctx: &OpCtx,
    rental: RentalId,
    verb: Verb,
) -> Result<(Secret<String>, Timestamp)> {
    let secret = random_32().map_err(|error| Error::internal(format!("{error:#}")))?;
    let text = format!("{PREFIX}{}", BASE64URL.encode(secret));
    let hash = hash_of(&text);
    let ticket = Ticket {
        rental,
        verb,
        bearer: Bearer::of(&ctx.actor)?,
        expires: ctx.now.plus_ms(VALID_FOR_MS),
    };
    let ctx = ctx.clone();
    let insert = move |tx: &mut dyn Tx| {
        access::reachable(tx, &ctx, rental)?;
        store::insert_ticket(tx, &hash, &ticket)
    };
    db.write("ticket.create", insert).await?;
    Ok((Secret::new(text), ticket.expires))
}

/// Uses a ticket up for a stream of a rental; whose it is.
///
/// # Errors
/// 401 for one that is unknown, used, too old or for something else; it is used up by that as well.
pub async fn redeem(
    db: &Db,
    text: &str,
    rental: RentalId,
    verb: Verb,
    now: Timestamp,
) -> Result<Bearer> {
    let hash = hash_of(text);
    let taken = db
        .write("ticket.redeem", move |tx| store::take_ticket(tx, &hash))
        .await?;
    taken
        .filter(|ticket| ticket.rental == rental && ticket.verb == verb && ticket.expires > now)
        .map(|ticket| ticket.bearer)
        .ok_or_else(|| {
            Error::unauthenticated(
                "ticket",
                "this ticket isn't known, was used, is older than 30 s or is for something else: ask for a new one",
            )
        })
}

fn hash_of(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

/// Forgets tickets that nobody used in time, up to a bound; how many.
///
/// # Errors
/// The database's.
pub async fn forget(db: &Db, now: Timestamp) -> Result<u64> {
    let body = move |tx: &mut dyn Tx| store::forget_tickets(tx, now, BATCH);
    let mut gone = 0_u64;
    for _ in 0..100 {
        let some = db.write("ticket.forget", body).await?;
        gone = gone.saturating_add(some);
        if i64::try_from(some).is_ok_and(|some| some < BATCH) {
            break;
        }
    }
    Ok(gone)
}
