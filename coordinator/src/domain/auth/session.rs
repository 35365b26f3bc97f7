//! Sessions: from an access token to a person, with a short memory so that not every request asks the database.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use shared::{id::SessionId, time::Timestamp};

use super::store::{self, sessions};
use crate::{
    app::App,
    context::{OpCtx, User},
    error::{Error, Kind, Result},
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
    let forgotten = app.auth.live.forgotten.load(Ordering::Relaxed);
    let found = app
        .db
        .read("auth.session", move |tx| {
            let Some(live) = sessions::live_session(tx, session, now)? else {
                return Ok(None);
            };
            let roles = store::roles(tx, live.user)?;
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
