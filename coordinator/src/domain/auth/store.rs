//! SQL of `users`, `user_roles`, `sessions` and `refresh_tokens`.

use std::collections::BTreeSet;

use shared::{
    id::{SessionId, UserId},
    time::Timestamp,
};

use super::model::{Account, Email, Session};
use crate::{
    context::Role,
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

/// Adds an account; nothing when the address is taken.
pub(super) fn insert_user(
    tx: &mut dyn Tx,
    account: &Account,
    password_hash: &str,
) -> Result<Option<()>> {
    let added = tx.execute(
        "INSERT INTO users (id, email, password_hash, created_us) VALUES ($1, $2, $3, $4)
         ON CONFLICT (email) DO NOTHING",
        params![
            account.id,
            account.email.as_str(),
            password_hash,
            account.created
        ],
    )?;
    if added == 0 {
        return Ok(None);
    }
    for role in &account.roles {
        insert_role(tx, account.id, *role, account.created)?;
    }
    Ok(Some(()))
}

/// Gives a role; does nothing if it is there already.
pub(super) fn insert_role(tx: &mut dyn Tx, user: UserId, role: Role, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO user_roles (user_id, role, granted_us) VALUES ($1, $2, $3)
         ON CONFLICT (user_id, role) DO NOTHING",
        params![user, role.name(), now],
    )?;
    Ok(())
}

/// The account of an address, with its password hash.
pub(super) fn user_by_email(tx: &mut dyn Tx, email: &Email) -> Result<Option<(Account, String)>> {
    let rows = tx.query(
        "SELECT id, email, created_us, password_hash FROM users WHERE email = $1",
        params![email.as_str()],
    )?;
    match rows.first() {
        Some(row) => Ok(Some((account_of(tx, row)?, row.text(3)?.to_owned()))),
        None => Ok(None),
    }
}

/// An account.
pub(super) fn user(tx: &mut dyn Tx, id: UserId) -> Result<Option<Account>> {
    let rows = tx.query(
        "SELECT id, email, created_us FROM users WHERE id = $1",
        params![id],
    )?;
    rows.first().map(|row| account_of(tx, row)).transpose()
}

/// Replaces a password's hash if it is still `old`.
pub(super) fn replace_hash(tx: &mut dyn Tx, id: UserId, old: &str, new: &str) -> Result<()> {
    tx.execute(
        "UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3",
        params![new, id, old],
    )?;
    Ok(())
}

/// The roles of a person.
pub(super) fn roles(tx: &mut dyn Tx, id: UserId) -> Result<BTreeSet<Role>> {
    tx.query(
        "SELECT role FROM user_roles WHERE user_id = $1",
        params![id],
    )?
    .iter()
    .map(|row| {
        Role::from_name(row.text(0)?)
            .ok_or_else(|| Error::corrupt("user_roles", &id.to_string(), "role"))
    })
    .collect()
}

/// Adds a session.
pub(super) fn insert_session(tx: &mut dyn Tx, session: &Session, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO sessions (id, user_id, created_us, ends_us) VALUES ($1, $2, $3, $4)",
        params![session.id, session.user, now, session.ends],
    )?;
    Ok(())
}

/// A session that is neither revoked nor over.
pub(super) fn live_session(
    tx: &mut dyn Tx,
    id: SessionId,
    now: Timestamp,
) -> Result<Option<Session>> {
    let rows = tx.query(
        "SELECT user_id, ends_us FROM sessions WHERE id = $1 AND revoked_us IS NULL AND ends_us > $2",
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
            })
        })
        .transpose()
}

/// Ends a session; does nothing if it has ended.
pub(super) fn revoke_session(
    tx: &mut dyn Tx,
    id: SessionId,
    reason: &str,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE sessions SET revoked_us = $1, revoked_reason = $2 WHERE id = $3 AND revoked_us IS NULL",
        params![now, reason, id],
    )?;
    Ok(())
}

/// Adds a refresh token.
pub(super) fn insert_refresh(
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
pub(super) fn use_refresh(
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
pub(super) fn refresh_token(
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

fn session_of(row: &Row) -> Result<SessionId> {
    let text = row.text(0)?;
    text.parse()
        .map_err(|_| Error::corrupt("refresh_tokens", text, "session_id"))
}

fn account_of(tx: &mut dyn Tx, row: &Row) -> Result<Account> {
    let text = row.text(0)?;
    let id = text
        .parse()
        .map_err(|_| Error::corrupt("users", text, "id"))?;
    Ok(Account {
        id,
        email: row.text(1)?.to_owned(),
        roles: roles(tx, id)?,
        created: row.int(2).map(Timestamp::from_micros)?,
    })
}
