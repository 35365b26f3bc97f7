//! Accounts and sessions: signup, login, logout, refresh, me. Places left for a later issue: OIDC, API keys, second
//! factors, password change, audit.
//!
//! # Invariants
//! - A password is never stored, only its argon2id hash; a refresh token only its SHA-256.
//! - A refresh token is used once: its reuse ends the session and all its tokens. The one exception is the answer that
//!   got lost: for [`RETRY_MS`] the token used last returns the same successor, as long as that is unused.
//! - Whether an account exists can't be told from a failed login: neither by its text nor by its time.

pub mod api;
pub mod cookies;
pub mod model;
pub mod password;
pub mod session;
mod store;
#[cfg(test)]
mod tests;
pub mod token;

use std::collections::BTreeSet;

use ring::hmac;
use shared::{
    id::{SessionId, UserId},
    time::Timestamp,
};

pub use self::session::{authenticate, require_fresh};
use self::{
    cookies::Cookies,
    model::{Account, Device, Email, Session, SessionLife},
    password::Passwords,
    session::LiveSessions,
    store::sessions,
    token::{AccessTokens, RefreshToken},
};
use super::audit::{self, Entry};
use crate::{
    config::Config,
    context::{OpCtx, Role},
    error::{Error, Result},
    keys::Keys,
    store::Tx,
};

/// For so long a rotation may be asked for again.
pub const RETRY_MS: i64 = 10_000;

/// What the slice keeps in memory.
#[derive(Debug)]
pub struct AuthState {
    /// Names and attributes of our cookies.
    pub cookies: Cookies,
    /// Signs and checks access tokens.
    pub access: AccessTokens,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Sessions found alive lately.
    pub live: LiveSessions,
    /// Derives the successors of refresh tokens.
    pub refresh_key: hmac::Key,
}

impl AuthState {
    /// With nothing cached.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(config: &Config, keys: &Keys) -> anyhow::Result<Self> {
        let auth = &config.auth;
        Ok(Self {
            cookies: Cookies::new(config),
            access: AccessTokens::new(keys, config.http.public_url(), auth.access_token_s),
            passwords: Passwords::new(auth)?,
            live: LiveSessions::default(),
            refresh_key: keys.token.key("ramarket-refresh-successor-v1"),
        })
    }
}

/// Somebody who just signed in or refreshed, and their new refresh token.
#[derive(Debug)]
pub struct SignedIn {
    /// Who.
    pub account: Account,
    /// In which session.
    pub session: Session,
    /// To be handed out once.
    pub refresh: RefreshToken,
    /// For how long it can be used, milliseconds.
    pub refresh_ms: i64,
}

/// Opens an account.
///
/// # Errors
/// 409 when the address is taken.
pub fn create_account(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    email: &Email,
    password_hash: &str,
    roles: &BTreeSet<Role>,
) -> Result<Account> {
    let account = Account {
        id: ctx.mint(),
        email: email.as_str().to_owned(),
        roles: roles.clone(),
        created: ctx.now,
    };
    store::insert_user(tx, &account, password_hash)?.ok_or_else(|| {
        Error::conflict(
            "email_taken",
            "there is an account with this address: sign in instead",
        )
    })?;
    let state = serde_json::json!({ "email": account.email, "roles": account.roles });
    audit::record(
        tx,
        ctx,
        Entry::of("account.created", account.id).after(state),
    )?;
    Ok(account)
}

/// Gives an account a role.
///
/// # Errors
/// 404 when there is no such account.
pub fn grant(tx: &mut dyn Tx, ctx: &OpCtx, email: &Email, role: Role) -> Result<Account> {
    let (mut account, _) =
        store::user_by_email(tx, email)?.ok_or_else(|| Error::not_found("account"))?;
    store::insert_role(tx, account.id, role, ctx.now)?;
    let before = serde_json::json!({ "roles": account.roles });
    if account.roles.insert(role) {
        let after = serde_json::json!({ "roles": account.roles });
        let entry = Entry::of("role.granted", account.id);
        audit::record(tx, ctx, entry.before(before).after(after))?;
    }
    Ok(account)
}

