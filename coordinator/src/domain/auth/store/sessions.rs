//! SQL of `sessions` and `refresh_tokens`.

use shared::{
    id::{SessionId, UserId},
    time::Timestamp,
};

use crate::{
    context::OpCtx,
    domain::auth::model::{Device, Session, SessionView},
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

/// Adds a session.
pub(in super::super) fn insert_session(
    tx: &mut dyn Tx,
    session: &Session,
    device: &Device,
    ctx: &OpCtx,
) -> Result<()> {
    tx.execute(
        "INSERT INTO sessions (id, user_id, created_us, ends_us, proven_us, last_used_us, user_agent, client_ip)
         VALUES ($1, $2, $3, $4, $5, $3, $6, $7)",
        params![
            session.id,
            session.user,
            ctx.now,
            session.ends,
            session.proven,
            device.user_agent(),
            ctx.client.map(|ip| ip.to_string())
        ],
    )?;
    Ok(())
}

/// Notes that the person of a session proved who they are; whether it hasn't ended.
pub(in super::super) fn prove(tx: &mut dyn Tx, id: SessionId, now: Timestamp) -> Result<bool> {
    let proven = tx.execute(
        "UPDATE sessions SET proven_us = $1 WHERE id = $2 AND revoked_us IS NULL",
        params![now, id],
    )?;
    Ok(proven == 1)
}

/// A session that is neither revoked nor over, of an account that isn't disabled.
pub(in super::super) fn live_session(
    tx: &mut dyn Tx,
    id: SessionId,
    now: Timestamp,
) -> Result<Option<Session>> {
    let rows = tx.query(
        "SELECT user_id, ends_us, COALESCE(proven_us, created_us) FROM sessions
         WHERE id = $1 AND revoked_us IS NULL AND ends_us > $2
         AND NOT EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user_id AND disabled_us IS NOT NULL)",
        params![id, now],
    )?;
    rows.first()
        .map(|row| {
            Ok(Session {
                id,
                user: row
                    .text(0)?
                    .parse()
                    .map_err(|_| Error::corrupt("sessions", &id.to_string(), "user_id"))?,
                ends: Timestamp::from_micros(row.int(1)?),
                proven: Timestamp::from_micros(row.int(2)?),
            })
        })
        .transpose()
}

/// Ends a session, and returns whose it was; nothing if it has ended before.
pub(in super::super) fn revoke(
    tx: &mut dyn Tx,
    id: SessionId,
    reason: &str,
    now: Timestamp,
) -> Result<Option<UserId>> {
    let rows = tx.query(
        "UPDATE sessions SET revoked_us = $1, revoked_reason = $2 WHERE id = $3 AND revoked_us IS NULL
         RETURNING user_id",
        params![now, reason, id],
    )?;
    rows.first()
        .map(|row| {
            row.text(0)?
                .parse()
                .map_err(|_| Error::corrupt("sessions", &id.to_string(), "user_id"))
        })
        .transpose()
}

/// Ends all sessions of somebody but `keep`; which.
pub(in super::super) fn revoke_others(
    tx: &mut dyn Tx,
    user: UserId,
    keep: Option<SessionId>,
    now: Timestamp,
) -> Result<Vec<SessionId>> {
    let keep = keep.map_or_else(String::new, |id| id.to_string());
    tx.query(
        "UPDATE sessions SET revoked_us = $1, revoked_reason = 'logout'
         WHERE user_id = $2 AND revoked_us IS NULL AND id <> $3 RETURNING id",
        params![now, user, keep],
    )?
    .iter()
    .map(session_of)
    .collect()
}

/// Ends all sessions of somebody because an administrator says so; which.
pub(in super::super) fn revoke_all(
    tx: &mut dyn Tx,
    user: UserId,
    now: Timestamp,
) -> Result<Vec<SessionId>> {
    tx.query(
        "UPDATE sessions SET revoked_us = $1, revoked_reason = 'admin'
         WHERE user_id = $2 AND revoked_us IS NULL RETURNING id",
        params![now, user],
    )?
    .iter()
    .map(session_of)
    .collect()
}

/// Ends the oldest sessions of somebody beyond the newest `count`; which.
pub(in super::super) fn revoke_oldest(
    tx: &mut dyn Tx,
    user: UserId,
    count: i64,
    now: Timestamp,
) -> Result<Vec<SessionId>> {
    tx.query(
        "UPDATE sessions SET revoked_us = $1, revoked_reason = 'logout' WHERE id IN
         (SELECT id FROM sessions WHERE user_id = $2 AND revoked_us IS NULL
          ORDER BY created_us DESC, id DESC LIMIT 1000 OFFSET $3) RETURNING id",
        params![now, user, count],
    )?
    .iter()
    .map(session_of)
    .collect()
}

