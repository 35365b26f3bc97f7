//! SQL of `events` and `event_head`.

use shared::time::Timestamp;

use super::model::{Event, PAYLOAD_BYTES_MAX, StoredEvent};
use crate::{
    context::OpCtx,
    error::{Error, Result},
    params,
    store::{Row, StoreError, Tx},
};

/// Writes an event without a place.
pub(super) fn insert(tx: &mut dyn Tx, ctx: &OpCtx, event: &Event) -> Result<()> {
    let payload = event.payload.to_string();
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Error::internal(format!(
            "event {} has a payload of {} bytes",
            event.kind,
            payload.len()
        )));
    }
    let id: shared::id::EventId = ctx.mint();
    tx.execute(
        "INSERT INTO events (id, kind, at_us, consumer_id, provider_id, rental_id, node_id, payload, request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        params![
            id,
            event.kind,
            ctx.now,
            event.consumer,
            event.provider,
            event.rental,
            event.node,
            payload,
            ctx.request_id.as_str(),
        ],
    )?;
    Ok(())
}

/// Locks the head for this transaction and returns the last place given.
pub(super) fn lock_head(tx: &mut dyn Tx) -> Result<i64> {
    let rows = tx.query(
        "UPDATE event_head SET seq = seq WHERE one = 1 RETURNING seq",
        &[],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("event_head", "1", "one"))?;
    Ok(row.int(0)?)
}

/// Events from before a moment without a place.
pub(super) fn waiting_since(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT id FROM events WHERE seq IS NULL AND at_us < $1 ORDER BY row_no LIMIT $2",
        params![before, limit],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// Gives places after `head` to the oldest events without one; returns how many.
pub(super) fn place_after(tx: &mut dyn Tx, head: i64, count_max: i64) -> Result<u64> {
    // row_no grows in the order of writing; within one transaction, and from one that saw another's commit, it is later
    Ok(tx.execute(
        "UPDATE events SET seq = placed.seq
         FROM (SELECT row_no AS placed_no, CAST($1 AS BIGINT) + ROW_NUMBER() OVER (ORDER BY row_no) AS seq
               FROM (SELECT row_no FROM events WHERE seq IS NULL ORDER BY row_no LIMIT $2) AS waiting) AS placed
         WHERE events.row_no = placed.placed_no",
        params![head, count_max],
    )?)
}

/// Moves the head to the last place given.
pub(super) fn move_head(tx: &mut dyn Tx, seq: i64) -> Result<()> {
    tx.execute("UPDATE event_head SET seq = $1 WHERE one = 1", params![seq])?;
    Ok(())
}

/// The last place given.
pub(super) fn head(tx: &mut dyn Tx) -> Result<i64> {
    let rows = tx.query("SELECT seq FROM event_head WHERE one = 1", &[])?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("event_head", "1", "one"))?;
    Ok(row.int(0)?)
}

/// Whether events wait for a place.
pub(super) fn any_waiting(tx: &mut dyn Tx) -> Result<bool> {
    let rows = tx.query("SELECT 1 FROM events WHERE seq IS NULL LIMIT 1", &[])?;
    Ok(!rows.is_empty())
}

/// Up to `count_max` events after place `seq`, in order.
pub(super) fn after(tx: &mut dyn Tx, seq: i64, count_max: i64) -> Result<Vec<StoredEvent>> {
    tx.query(
        "SELECT seq, id, kind, at_us, consumer_id, provider_id, rental_id, node_id, payload
         FROM events WHERE seq > $1 ORDER BY seq LIMIT $2",
        params![seq, count_max],
    )?
    .iter()
    .map(event_of)
    .collect()
}

/// Up to `count_max` events of one rental after place `seq`, in order.
pub(super) fn of_rental(
    tx: &mut dyn Tx,
    rental: shared::id::RentalId,
    seq: i64,
    count_max: i64,
) -> Result<Vec<StoredEvent>> {
    tx.query(
        "SELECT seq, id, kind, at_us, consumer_id, provider_id, rental_id, node_id, payload
         FROM events WHERE rental_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        params![rental, seq, count_max],
    )?
    .iter()
    .map(event_of)
    .collect()
}

fn event_of(row: &Row) -> Result<StoredEvent> {
    let id = row.text(1)?;
    let corrupt = |column: &str| Error::corrupt("events", id, column);
    Ok(StoredEvent {
        seq: row.int(0)?,
        id: id.parse().map_err(|_| corrupt("id"))?,
        kind: row.text(2)?.to_owned(),
        at: Timestamp::from_micros(row.int(3)?),
        consumer: opt_id(row, 4)?.map_err(|()| corrupt("consumer_id"))?,
        provider: opt_id(row, 5)?.map_err(|()| corrupt("provider_id"))?,
        rental: opt_id(row, 6)?.map_err(|()| corrupt("rental_id"))?,
        node: opt_id(row, 7)?.map_err(|()| corrupt("node_id"))?,
        payload: serde_json::from_str(row.text(8)?).map_err(|_| corrupt("payload"))?,
    })
}

/// Places and times of the oldest events that have a place.
pub(super) fn oldest(tx: &mut dyn Tx, limit: i64) -> Result<Vec<(i64, Timestamp)>> {
    let rows = tx.query(
        "SELECT seq, at_us FROM events WHERE seq > 0 ORDER BY seq LIMIT $1",
        params![limit],
    )?;
    rows.iter()
        .map(|row| Ok((row.int(0)?, Timestamp::from_micros(row.int(1)?))))
        .collect()
}

/// Forgets all events up to a place.
pub(super) fn forget(tx: &mut dyn Tx, last: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM events WHERE seq > 0 AND seq <= $1",
        params![last],
    )?)
}

type Parsed<T> = std::result::Result<Option<T>, ()>;

fn opt_id<T: std::str::FromStr>(row: &Row, column: usize) -> Result<Parsed<T>, StoreError> {
    let text = row.opt_text(column)?;
    Ok(text.map(str::parse).transpose().map_err(|_| ()))
}