/// Accounts after a cursor, oldest first; for administrators.
///
/// # Errors
/// What the database says.
pub fn accounts(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<Account>> {
    store::page(tx, after, limit)
}

/// Gives and takes roles. The caller records it.
///
/// # Errors
/// 404 when there is no such account.
pub fn set_roles(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: UserId,
    grant: &BTreeSet<Role>,
    revoke: &BTreeSet<Role>,
) -> Result<Account> {
    account(tx, id)?;
    for role in grant {
        store::insert_role(tx, id, *role, ctx.now)?;
    }
    for role in revoke {
        store::delete_role(tx, id, *role)?;
    }
    account(tx, id)
}

/// An account and its password hash.
///
/// # Errors
/// 404 when there is none.
pub fn account_with_hash(tx: &mut dyn Tx, id: UserId) -> Result<(Account, String)> {
    store::user_with_hash(tx, id)?.ok_or_else(|| Error::not_found("account"))
}

/// Takes an account for the rest of the transaction, so that two changes of it come one after the other. Returns whether it
/// has a password.
///
/// # Errors
/// 404 when there is none.
pub fn hold_account(tx: &mut dyn Tx, id: UserId) -> Result<bool> {
    let hash = store::hold_user(tx, id)?.ok_or_else(|| Error::not_found("account"))?;
    Ok(hash != password::NO_PASSWORD)
}

/// The account of an address and its password hash.
///
/// # Errors
/// What the database says.
pub fn find_account(tx: &mut dyn Tx, email: &Email) -> Result<Option<(Account, String)>> {
    store::user_by_email(tx, email)
}

/// An account.
///
/// # Errors
/// 404 when there is none.
pub fn account(tx: &mut dyn Tx, id: UserId) -> Result<Account> {
    store::user(tx, id)?.ok_or_else(|| Error::not_found("account"))
}

/// Replaces a password's hash if it is still `old`: the cost has changed, not the password.
///
/// # Errors
/// What the database says.
pub fn rehash(tx: &mut dyn Tx, id: UserId, old: &str, new: &str) -> Result<()> {
    store::replace_hash(tx, id, old, new)
}

/// A login about to begin: how long it lasts, its first token, what it comes from. Made outside of the transaction.
#[derive(Debug, Clone)]
pub struct Login {
    life: SessionLife,
    first: RefreshToken,
    device: Device,
    proven: Option<Timestamp>,
}

impl Login {
    /// For somebody with these roles.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(config: &Config, roles: &BTreeSet<Role>, device: Device) -> Result<Self> {
        Ok(Self {
            life: SessionLife::of(&config.auth, roles),
            first: RefreshToken::random()?,
            device,
            proven: None,
        })
    }

    /// Of somebody who proved who they are at `proven`, elsewhere and maybe long ago; not in the future.
    #[must_use]
    pub const fn proven_at(mut self, proven: Timestamp) -> Self {
        self.proven = Some(proven);
        self
    }
}

/// Begins a session of somebody who proved who they are: just now, unless the login says when.
///
/// # Errors
/// What the database says.
pub fn begin_session(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    account: &Account,
    login: &Login,
) -> Result<SignedIn> {
    let session = Session {
        id: ctx.mint(),
        user: account.id,
        ends: ctx.now.plus_ms(login.life.max_ms),
        proven: login.proven.map_or(ctx.now, |proven| proven.min(ctx.now)),
    };
    sessions::insert_session(tx, &session, &login.device, ctx.now)?;
    let first = login.first.clone();
    hand_out(tx, ctx, account.clone(), session, login.life, first)
}

fn hand_out(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    account: Account,
    session: Session,
    life: SessionLife,
    refresh: RefreshToken,
) -> Result<SignedIn> {
    let expires = ctx.now.plus_ms(life.idle_ms).min(session.ends);
    sessions::insert_refresh(tx, refresh.hash(), session.id, ctx.now, expires)?;
    Ok(SignedIn {
        account,
        session,
        refresh,
        refresh_ms: expires.ms_since(ctx.now),
    })
}

/// What came of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// A new token.
    Rotated(Box<SignedIn>),
    /// The token had been used: the session was ended. Committed, and then refused.
    Reused(SessionId),
}

/// Replaces a refresh token by its successor.
///
/// # Errors
/// 401 when the token or its session doesn't hold.
pub fn refresh(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    config: &Config,
    key: &hmac::Key,
    token: &RefreshToken,
) -> Result<Refreshed> {
    let successor = token.successor(key);
    if let Some(session) = sessions::use_refresh(tx, token.hash(), ctx.now)? {
        let (session, account) = live(tx, ctx, session)?;
        let life = SessionLife::of(&config.auth, &account.roles);
        let signed_in = hand_out(tx, ctx, account, session, life, successor)?;
        return Ok(Refreshed::Rotated(Box::new(signed_in)));
    }
    let Some((session, Some(used))) = sessions::refresh_token(tx, token.hash())? else {
        return Err(refresh_refused());
    };
    let untouched = matches!(
        sessions::refresh_token(tx, successor.hash())?,
        Some((_, None))
    );
    if untouched && ctx.now.ms_since(used) <= RETRY_MS {
        let (session, account) = live(tx, ctx, session)?;
        let life = SessionLife::of(&config.auth, &account.roles);
        let expires = used.plus_ms(life.idle_ms).min(session.ends);
        return Ok(Refreshed::Rotated(Box::new(SignedIn {
            account,
            session,
            refresh: successor,
            refresh_ms: expires.ms_since(ctx.now),
        })));
    }
    sessions::revoke_session(tx, session, "reuse", ctx.now)?;
    Ok(Refreshed::Reused(session))
}

fn live(tx: &mut dyn Tx, ctx: &OpCtx, session: SessionId) -> Result<(Session, Account)> {
    let session = sessions::live_session(tx, session, ctx.now)?.ok_or_else(refresh_refused)?;
    let account = account(tx, session.user)?;
    Ok((session, account))
}

/// 401 for a refresh token that doesn't hold.
#[must_use]
pub fn refresh_refused() -> Error {
    Error::unauthenticated(
        "refresh_token",
        "the refresh token isn't valid, or no longer: sign in again",
    )
}

/// Ends the session of a refresh token, and returns it; nothing when the token isn't known.
///
/// # Errors
/// What the database says.
pub fn end_session_of(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    token: &RefreshToken,
) -> Result<Option<SessionId>> {
    let Some((session, _)) = sessions::refresh_token(tx, token.hash())? else {
        return Ok(None);
    };
    end_session(tx, ctx, session)?;
    Ok(Some(session))
}

/// Ends a session; does nothing if it has ended.
///
/// # Errors
/// What the database says.
pub fn end_session(tx: &mut dyn Tx, ctx: &OpCtx, session: SessionId) -> Result<()> {
    sessions::revoke_session(tx, session, "logout", ctx.now)
}
