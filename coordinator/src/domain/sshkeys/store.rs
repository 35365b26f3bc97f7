//! SQL of `ssh_keys` and `rental_ssh_keys`.

use shared::{
    id::{RentalId, SshKeyId, UserId},
    time::Timestamp,
};

use super::model::{PublicKey, StoredKey};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "id, user_id, name, public_key, created_us, last_used_us";

fn parse(row: &Row) -> Result<StoredKey> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("ssh_keys", id, column);
    Ok(StoredKey {
        id: id.parse().map_err(|_| bad("id"))?,
        user: row.text(1)?.parse().map_err(|_| bad("user_id"))?,
        name: row.text(2)?.to_owned(),
        key: PublicKey::parse(row.text(3)?).map_err(|_| bad("public_key"))?,
        created: Timestamp::from_micros(row.int(4)?),
        last_used: row.opt_int(5)?.map(Timestamp::from_micros),
    })
}

pub(super) fn insert(tx: &mut dyn Tx, key: &StoredKey) -> Result<()> {
    tx.execute(
        "INSERT INTO ssh_keys (id, user_id, name, public_key, fingerprint, created_us, last_used_us)
         VALUES ($1, $2, $3, $4, $5, $6, NULL)",
        params![
            key.id,
            key.user,
            key.name.as_str(),
            key.key.line(),
            key.key.fingerprint(),
            key.created
        ],
    )?;
    Ok(())
}

/// A person's keys, oldest first.
pub(super) fn of_user(tx: &mut dyn Tx, user: UserId, limit: i64) -> Result<Vec<StoredKey>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM ssh_keys WHERE user_id = $1 ORDER BY id LIMIT $2"),
        params![user, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// A person's key with this fingerprint.
pub(super) fn by_fingerprint(
    tx: &mut dyn Tx,
    user: UserId,
    fingerprint: &str,
) -> Result<Option<StoredKey>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM ssh_keys WHERE user_id = $1 AND fingerprint = $2"),
        params![user, fingerprint],
    )?;
    rows.first().map(parse).transpose()
}

/// Removes a key of a person's; `None` if it isn't theirs.
pub(super) fn remove(tx: &mut dyn Tx, user: UserId, id: SshKeyId) -> Result<Option<StoredKey>> {
    let rows = tx.query(
        &format!("DELETE FROM ssh_keys WHERE id = $1 AND user_id = $2 RETURNING {COLUMNS}"),
        params![id, user],
    )?;
    rows.first().map(parse).transpose()
}

/// Notes a use, unless one after `unless_since` is noted.
pub(super) fn note_use(
    tx: &mut dyn Tx,
    id: SshKeyId,
    now: Timestamp,
    unless_since: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE ssh_keys SET last_used_us = $1 WHERE id = $2 AND (last_used_us IS NULL OR last_used_us <= $3)",
        params![now, id, unless_since],
    )?;
    Ok(())
}

fn rental_key(row: &Row) -> Result<PublicKey> {
    let line = row.text(0)?;
    PublicKey::parse(line).map_err(|_| Error::corrupt("rental_ssh_keys", line, "public_key"))
}

/// A rental's own keys, in the order in which they were given.
pub(super) fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Vec<PublicKey>> {
    let rows = tx.query(
        "SELECT public_key FROM rental_ssh_keys WHERE rental_id = $1 ORDER BY place",
        params![rental],
    )?;
    rows.iter().map(rental_key).collect()
}

/// A rental's own key with this fingerprint.
pub(super) fn rental_key_by_fingerprint(
    tx: &mut dyn Tx,
    rental: RentalId,
    fingerprint: &str,
) -> Result<Option<PublicKey>> {
    let rows = tx.query(
        "SELECT public_key FROM rental_ssh_keys WHERE rental_id = $1 AND fingerprint = $2",
        params![rental, fingerprint],
    )?;
    rows.first().map(rental_key).transpose()
}

pub(super) fn give_to_rental(tx: &mut dyn Tx, rental: RentalId, keys: &[PublicKey]) -> Result<()> {
    for (place, key) in (0_i64..).zip(keys) {
        tx.execute(
            "INSERT INTO rental_ssh_keys (rental_id, fingerprint, public_key, place) VALUES ($1, $2, $3, $4)",
            params![rental, key.fingerprint(), key.line(), place],
        )?;
    }
    Ok(())
}

pub(super) fn take_from_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<()> {
    tx.execute(
        "DELETE FROM rental_ssh_keys WHERE rental_id = $1",
        params![rental],
    )?;
    Ok(())
}
