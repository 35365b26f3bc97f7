//! SQL of `identities` and `oidc_used`.

use shared::{
    id::{IdentityId, UserId},
    time::Timestamp,
};

use super::model::Identity;
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

/// Notes that an attempt was used; false when it was already.
pub(super) fn use_up(
    tx: &mut dyn Tx,
    digest: Vec<u8>,
    expires: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    tx.execute("DELETE FROM oidc_used WHERE expires_us <= $1", params![now])?;
    let added = tx.execute(
        "INSERT INTO oidc_used (digest, expires_us) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
        params![digest, expires],
    )?;
    Ok(added == 1)
}

/// Adds an identity; false when (issuer, subject) has an account already.
pub(super) fn insert(tx: &mut dyn Tx, identity: &Identity) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO identities (id, user_id, provider, issuer, subject, email, created_us, last_used_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (issuer, subject) DO NOTHING",
        params![
            identity.id,
            identity.user,
            identity.provider.as_str(),
            identity.issuer.as_str(),
            identity.subject.as_str(),
            identity.email.as_deref(),
            identity.created,
        ],
    )?;
    Ok(added == 1)
}

/// The identity of somebody elsewhere.
pub(super) fn by_subject(tx: &mut dyn Tx, issuer: &str, subject: &str) -> Result<Option<Identity>> {
    let rows = tx.query(
        "SELECT id, user_id, provider, issuer, subject, email, created_us, last_used_us
         FROM identities WHERE issuer = $1 AND subject = $2",
        params![issuer, subject],
    )?;
    rows.first().map(identity).transpose()
}

/// The identities of an account, oldest first.
pub(super) fn of_user(tx: &mut dyn Tx, user: UserId) -> Result<Vec<Identity>> {
    tx.query(
        "SELECT id, user_id, provider, issuer, subject, email, created_us, last_used_us
         FROM identities WHERE user_id = $1 ORDER BY created_us, id",
        params![user],
    )?
    .iter()
    .map(identity)
    .collect()
}

/// Notes that somebody signed in with it, and the address that was told.
pub(super) fn note_use(
    tx: &mut dyn Tx,
    id: IdentityId,
    email: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE identities SET last_used_us = $1, email = COALESCE($2, email) WHERE id = $3",
        params![now, email, id],
    )?;
    Ok(())
}

/// Removes an identity.
pub(super) fn delete(tx: &mut dyn Tx, id: IdentityId) -> Result<()> {
    tx.execute("DELETE FROM identities WHERE id = $1", params![id])?;
    Ok(())
}

fn identity(row: &Row) -> Result<Identity> {
    let id = row.text(0)?;
    let corrupt = |column| Error::corrupt("identities", id, column);
    Ok(Identity {
        id: id.parse().map_err(|_| corrupt("id"))?,
        user: row.text(1)?.parse().map_err(|_| corrupt("user_id"))?,
        provider: row.text(2)?.to_owned(),
        issuer: row.text(3)?.to_owned(),
        subject: row.text(4)?.to_owned(),
        email: row.opt_text(5)?.map(str::to_owned),
        created: row.int(6).map(Timestamp::from_micros)?,
        last_used: row.int(7).map(Timestamp::from_micros)?,
    })
}