/// Notes a refresh.
pub(in super::super) fn touch(
    tx: &mut dyn Tx,
    id: SessionId,
    device: &Device,
    ctx: &OpCtx,
) -> Result<()> {
    tx.execute(
        "UPDATE sessions SET last_used_us = $1, user_agent = $2, client_ip = $3 WHERE id = $4",
        params![
            ctx.now,
            device.user_agent(),
            ctx.client.map(|ip| ip.to_string()),
            id
        ],
    )?;
    Ok(())
}

/// The sessions of somebody that can still be refreshed, newest first.
pub(in super::super) fn live_of(
    tx: &mut dyn Tx,
    user: UserId,
    now: Timestamp,
) -> Result<Vec<SessionView>> {
    tx.query(
        "SELECT id, created_us, COALESCE(last_used_us, created_us), ends_us, user_agent, client_ip FROM sessions
         WHERE user_id = $1 AND revoked_us IS NULL AND ends_us > $2 AND EXISTS
         (SELECT 1 FROM refresh_tokens WHERE session_id = sessions.id AND used_us IS NULL AND expires_us > $2)
         ORDER BY created_us DESC, id DESC LIMIT 100",
        params![user, now],
    )?
    .iter()
    .map(|row| {
        Ok(SessionView {
            id: session_of(row)?,
            created: Timestamp::from_micros(row.int(1)?),
            last_used: Timestamp::from_micros(row.int(2)?),
            ends: Timestamp::from_micros(row.int(3)?),
            user_agent: row.opt_text(4)?.map(str::to_owned),
            client: row.opt_text(5)?.map(str::to_owned),
        })
    })
    .collect()
}

/// Adds a refresh token.
pub(in super::super) fn insert_refresh(
    tx: &mut dyn Tx,
    hash: Vec<u8>,
    session: SessionId,
    now: Timestamp,
    expires: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO refresh_tokens (hash, session_id, created_us, expires_us) VALUES ($1, $2, $3, $4)",
        params![hash, session, now, expires],
    )?;
    Ok(())
}

/// Uses up a refresh token: of several who try, one gets the session.
pub(in super::super) fn use_refresh(
    tx: &mut dyn Tx,
    hash: Vec<u8>,
    now: Timestamp,
) -> Result<Option<SessionId>> {
    let rows = tx.query(
        "UPDATE refresh_tokens SET used_us = $1
         WHERE hash = $2 AND used_us IS NULL AND expires_us > $1 RETURNING session_id",
        params![now, hash],
    )?;
    rows.first().map(session_of).transpose()
}

/// The session of a refresh token and when it was used.
pub(in super::super) fn refresh_token(
    tx: &mut dyn Tx,
    hash: Vec<u8>,
) -> Result<Option<(SessionId, Option<Timestamp>)>> {
    let rows = tx.query(
        "SELECT session_id, used_us FROM refresh_tokens WHERE hash = $1",
        params![hash],
    )?;
    rows.first()
        .map(|row| {
            let used = row.opt_int(1)?.map(Timestamp::from_micros);
            Ok((session_of(row)?, used))
        })
        .transpose()
}

/// Forgets sessions that ended before `ended`, oldest first, with their refresh tokens: at most `limit` rows; how many.
pub(in super::super) fn forget_ended(tx: &mut dyn Tx, ended: Timestamp, limit: i64) -> Result<u64> {
    let rows = tx.query(
        "SELECT id FROM sessions WHERE ends_us < $1 ORDER BY ends_us LIMIT $2",
        params![ended, limit],
    )?;
    let (limit, mut removed) = (u64::try_from(limit).unwrap_or(0), 0);
    for row in &rows {
        let id = session_of(row)?;
        let left = i64::try_from(limit - removed).unwrap_or(0);
        removed += tx.execute(
            "DELETE FROM refresh_tokens WHERE hash IN
             (SELECT hash FROM refresh_tokens WHERE session_id = $1 LIMIT $2)",
            params![id, left],
        )?;
        // the session itself goes once its last token has gone
        if removed >= limit {
            break;
        }
        removed += tx.execute("DELETE FROM sessions WHERE id = $1", params![id])?;
        if removed >= limit {
            break;
        }
    }
    Ok(removed)
}

fn session_of(row: &Row) -> Result<SessionId> {
    let text = row.text(0)?;
    text.parse()
        .map_err(|_| Error::corrupt("sessions", text, "id"))
}
