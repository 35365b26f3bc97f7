//! SQL of deliveries.

use shared::{
    id::{DeliveryId, WebhookId},
    time::Timestamp,
};

use crate::{
    domain::webhooks::model::{Attempt, Delivery, DeliveryState},
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "id, webhook_id, event_id, kind, body, state, attempts, next_try_at, tried_at, took_ms, status, \
     answer, created_at";

/// Writes a new delivery, unless the endpoint has one of this event; returns whether it did.
pub(in crate::domain::webhooks) fn insert(tx: &mut dyn Tx, delivery: &Delivery) -> Result<bool> {
    let inserted = tx.execute(
        "INSERT INTO webhook_deliveries (id, webhook_id, event_id, kind, body, state, attempts, next_try_at, created_at)
         VALUES ($1, $2, $3, $4, $5, 'pending', 0, $6, $7) ON CONFLICT (webhook_id, event_id) DO NOTHING",
        params![
            delivery.id,
            delivery.webhook,
            delivery.event,
            delivery.kind.as_str(),
            delivery.body.as_str(),
            delivery.next_try_at,
            delivery.created_at,
        ],
    )?;
    Ok(inserted == 1)
}

/// A delivery of an endpoint.
pub(in crate::domain::webhooks) fn find(
    tx: &mut dyn Tx,
    webhook: WebhookId,
    id: DeliveryId,
) -> Result<Option<Delivery>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM webhook_deliveries WHERE id = $1 AND webhook_id = $2"),
        params![id, webhook],
    )?;
    rows.first().map(delivery_of).transpose()
}

/// Deliveries of an endpoint, the newest first, before an id.
pub(in crate::domain::webhooks) fn page(
    tx: &mut dyn Tx,
    webhook: WebhookId,
    before: &str,
    limit: i64,
) -> Result<Vec<Delivery>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM webhook_deliveries WHERE webhook_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        ),
        params![webhook, before, limit],
    )?;
    rows.iter().map(delivery_of).collect()
}

/// Deliveries of an endpoint that are to be sent by now, the longest due first.
pub(in crate::domain::webhooks) fn due(
    tx: &mut dyn Tx,
    webhook: WebhookId,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Delivery>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM webhook_deliveries
             WHERE webhook_id = $1 AND state = 'pending' AND next_try_at <= $2 ORDER BY next_try_at LIMIT $3"
        ),
        params![webhook, now, limit],
    )?;
    rows.iter().map(delivery_of).collect()
}

/// When an endpoint has something to send next.
pub(in crate::domain::webhooks) fn next_due(
    tx: &mut dyn Tx,
    webhook: WebhookId,
) -> Result<Option<Timestamp>> {
    let rows = tx.query(
        "SELECT next_try_at FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'pending' ORDER BY next_try_at LIMIT 1",
        params![webhook],
    )?;
    let at = rows.first().map(|row| row.int(0)).transpose()?;
    Ok(at.map(Timestamp::from_micros))
}

/// Writes what an attempt came to, if nobody wrote one meanwhile.
pub(in crate::domain::webhooks) fn attempted(
    tx: &mut dyn Tx,
    delivery: &Delivery,
    attempt: &Attempt,
    (state, next_try_at): (DeliveryState, Timestamp),
) -> Result<bool> {
    let written = tx.execute(
        "UPDATE webhook_deliveries SET state = $1, next_try_at = $2, attempts = attempts + 1, tried_at = $3, took_ms = $4,
             status = $5, answer = $6
         WHERE id = $7 AND state = 'pending' AND attempts = $8",
        params![
            state.name(),
            next_try_at,
            attempt.at,
            attempt.took_ms,
            attempt.status.map(i64::from),
            attempt.answer.as_str(),
            delivery.id,
            delivery.attempts,
        ],
    )?;
    Ok(written == 1)
}

/// Has a delivery sent anew.
pub(in crate::domain::webhooks) fn replay(
    tx: &mut dyn Tx,
    id: DeliveryId,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_try_at = $1 WHERE id = $2",
        params![now, id],
    )?;
    Ok(())
}

/// Forgets the oldest deliveries made before a moment.
pub(in crate::domain::webhooks) fn forget(
    tx: &mut dyn Tx,
    before: Timestamp,
    limit: i64,
) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM webhook_deliveries WHERE id IN (
             SELECT id FROM webhook_deliveries WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
        params![before, limit],
    )?)
}

fn delivery_of(row: &Row) -> Result<Delivery> {
    let id = row.text(0)?;
    let corrupt = |column: &str| Error::corrupt("webhook_deliveries", id, column);
    let status = row.opt_int(10)?.map(u16::try_from).transpose();
    let last = match (row.opt_int(8)?, row.opt_int(9)?) {
        (Some(at), Some(took_ms)) => Some(Attempt {
            at: Timestamp::from_micros(at),
            took_ms,
            status: status.map_err(|_| corrupt("status"))?,
            answer: row.opt_text(11)?.unwrap_or_default().to_owned(),
            retry_after_s: None,
        }),
        _ => None,
    };
    Ok(Delivery {
        id: id.parse().map_err(|_| corrupt("id"))?,
        webhook: row.text(1)?.parse().map_err(|_| corrupt("webhook_id"))?,
        event: row.text(2)?.parse().map_err(|_| corrupt("event_id"))?,
        kind: row.text(3)?.to_owned(),
        body: row.text(4)?.to_owned(),
        state: DeliveryState::from_name(row.text(5)?).ok_or_else(|| corrupt("state"))?,
        attempts: row.int(6)?,
        next_try_at: Timestamp::from_micros(row.int(7)?),
        last,
        created_at: Timestamp::from_micros(row.int(12)?),
    })
}
