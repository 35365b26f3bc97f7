//! Sessions: from an access token to a person, with a short memory so that not every request asks the database.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use shared::{id::SessionId, time::Timestamp};

use super::store;
use crate::{
    app::App,
    context::User,
    error::{Error, Result},
};

/// A session that was revoked elsewhere, or a role that was taken away, may be believed for so long.
const TRUSTED_MS: i64 = 30_000;
const ENTRIES_MAX: usize = 10_000;

/// Sessions that were found alive lately.
#[derive(Debug, Default)]
pub struct LiveSessions {
    entries: Mutex<HashMap<SessionId, Entry>>,
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
        self.lock().remove(&id);
    }

    fn get(&self, id: SessionId, now: Timestamp, now_ms: i64) -> Option<User> {
        self.lock()
            .get(&id)
            .filter(|entry| now_ms.saturating_sub(entry.checked_ms) < TRUSTED_MS)
            .filter(|entry| entry.ends > now)
            .map(|entry| entry.user.clone())
    }

    fn put(&self, entry: Entry) {
        let mut entries = self.lock();
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
    found.filter(|found| found.id == user).ok_or_else(|| {
        Error::unauthenticated(
            "session_ended",
            "this session was signed out or has ended: sign in again",
        )
    })
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
    let found = app
        .db
        .read("auth.session", move |tx| {
            let Some(live) = store::live_session(tx, session, now)? else {
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
        };
        app.auth.live.put(Entry {
            user: user.clone(),
            ends: live.ends,
            checked_ms: now_ms,
        });
        user
    }))
}
