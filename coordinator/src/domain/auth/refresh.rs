//! Refresh tokens: each is used once and replaced by its successor.
//!
//! # Invariants
//! - The reuse of a token ends its session and all its tokens, and its owner is told by mail. The one exception is the
//!   answer that got lost: for [`RETRY_MS`] the token used last returns the same successor, as long as that is unused.

use ring::hmac;
use serde_json::json;
use shared::id::SessionId;

use super::{
    SignedIn, account, hand_out, letters,
    model::{Account, Device, Session, SessionLife},
    store::sessions,
    token::RefreshToken,
};
use crate::{
    config::Config,
    context::OpCtx,
    domain::{
        audit::{self, Entry},
        mail::{self, Postbox},
    },
    error::{Error, Result},
    store::Tx,
};

/// For so long a rotation may be asked for again.
pub const RETRY_MS: i64 = 10_000;

/// What came of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// A new token.
    Rotated(Box<SignedIn>),
    /// The token had been used: the session was ended. Committed, and then refused.
    Reused(SessionId),
}

/// What a refresh needs besides the token.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// How long sessions last.
    pub config: &'a Config,
    /// Derives successors.
    pub key: &'a hmac::Key,
    /// For the mail about a reuse.
    pub postbox: &'a Postbox,
    /// From where it is asked for.
    pub device: &'a Device,
}

/// The session of a refresh token, whatever became of either.
///
/// # Errors
/// What the database says.
pub fn session_of(tx: &mut dyn Tx, token: &RefreshToken) -> Result<Option<SessionId>> {
    let found = sessions::refresh_token(tx, token.hash())?;
    Ok(found.map(|(session, _)| session))
}

/// Replaces a refresh token by its successor.
///
/// # Errors
/// 401 when the token or its session doesn't hold.
pub fn refresh(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rotation: Rotation<'_>,
    token: &RefreshToken,
) -> Result<Refreshed> {
    let successor = token.successor(rotation.key);
    if let Some(session) = sessions::use_refresh(tx, token.hash(), ctx.now)? {
        let (session, account) = live(tx, ctx, session)?;
        sessions::touch(tx, session.id, rotation.device, ctx)?;
        let life = SessionLife::of(&rotation.config.auth, &account.roles);
        let signed_in = hand_out(tx, ctx, account, session, life, successor)?;
        return Ok(Refreshed::Rotated(Box::new(signed_in)));
    }
    let Some((session, Some(used))) = sessions::refresh_token(tx, token.hash())? else {
        return Err(refused());
    };
    let untouched = matches!(
        sessions::refresh_token(tx, successor.hash())?,
        Some((_, None))
    );
    if untouched && ctx.now.ms_since(used) <= RETRY_MS {
        let (session, account) = live(tx, ctx, session)?;
        let life = SessionLife::of(&rotation.config.auth, &account.roles);
        let expires = used.plus_ms(life.idle_ms).min(session.ends);
        return Ok(Refreshed::Rotated(Box::new(SignedIn {
            account,
            session,
            refresh: successor,
            refresh_ms: expires.ms_since(ctx.now),
        })));
    }
    reused(tx, ctx, rotation.postbox, session)?;
    Ok(Refreshed::Reused(session))
}

/// Somebody else has a copy of a token: ends its session, tells its owner.
fn reused(tx: &mut dyn Tx, ctx: &OpCtx, postbox: &Postbox, session: SessionId) -> Result<()> {
    let Some(owner) = sessions::revoke(tx, session, "reuse", ctx.now)? else {
        return Ok(());
    };
    let owner = account(tx, owner)?;
    mail::queue(tx, ctx, postbox, &letters::reuse(&owner, ctx)?)?;
    let entry = Entry::of("session.ended", session);
    let after = json!({ "by": "refresh_token_reuse", "account": owner.id });
    audit::record(tx, ctx, entry.after(after))
}

fn live(tx: &mut dyn Tx, ctx: &OpCtx, session: SessionId) -> Result<(Session, Account)> {
    let session = sessions::live_session(tx, session, ctx.now)?.ok_or_else(refused)?;
    let account = account(tx, session.user)?;
    Ok((session, account))
}

/// 401 for a refresh token that doesn't hold.
#[must_use]
pub fn refused() -> Error {
    Error::unauthenticated(
        "refresh_token",
        "the refresh token isn't valid, or no longer: sign in again",
    )
}
