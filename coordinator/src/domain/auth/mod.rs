//! Accounts and sessions: signup, [`login`], logout; [`refresh`], [`session`]s and their fresh proof, and what changes an
//! [`mod@account`]: passwords, e-mail addresses, the [`links`] that arrive by mail.
//!
//! # Invariants
//! - A password is never stored, only its argon2id hash; a refresh token only its SHA-256.
//! - Whether an account exists can't be told from a failed login: neither by its text nor by its time.

pub mod account;
pub mod api;
pub mod cookies;
pub mod delays;
mod guessable;
mod letters;
pub mod links;
pub mod login;
pub mod model;
pub mod password;
pub mod refresh;
pub mod retention;
pub mod second_factor;
pub mod session;
mod store;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod token;
mod totp;

use std::collections::BTreeSet;

use ring::hmac;
use serde_json::json;
use shared::{
    id::{SessionId, UserId},
    secret::Secret,
    time::Timestamp,
};

pub use self::session::{authenticate, require_fresh};
use self::{
    cookies::Cookies,
    delays::Delays,
    model::{Account, Device, Email, Session, SessionLife},
    password::Passwords,
    second_factor::SecondFactors,
    session::LiveSessions,
    store::sessions,
    token::{AccessTokens, RefreshToken},
};
use super::audit::{self, Entry};
use crate::{
    config::Config,
    context::{Actor, OpCtx, Role, User},
    error::{Error, Kind, Result},
    keys::Keys,
    store::Tx,
};

/// Sessions that somebody may have at once; a further login ends the oldest.
pub const SESSIONS_MAX: i64 = 100;

/// What the slice keeps in memory.
#[derive(Debug)]
pub struct AuthState {
    /// Names and attributes of our cookies.
    pub cookies: Cookies,
    /// Signs and checks access tokens.
    pub access: AccessTokens,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Who fails waits.
    pub delays: Delays,
    /// Sessions found alive lately.
    pub live: LiveSessions,
    /// Codes of authenticator apps.
    pub second_factors: SecondFactors,
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
            delays: Delays::new(auth),
            live: LiveSessions::default(),
            second_factors: SecondFactors::new(&keys.token),
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

/// What somebody who signed in takes along.
#[derive(Debug)]
pub struct Handed {
    /// The access token.
    pub access: Secret<String>,
    /// For how many seconds it holds.
    pub expires_in: i64,
    /// Both tokens as `Set-Cookie`, for browsers.
    pub cookies: [String; 2],
}

impl AuthState {
    /// The tokens of somebody who signed in at `now`.
    ///
    /// # Errors
    /// The token can't be signed.
    pub fn hand_over(&self, now: Timestamp, signed_in: &SignedIn) -> Result<Handed> {
        let session = &signed_in.session;
        let (access, expires_in) =
            self.access
                .sign(signed_in.account.id, session.id, now, session.ends)?;
        let (refresh, refresh_s) = (signed_in.refresh.expose(), signed_in.refresh_ms / 1_000);
        let cookies = [
            self.cookies.set_access(access.expose(), expires_in),
            self.cookies.set_refresh(refresh, refresh_s),
        ];
        Ok(Handed {
            access,
            expires_in,
            cookies,
        })
    }
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
        verified: None,
        second_factor: false,
        disabled: None,
    };
    store::insert_user(tx, &account, password_hash)?.ok_or_else(email_taken)?;
    let state = serde_json::json!({ "email": account.email, "roles": account.roles });
    audit::record(
        tx,
        ctx,
        Entry::of("account.created", account.id).after(state),
    )?;
    Ok(account)
}

fn email_taken() -> Error {
    Error::conflict(
        "email_taken",
        "there is an account with this address: sign in instead",
    )
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
    store::replace_hash(tx, id, old, new).map(|_| ())
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
/// 403 `account_disabled`; what the database says.
pub fn begin_session(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    account: &Account,
    login: &Login,
) -> Result<SignedIn> {
    if account.disabled.is_some() {
        return Err(Error::new(
            Kind::Forbidden,
            "account_disabled",
            "an administrator disabled this account: write to the operator of this market",
        ));
    }
    let session = Session {
        id: ctx.mint(),
        user: account.id,
        ends: ctx.now.plus_ms(login.life.max_ms),
        proven: login.proven.map_or(ctx.now, |proven| proven.min(ctx.now)),
    };
    sessions::insert_session(tx, &session, &login.device, ctx)?;
    // their access tokens hold for as long as a memory of them
    let ended = sessions::revoke_oldest(tx, account.id, SESSIONS_MAX, ctx.now)?;
    let actor = Actor::User(User {
        id: account.id,
        roles: account.roles.clone(),
        session: session.id,
        proven_at: ctx.now,
    });
    let after = json!({ "user_agent": login.device.user_agent(), "in_place_of": ended });
    let entry = Entry::of("session.begun", session.id).after(after);
    let first = login.first.clone();
    let signed_in = hand_out(tx, ctx, account.clone(), session, login.life, first)?;
    audit::record(tx, &ctx.acting_as(actor), entry)?;
    Ok(signed_in)
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
    let Some(owner) = sessions::revoke(tx, session, "logout", ctx.now)? else {
        return Ok(());
    };
    let after = json!({ "by": "owner", "account": owner });
    audit::record(tx, ctx, Entry::of("session.ended", session).after(after))
}
