//! SQL of `account_links`.

use shared::{id::UserId, time::Timestamp};

use crate::{
    domain::auth::{
        links::{Link, Purpose},
        model::Email,
    },
    error::{Error, Result},
    params,
    store::Tx,
};

/// Adds a link.
pub(in super::super) fn insert(
    tx: &mut dyn Tx,
    hash: Vec<u8>,
    purpose: Purpose,
    user: UserId,
    email: &Email,
    now: Timestamp,
    expires: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO account_links (hash, purpose, user_id, email, created_us, expires_us)
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![hash, purpose.name(), user, email.as_str(), now, expires],
    )?;
    Ok(())
}

/// Takes a link away: of several who try, one gets it.
pub(in super::super) fn take(
    tx: &mut dyn Tx,
    hash: Vec<u8>,
    purpose: Purpose,
) -> Result<Option<Link>> {
    let rows = tx.query(
        "DELETE FROM account_links WHERE hash = $1 AND purpose = $2 RETURNING user_id, email, expires_us",
        params![hash, purpose.name()],
    )?;
    rows.first()
        .map(|row| {
            let user = row.text(0)?;
            Ok(Link {
                user: user
                    .parse()
                    .map_err(|_| Error::corrupt("account_links", user, "user_id"))?,
                email: row.text(1)?.to_owned(),
                expires: Timestamp::from_micros(row.int(2)?),
            })
        })
        .transpose()
}

/// Forgets up to `limit` links that worked until `now` at most; how many.
pub(in super::super) fn forget_expired(tx: &mut dyn Tx, now: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM account_links WHERE hash IN
         (SELECT hash FROM account_links WHERE expires_us <= $1 ORDER BY expires_us LIMIT $2)",
        params![now, limit],
    )?)
}

/// Forgets somebody's links of a purpose.
pub(in super::super) fn forget(tx: &mut dyn Tx, user: UserId, purpose: Purpose) -> Result<()> {
    tx.execute(
        "DELETE FROM account_links WHERE user_id = $1 AND purpose = $2",
        params![user, purpose.name()],
    )?;
    Ok(())
}
