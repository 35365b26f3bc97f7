//! SQL of endpoints and their secrets; deliveries are next door.

pub(super) mod deliveries;

use shared::{
    id::{UserId, WebhookId},
    time::Timestamp,
};

use super::model::{Patterns, State, Webhook};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, StoreError, Tx},
};

const COLUMNS: &str = "id, owner, url, description, events, state, disabled_reason, failing_since, failures, version, \
     created_at, updated_at";

/// Writes a new endpoint into the owner's lowest free place below `per_owner_max`; `false` if all are taken.
pub(super) fn insert(tx: &mut dyn Tx, webhook: &Webhook, per_owner_max: i64) -> Result<bool> {
    let rows = tx.query(
        "SELECT slot FROM webhooks WHERE owner = $1 AND slot IS NOT NULL ORDER BY slot",
        params![webhook.owner],
    )?;
    let taken: Vec<i64> = rows
        .iter()
        .map(|row| row.int(0))
        .collect::<Result<_, _>>()?;
    let Some(slot) = (0..per_owner_max).find(|slot| !taken.contains(slot)) else {
        return Ok(false);
    };
    let inserted = tx.execute(
        "INSERT INTO webhooks (id, owner, slot, url, description, events, state, failures, lease_until, version, created_at,
             updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $9, $10) ON CONFLICT DO NOTHING",
        params![
            webhook.id,
            webhook.owner,
            slot,
            webhook.url.as_str(),
            webhook.description.as_str(),
            events_text(webhook)?,
            webhook.state.name(),
            webhook.version,
            webhook.created_at,
            webhook.updated_at,
        ],
    )?;
    if inserted == 0 {
        // somebody took the place at this moment
        return Err(StoreError::Busy(format!("webhook place {slot} was taken")).into());
    }
    Ok(true)
}

fn events_text(webhook: &Webhook) -> Result<String> {
    serde_json::to_string(webhook.events.list()).map_err(Error::internal)
}

/// An endpoint, deleted ones too.
pub(super) fn find(tx: &mut dyn Tx, id: WebhookId) -> Result<Option<Webhook>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM webhooks WHERE id = $1"),
        params![id],
    )?;
    rows.first().map(webhook_of).transpose()
}

/// Endpoints of an owner that aren't deleted, after an id.
pub(super) fn of_owner(
    tx: &mut dyn Tx,
    owner: UserId,
    after: &str,
    limit: i64,
) -> Result<Vec<Webhook>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM webhooks WHERE owner = $1 AND id > $2 AND state <> 'deleted' ORDER BY id LIMIT $3"
        ),
        params![owner, after, limit],
    )?;
    rows.iter().map(webhook_of).collect()
}

/// Endpoints of an owner that are to be told.
pub(super) fn active_of(tx: &mut dyn Tx, owner: UserId) -> Result<Vec<Webhook>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM webhooks WHERE owner = $1 AND slot IS NOT NULL AND state = 'active'"),
        params![owner],
    )?;
    rows.iter().map(webhook_of).collect()
}

/// Writes what its owner or we changed, if nobody did meanwhile.
pub(super) fn save(tx: &mut dyn Tx, webhook: &Webhook) -> Result<()> {
    let saved = tx.execute(
        "UPDATE webhooks SET url = $1, description = $2, events = $3, state = $4, disabled_reason = $5,
             failing_since = $6, failures = $7, updated_at = $8, version = version + 1,
             slot = CASE WHEN $9 = 'deleted' THEN NULL ELSE slot END
         WHERE id = $10 AND version = $11",
        params![
            webhook.url.as_str(),
            webhook.description.as_str(),
            events_text(webhook)?,
            webhook.state.name(),
            webhook.state.reason(),
            webhook.failing_since,
            webhook.failures,
            webhook.updated_at,
            webhook.state.name(),
            webhook.id,
            webhook.version,
        ],
    )?;
    if saved == 0 {
        return Err(
            StoreError::Busy(format!("webhook {} was written meanwhile", webhook.id)).into(),
        );
    }
    Ok(())
}

/// Notes how attempts go; how they go isn't a change of the endpoint.
pub(super) fn save_health(tx: &mut dyn Tx, webhook: &Webhook) -> Result<()> {
    tx.execute(
        "UPDATE webhooks SET failing_since = $1, failures = $2 WHERE id = $3",
        params![webhook.failing_since, webhook.failures, webhook.id],
    )?;
    Ok(())
}

/// Has an endpoint looked at by `at`; one that fails is left to its rest, unless `now` a person wants it.
pub(super) fn wake(tx: &mut dyn Tx, id: WebhookId, at: Timestamp, wanted: bool) -> Result<()> {
    tx.execute(
        "UPDATE webhooks SET due_at = $1
         WHERE id = $2 AND (due_at IS NULL OR (due_at > $3 AND (failures = 0 OR CAST($4 AS BIGINT) = 1)))",
        params![at, id, at, i64::from(wanted)],
    )?;
    Ok(())
}

/// Endpoints whose turn it is and for which nobody sends.
pub(super) fn due(tx: &mut dyn Tx, now: Timestamp, limit: i64) -> Result<Vec<WebhookId>> {
    let rows = tx.query(
        "SELECT id FROM webhooks
         WHERE state = 'active' AND due_at IS NOT NULL AND due_at <= $1 AND lease_until <= $2 ORDER BY due_at LIMIT $3",
        params![now, now, limit],
    )?;
    rows.iter().map(|row| id_of(row.text(0)?, "id")).collect()
}

