//! Sessions: from an access token to a person, with a short memory so that not every request asks the database.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::json;
use shared::{
    id::{SessionId, UserId},
    secret::Secret,
    time::Timestamp,
};

use super::{
    delays::{self, Tried},
    login,
    model::{self, Account, SessionView},
    password::NO_PASSWORD,
    second_factor,
    store::{self, second_factors, sessions},
};
use crate::{
    app::App,
    config::SecondFactor,
    context::{OpCtx, Role, User},
    domain::audit,
    error::{Error, Kind, Result},
    limits::{Action, Caller},
    store::Tx,
};

/// What moves money or changes who somebody is asks for a proof no older than this.
pub const FRESH_MS: i64 = 5 * 60_000;

/// A session that was revoked elsewhere, or a role that was taken away, may be believed for so long.
const TRUSTED_MS: i64 = 30_000;
const ENTRIES_MAX: usize = 10_000;

/// Sessions that were found alive lately.
#[derive(Debug, Default)]
pub struct LiveSessions {
    entries: Mutex<HashMap<SessionId, Entry>>,
    /// How often something was forgotten: what was read before the last time isn't remembered.
    forgotten: AtomicU64,
}

#[derive(Debug, Clone)]
struct Entry {
    user: User,
    ends: Timestamp,
    checked_ms: i64,
}

impl LiveSessions {
    /// Forgets a session: its next use asks the database.
    pub fn forget(&self, id: SessionId) {
        let mut entries = self.lock();
        self.forgotten.fetch_add(1, Ordering::Relaxed);
        entries.remove(&id);
    }

    /// Forgets several.
    pub fn forget_all(&self, ids: &[SessionId]) {
        for id in ids {
            self.forget(*id);
        }
    }

    fn get(&self, id: SessionId, now: Timestamp, now_ms: i64) -> Option<User> {
        self.lock()
            .get(&id)
            .filter(|entry| now_ms.saturating_sub(entry.checked_ms) < TRUSTED_MS)
            .filter(|entry| entry.ends > now)
            .map(|entry| entry.user.clone())
    }

