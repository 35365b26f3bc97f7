//! SQL of `mail_outbox`.

use shared::{id::MailId, time::Timestamp};

use super::model::{Email, Mail, Taken};
use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

/// Adds a mail that is due at once.
pub(super) fn insert(
    tx: &mut dyn Tx,
    id: MailId,
    mail: &Mail,
    sealed: Vec<u8>,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO mail_outbox (id, recipient, subject, sealed, state, attempts, created_us, next_us, expires_us)
         VALUES ($1, $2, $3, $4, 'queued', 0, $5, $5, $6)",
        params![id, mail.to.as_str(), mail.subject, sealed, now, mail.expires],
    )?;
    Ok(())
}

/// Mails whose next attempt is due.
pub(super) fn due(tx: &mut dyn Tx, now: Timestamp, limit: i64) -> Result<Vec<MailId>> {
    tx.query(
        "SELECT id FROM mail_outbox WHERE state = 'queued' AND next_us <= $1 ORDER BY next_us LIMIT $2",
        params![now, limit],
    )?
    .iter()
    .map(|row| {
        let text = row.text(0)?;
        text.parse()
            .map_err(|_| Error::corrupt("mail_outbox", text, "id"))
    })
    .collect()
}

/// Takes a mail for an attempt, until `until`; nothing when another did.
pub(super) fn take(
    tx: &mut dyn Tx,
    id: MailId,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Taken>> {
    let rows = tx.query(
        "UPDATE mail_outbox SET attempts = attempts + 1, next_us = $1
         WHERE id = $2 AND state = 'queued' AND next_us <= $3
         RETURNING recipient, subject, sealed, created_us, expires_us, attempts",
        params![until, id, now],
    )?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let to = Email::parse(row.text(0)?)
        .map_err(|_| Error::corrupt("mail_outbox", &id.to_string(), "recipient"))?;
    Ok(Some(Taken {
        id,
        to,
        subject: row.text(1)?.to_owned(),
        sealed: row.blob(2)?.to_vec(),
        created: Timestamp::from_micros(row.int(3)?),
        expires: row.opt_int(4)?.map(Timestamp::from_micros),
        attempt: row.int(5)?,
    }))
}

/// Ends attempt number `attempt`: the mail is `sent` or `given_up`, and its text is gone.
pub(super) fn finish(
    tx: &mut dyn Tx,
    id: MailId,
    attempt: i64,
    state: &str,
    error: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE mail_outbox SET state = $1, sealed = NULL, done_us = $2, last_error = $3
         WHERE id = $4 AND state = 'queued' AND attempts = $5",
        params![state, now, error, id, attempt],
    )?;
    Ok(())
}

/// Ends attempt number `attempt`: the next one is at `next`.
pub(super) fn put_off(
    tx: &mut dyn Tx,
    id: MailId,
    attempt: i64,
    error: &str,
    next: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE mail_outbox SET next_us = $1, last_error = $2
         WHERE id = $3 AND state = 'queued' AND attempts = $4",
        params![next, error, id, attempt],
    )?;
    Ok(())
}

/// Forgets up to `limit` mails that were done with before `before`; how many.
pub(super) fn forget(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM mail_outbox WHERE id IN
         (SELECT id FROM mail_outbox WHERE state <> 'queued' AND done_us < $1 ORDER BY done_us LIMIT $2)",
        params![before, limit],
    )?)
}