/// Takes an endpoint's turn until `until`; `false` if it isn't due or somebody else has it.
pub(super) fn lease(
    tx: &mut dyn Tx,
    id: WebhookId,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool> {
    let taken = tx.execute(
        "UPDATE webhooks SET lease_until = $1
         WHERE id = $2 AND state = 'active' AND due_at IS NOT NULL AND due_at <= $3 AND lease_until <= $4",
        params![until, id, now, now],
    )?;
    Ok(taken == 1)
}

/// Locks an endpoint's row until the transaction ends, if the turn until `until` is still ours.
pub(super) fn lock_leased(tx: &mut dyn Tx, id: WebhookId, until: Timestamp) -> Result<bool> {
    let locked = tx.execute(
        "UPDATE webhooks SET lease_until = lease_until WHERE id = $1 AND lease_until = $2",
        params![id, until],
    )?;
    Ok(locked == 1)
}

/// Ends a turn.
pub(super) fn rest(tx: &mut dyn Tx, id: WebhookId, due: Option<Timestamp>) -> Result<()> {
    tx.execute(
        "UPDATE webhooks SET lease_until = 0, due_at = $1 WHERE id = $2",
        params![due, id],
    )?;
    Ok(())
}

/// Secrets, sealed, that sign at `now`: the newest first.
pub(super) fn secrets(
    tx: &mut dyn Tx,
    id: WebhookId,
    now: Timestamp,
) -> Result<Vec<(i64, Vec<u8>)>> {
    let rows = tx.query(
        "SELECT number, sealed FROM webhook_secrets
         WHERE webhook_id = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY number DESC",
        params![id, now],
    )?;
    rows.iter()
        .map(|row| Ok((row.int(0)?, row.blob(1)?.to_vec())))
        .collect()
}

/// Adds the newest secret; the one before it ends at `old_until`, and those that ended are forgotten.
pub(super) fn add_secret(
    tx: &mut dyn Tx,
    id: WebhookId,
    (number, sealed): (i64, &[u8]),
    now: Timestamp,
    old_until: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE webhook_secrets SET expires_at = $1 WHERE webhook_id = $2 AND expires_at IS NULL",
        params![old_until, id],
    )?;
    tx.execute(
        "DELETE FROM webhook_secrets WHERE webhook_id = $1 AND expires_at <= $2",
        params![id, now],
    )?;
    tx.execute(
        "INSERT INTO webhook_secrets (webhook_id, number, sealed) VALUES ($1, $2, $3)",
        params![id, number, sealed],
    )?;
    Ok(())
}

/// Forgets all secrets of an endpoint.
pub(super) fn forget_secrets(tx: &mut dyn Tx, id: WebhookId) -> Result<()> {
    tx.execute(
        "DELETE FROM webhook_secrets WHERE webhook_id = $1",
        params![id],
    )?;
    Ok(())
}

/// Forgets endpoints deleted before a moment that have no deliveries left.
pub(super) fn forget_deleted(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM webhooks WHERE id IN (
             SELECT id FROM webhooks AS w WHERE state = 'deleted' AND updated_at < $1
               AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.webhook_id = w.id)
             ORDER BY updated_at LIMIT $2)",
        params![before, limit],
    )?)
}

/// Whether [`forget_deleted`] or [`deliveries::forget`] would find something.
pub(super) fn anything_old(tx: &mut dyn Tx, before: Timestamp) -> Result<bool> {
    let rows = tx.query(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM webhook_deliveries WHERE created_at < $1)
             OR EXISTS (SELECT 1 FROM webhooks AS w WHERE state = 'deleted' AND updated_at < $2
                AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.webhook_id = w.id))",
        params![before, before],
    )?;
    Ok(!rows.is_empty())
}

/// Locks the position in the stream for this transaction and returns it.
pub(super) fn lock_position(tx: &mut dyn Tx) -> Result<i64> {
    let rows = tx.query(
        "UPDATE webhook_position SET seq = seq WHERE one = 1 RETURNING seq",
        &[],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("webhook_position", "1", "one"))?;
    Ok(row.int(0)?)
}

/// The position in the stream.
pub(super) fn position(tx: &mut dyn Tx) -> Result<i64> {
    let rows = tx.query("SELECT seq FROM webhook_position WHERE one = 1", &[])?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("webhook_position", "1", "one"))?;
    Ok(row.int(0)?)
}

/// Moves the position.
pub(super) fn move_position(tx: &mut dyn Tx, seq: i64) -> Result<()> {
    tx.execute(
        "UPDATE webhook_position SET seq = $1 WHERE one = 1",
        params![seq],
    )?;
    Ok(())
}

fn id_of<T: std::str::FromStr>(text: &str, column: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::corrupt("webhooks", text, column))
}

fn webhook_of(row: &Row) -> Result<Webhook> {
    let id = row.text(0)?;
    let corrupt = |column: &str| Error::corrupt("webhooks", id, column);
    let events = serde_json::from_str(row.text(4)?).map_err(|_| corrupt("events"))?;
    Ok(Webhook {
        id: id_of(id, "id")?,
        owner: id_of(row.text(1)?, "owner")?,
        url: row.text(2)?.to_owned(),
        description: row.text(3)?.to_owned(),
        events: Patterns::parse(events).map_err(|_| corrupt("events"))?,
        state: State::from_names(row.text(5)?, row.opt_text(6)?).ok_or_else(|| corrupt("state"))?,
        failing_since: row.opt_int(7)?.map(Timestamp::from_micros),
        failures: row.int(8)?,
        version: row.int(9)?,
        created_at: Timestamp::from_micros(row.int(10)?),
        updated_at: Timestamp::from_micros(row.int(11)?),
    })
}
