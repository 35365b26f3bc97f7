//! SQL of `users` and `user_roles`; [`sessions`] has that of sessions and their tokens.

pub(super) mod delays;
pub(super) mod links;
pub(super) mod second_factors;
pub(super) mod sessions;

use std::collections::BTreeSet;

use shared::{id::UserId, time::Timestamp};

use super::model::{Account, Email};
use crate::{
    context::Role,
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

/// What [`account_of`] reads.
const COLUMNS: &str = "id, email, created_us, email_verified_us,
    (SELECT COUNT(*) FROM second_factors WHERE user_id = users.id AND confirmed_us IS NOT NULL),
    disabled_us";

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

/// Takes a role away; does nothing if it isn't there.
pub(super) fn delete_role(tx: &mut dyn Tx, user: UserId, role: Role) -> Result<()> {
    tx.execute(
        "DELETE FROM user_roles WHERE user_id = $1 AND role = $2",
        params![user, role.name()],
    )?;
    Ok(())
}

/// Accounts after a cursor.
pub(super) fn page(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<Account>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM users WHERE id > $1 ORDER BY id LIMIT $2"),
        params![after, limit],
    )?;
    rows.iter().map(|row| account_of(tx, row)).collect()
}

/// The addresses of administrators, at most `limit`.
pub(super) fn administrators(tx: &mut dyn Tx, limit: i64) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT u.email FROM user_roles r JOIN users u ON u.id = r.user_id WHERE r.role = 'admin' ORDER BY r.user_id LIMIT $1",
        params![limit],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// The account of an address, with its password hash.
pub(super) fn user_by_email(tx: &mut dyn Tx, email: &Email) -> Result<Option<(Account, String)>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS}, password_hash FROM users WHERE email = $1"),
        params![email.as_str()],
    )?;
    match rows.first() {
        Some(row) => Ok(Some((account_of(tx, row)?, row.text(6)?.to_owned()))),
        None => Ok(None),
    }
}

/// An account.
pub(super) fn user(tx: &mut dyn Tx, id: UserId) -> Result<Option<Account>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM users WHERE id = $1"),
        params![id],
    )?;
    rows.first().map(|row| account_of(tx, row)).transpose()
}

/// An account with its password hash.
pub(super) fn user_with_hash(tx: &mut dyn Tx, id: UserId) -> Result<Option<(Account, String)>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS}, password_hash FROM users WHERE id = $1"),
        params![id],
    )?;
    match rows.first() {
        Some(row) => Ok(Some((account_of(tx, row)?, row.text(6)?.to_owned()))),
        None => Ok(None),
    }
}

/// Locks an account's row until the transaction ends, and returns its password hash.
pub(super) fn hold_user(tx: &mut dyn Tx, id: UserId) -> Result<Option<String>> {
    let rows = tx.query(
        "UPDATE users SET password_hash = password_hash WHERE id = $1 RETURNING password_hash",
        params![id],
    )?;
    rows.first()
        .map(|row| Ok(row.text(0)?.to_owned()))
        .transpose()
}

/// Replaces a password's hash if it is still `old`; whether it was.
pub(super) fn replace_hash(tx: &mut dyn Tx, id: UserId, old: &str, new: &str) -> Result<bool> {
    let replaced = tx.execute(
        "UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3",
        params![new, id, old],
    )?;
    Ok(replaced == 1)
}

/// Notes that mail to `email` arrives, if that is still the address; whether it is.
pub(super) fn verify_email(
    tx: &mut dyn Tx,
    id: UserId,
    email: &str,
    now: Timestamp,
) -> Result<bool> {
    let verified = tx.execute(
        "UPDATE users SET email_verified_us = $1 WHERE id = $2 AND email = $3",
        params![now, id, email],
    )?;
    Ok(verified == 1)
}

/// Gives an account another address, which is known to work.
pub(super) fn set_email(tx: &mut dyn Tx, id: UserId, email: &Email, now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE users SET email = $1, email_verified_us = $2 WHERE id = $3",
        params![email.as_str(), now, id],
    )?;
    Ok(())
}

/// Closes an account from `since` on, or opens it; whether that changed anything.
pub(super) fn set_disabled(tx: &mut dyn Tx, id: UserId, since: Option<Timestamp>) -> Result<bool> {
    let changed = match since {
        Some(since) => tx.execute(
            "UPDATE users SET disabled_us = $1 WHERE id = $2 AND disabled_us IS NULL",
            params![since, id],
        )?,
        None => tx.execute(
            "UPDATE users SET disabled_us = NULL WHERE id = $1 AND disabled_us IS NOT NULL",
            params![id],
        )?,
    };
    Ok(changed == 1)
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
        verified: row.opt_int(3)?.map(Timestamp::from_micros),
        second_factor: row.int(4)? > 0,
        disabled: row.opt_int(5)?.map(Timestamp::from_micros),
    })
}