    /// Remembers what was read since `forgotten`, unless something was forgotten meanwhile: it may be that.
    fn put(&self, entry: Entry, forgotten: u64) {
        let mut entries = self.lock();
        if self.forgotten.load(Ordering::Relaxed) != forgotten {
            return;
        }
        if entries.len() >= ENTRIES_MAX {
            let oldest_ms = entry.checked_ms.saturating_sub(TRUSTED_MS);
            entries.retain(|_, entry| entry.checked_ms > oldest_ms);
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
        }
        entries.insert(entry.user.session, entry);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The person whom an access token stands for, if their session still holds.
///
/// # Errors
/// 401 when the token or its session doesn't hold; 503 when the database can't be asked.
pub async fn authenticate(app: &App, token: &str) -> Result<User> {
    let now = app.clock.now();
    let (user, session) = app.auth.access.verify(token, now)?;
    let found = live_user(app, session).await?;
    found.filter(|found| found.id == user).ok_or_else(ended)
}

/// 401 for a session that doesn't hold any more.
#[must_use]
pub fn ended() -> Error {
    Error::unauthenticated(
        "session_ended",
        "this session was signed out or has ended: sign in again",
    )
}

/// Notes that the person of a session proved who they are, just now.
///
/// # Errors
/// 401 when the session has ended.
pub fn prove(tx: &mut dyn Tx, ctx: &OpCtx, session: SessionId) -> Result<()> {
    if sessions::prove(tx, session, ctx.now)? {
        Ok(())
    } else {
        Err(ended())
    }
}

/// The person of a session that still holds, as known for at most 30 s.
///
/// # Errors
/// What the database says.
pub async fn live_user(app: &App, session: SessionId) -> Result<Option<User>> {
    let (now, now_ms) = (app.clock.now(), app.clock.boot_ms());
    if let Some(user) = app.auth.live.get(session, now, now_ms) {
        return Ok(Some(user));
    }
    let admins_need_code = app.config.auth.admin_second_factor == SecondFactor::Required;
    let forgotten = app.auth.live.forgotten.load(Ordering::Relaxed);
    let found = app
        .db
        .read("auth.session", move |tx| {
            let Some(live) = sessions::live_session(tx, session, now)? else {
                return Ok(None);
            };
            let mut roles = store::roles(tx, live.user)?;
            // without the factor that is asked of them, an administrator is like everybody else
            if admins_need_code && roles.contains(&Role::Admin) {
                let found = second_factors::find(tx, live.user)?;
                if !found.is_some_and(|found| found.in_force) {
                    roles.remove(&Role::Admin);
                }
            }
            Ok(Some((live, roles)))
        })
        .await?;
    Ok(found.map(|(live, roles)| {
        let user = User {
            id: live.user,
            roles,
            session,
            proven_at: live.proven,
        };
        let entry = Entry {
            user: user.clone(),
            ends: live.ends,
            checked_ms: now_ms,
        };
        app.auth.live.put(entry, forgotten);
        user
    }))
}

/// Passes only a person who proved who they are within [`FRESH_MS`], in this session.
///
/// # Errors
/// 401 for anybody who isn't signed in; 403 `step_up_required` when the proof is older.
pub fn require_fresh(ctx: &OpCtx) -> Result<()> {
    if ctx.now.ms_since(ctx.signed_in()?.proven_at) <= FRESH_MS {
        return Ok(());
    }
    Err(Error::new(
        Kind::Forbidden,
        "step_up_required",
        "this needs a fresh proof of who you are: POST /api/v1/auth/step-up, then try again",
    ))
}

/// The account of `user`, after `password` was found to be theirs, and the hash that it matched. Counts as an attempt.
///
/// # Errors
/// 403 when it isn't, 429 when it was tried too often, 503 when too many hash.
pub async fn prove_password(
    app: &Arc<App>,
    ctx: &OpCtx,
    user: UserId,
    password: String,
) -> Result<(Account, String)> {
    let ctx = ctx.clone();
    let (account, hash) = app
        .db
        .read("auth.proof", move |tx| super::account_with_hash(tx, user))
        .await?;
    must_wait(app, &ctx, &account).await?;
    count_login(app, &account)?;
    if hash == NO_PASSWORD {
        return Err(no_password());
    }
    let password = model::new_password(password).map_err(|_| proof_refused())?;
    if !app.auth.passwords.verify(password, Some(&hash)).await? {
        let (state, meant) = (Arc::clone(app), account.clone());
        let note = move |tx: &mut dyn Tx| failed(tx, &ctx, &state, &meant);
        app.db.write("auth.proof_refused", note).await?;
        return Err(proof_refused());
    }
    Ok((account, hash))
}

/// Passes an account that needn't wait after failures.
async fn must_wait(app: &Arc<App>, ctx: &OpCtx, account: &Account) -> Result<()> {
    let (state, now) = (Arc::clone(app), ctx.now);
    let tried = [Tried::Account(account.email.clone())];
    app.db
        .read("auth.delays", move |tx| {
            state.auth.delays.check(tx, now, &tried)
        })
        .await
}

fn failed(tx: &mut dyn Tx, ctx: &OpCtx, app: &App, account: &Account) -> Result<()> {
    let tried = [Tried::Account(account.email.clone())];
    login::note_failure(tx, ctx, &app.auth.delays, &tried, Some(account.id))
}

/// What somebody proves with who they are.
#[derive(Debug)]
pub struct Proof {
    /// Their password.
    pub password: Option<Secret<String>>,
    /// A code of the second factor.
    pub code: Option<Secret<String>>,
}

/// Takes a proof of who asks: the code where a second factor is in force, else the password; what is sent besides must be right too.
///
/// # Errors
/// 403 when it is wrong or not enough, 429 when it was tried too often, 503 when too many hash.
pub async fn step_up(app: &Arc<App>, ctx: OpCtx, proof: Proof) -> Result<()> {
    let user = ctx.signed_in()?.clone();
    let account = app
        .db
        .read("auth.me", move |tx| super::account(tx, user.id))
        .await?;
    if account.second_factor && proof.code.is_none() {
        return Err(second_factor::code_needed());
    }
    match proof.password {
        Some(password) => {
            prove_password(app, &ctx, account.id, password.expose().clone()).await?;
        }
        None if account.second_factor => {
            must_wait(app, &ctx, &account).await?;
            count_login(app, &account)?;
        }
        None => return Err(proof_refused()),
    }
    let (session, state) = (ctx.signed_in()?.session, Arc::clone(app));
    let proven = app
        .db
        .write("auth.step_up", move |tx| {
            let factors = &state.auth.second_factors;
            let code = proof.code.as_ref().filter(|_| account.second_factor);
            if let Some(code) = code
                && !factors.accepts(tx, &ctx, account.id, code.expose())?
            {
                failed(tx, &ctx, &state, &account)?;
                return Ok(false);
            }
            delays::forgive(tx, &account.email)?;
            prove(tx, &ctx, session)?;
            Ok(true)
        })
        .await?;
    app.auth.live.forget(session);
    if proven { Ok(()) } else { Err(proof_refused()) }
}

/// Counts an attempt to prove that one is the owner of `account`, together with logins to it.
pub(super) fn count_login(app: &App, account: &Account) -> Result<()> {
    let caller = Caller::Email(account.email.clone());
    app.limits.count(Action::Login, caller, app.clock.boot_ms())
}

/// 403 for a proof of who somebody is that isn't one. Their session goes on: it isn't 401.
#[must_use]
pub fn proof_refused() -> Error {
    Error::new(
        Kind::Forbidden,
        "proof_refused",
        "the password or the code is wrong; the session goes on as before",
    )
}

/// 403 for a password where there is none. Its owner may know.
fn no_password() -> Error {
    Error::new(
        Kind::Forbidden,
        "no_password",
        "this account has no password: sign in again at your provider with prove_again=true, or set a password by \
         POST /api/v1/auth/password/forgot",
    )
}

/// The sessions of who asks, newest first; at most a hundred are kept.
///
/// # Errors
/// 401 for anybody who isn't signed in.
pub fn list(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Vec<SessionView>> {
    sessions::live_of(tx, ctx.signed_in()?.id, ctx.now)
}

/// Ends a session of who asks.
///
/// # Errors
/// 404 when it isn't theirs or has ended.
pub fn end_own(tx: &mut dyn Tx, ctx: &OpCtx, id: SessionId) -> Result<()> {
    let user = ctx.signed_in()?.id;
    let live = sessions::live_session(tx, id, ctx.now)?;
    if live.is_none_or(|session| session.user != user) {
        return Err(Error::not_found("session"));
    }
    super::end_session(tx, ctx, id)
}

/// Ends all sessions of who asks but the one that asks; which.
///
/// # Errors
/// 401 for anybody who isn't signed in.
pub fn end_others(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Vec<SessionId>> {
    let user = ctx.signed_in()?;
    let ended = sessions::revoke_others(tx, user.id, Some(user.session), ctx.now)?;
    if !ended.is_empty() {
        let entry = audit::Entry::of("sessions.ended", user.id);
        audit::record(
            tx,
            ctx,
            entry.after(json!({ "sessions": ended, "by": "owner" })),
        )?;
    }
    Ok(ended)
}

/// Ends all sessions of somebody; which. The caller records it.
///
/// # Errors
/// 404 when there is no such account.
pub fn end_all(tx: &mut dyn Tx, ctx: &OpCtx, id: UserId) -> Result<Vec<SessionId>> {
    super::account(tx, id)?;
    sessions::revoke_all(tx, id, ctx.now)
}
