//! SQL of `api_keys`.

use std::collections::BTreeSet;

use shared::{
    id::{ApiKeyId, UserId},
    time::Timestamp,
};

use super::model::StoredKey;
use crate::{
    context::Scope,
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "id, user_id, name, secret_hash, scopes, addresses, created_us, expires_us, revoked_us, last_used_us, \
     last_used_from";

fn parse(row: &Row) -> Result<StoredKey> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("api_keys", id, column);
    let scopes = row.text(4)?.split_whitespace().map(Scope::from_name);
    let addresses = row.text(5)?.split_whitespace().map(str::parse);
    Ok(StoredKey {
        id: id.parse().map_err(|_| bad("id"))?,
        user: row.text(1)?.parse().map_err(|_| bad("user_id"))?,
        name: row.text(2)?.to_owned(),
        secret_hash: row.blob(3)?.to_vec(),
        scopes: scopes.collect::<Option<_>>().ok_or_else(|| bad("scopes"))?,
        addresses: addresses
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| bad("addresses"))?,
        created: Timestamp::from_micros(row.int(6)?),
        expires: Timestamp::from_micros(row.int(7)?),
        revoked: row.opt_int(8)?.map(Timestamp::from_micros),
        last_used: row.opt_int(9)?.map(Timestamp::from_micros),
        last_used_from: row.opt_text(10)?.map(str::to_owned),
    })
}

fn words<T>(items: impl IntoIterator<Item = T>, word: impl Fn(T) -> String) -> String {
    items.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

pub(super) fn insert(tx: &mut dyn Tx, key: &StoredKey) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO api_keys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, NULL, NULL)"
        ),
        params![
            key.id,
            key.user,
            key.name.as_str(),
            key.secret_hash.clone(),
            scope_words(&key.scopes),
            words(&key.addresses, ToString::to_string),
            key.created,
            key.expires
        ],
    )?;
    Ok(())
}

fn scope_words(scopes: &BTreeSet<Scope>) -> String {
    words(scopes, |scope| scope.name().to_owned())
}

pub(super) fn by_id(tx: &mut dyn Tx, id: ApiKeyId) -> Result<Option<StoredKey>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM api_keys WHERE id = $1"),
        params![id],
    )?;
    rows.first().map(parse).transpose()
}

/// A person's keys after a cursor, the ended ones too.
pub(super) fn page(
    tx: &mut dyn Tx,
    user: UserId,
    after: &str,
    limit: i64,
) -> Result<Vec<StoredKey>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM api_keys WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3"
        ),
        params![user, after, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// How many keys of a person hold.
pub(super) fn holding(tx: &mut dyn Tx, user: UserId, now: Timestamp) -> Result<i64> {
    let rows = tx.query(
        "SELECT COUNT(*) FROM api_keys WHERE user_id = $1 AND revoked_us IS NULL AND expires_us > $2",
        params![user, now],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("api_keys", "", "count"))?;
    Ok(row.int(0)?)
}

/// Ends a key of a person's; false if it isn't theirs or has been ended.
pub(super) fn revoke(tx: &mut dyn Tx, user: UserId, id: ApiKeyId, now: Timestamp) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE api_keys SET revoked_us = $1 WHERE id = $2 AND user_id = $3 AND revoked_us IS NULL",
        params![now, id, user],
    )? == 1)
}

/// Notes a use, unless one after `unless_since` is noted.
pub(super) fn note_use(
    tx: &mut dyn Tx,
    id: ApiKeyId,
    from: Option<&str>,
    now: Timestamp,
    unless_since: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE api_keys SET last_used_us = $1, last_used_from = $2
         WHERE id = $3 AND (last_used_us IS NULL OR last_used_us <= $4)",
        params![now, from, id, unless_since],
    )?;
    Ok(())
}
