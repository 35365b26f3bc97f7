//! SQL of what people want of a node in time: schedule, deadline, maintenance, orders; and of its memory's pressure.

use shared::{
    id::NodeId,
    time::Timestamp,
    wire::operator::{Maintenance, Outcome},
};

use super::super::model::Schedulability;
use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

/// Sets what people want of a node from now on, and until when.
pub(in crate::domain::nodes) fn set_schedule(
    tx: &mut dyn Tx,
    id: NodeId,
    to: Schedulability,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "UPDATE nodes SET schedulability = $1, drain_deadline_at = $2, drain_asked_at = $3 WHERE id = $4",
        params![to.name(), deadline, deadline.map(|_| now), id],
    )?;
    Ok(())
}

/// A node that is being drained and on which nothing is rented any more is drained; false otherwise. The guard is the decision.
pub(in crate::domain::nodes) fn drained(tx: &mut dyn Tx, id: NodeId) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE nodes SET schedulability = 'drained', drain_deadline_at = NULL, drain_asked_at = NULL WHERE id = $1
             AND schedulability = 'draining'
             AND free_ram_bytes = rentable_ram_bytes AND free_cpu_millis = rentable_cpu_millis
             AND free_gpus = rentable_gpus AND free_disk_bytes = rentable_disk_bytes",
        params![id],
    )? == 1)
}

/// Nodes whose deadline has come, in the order of (deadline, id), after a place in it.
pub(in crate::domain::nodes) fn drains_due(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<(Timestamp, NodeId)>> {
    let rows = tx.query(
        "SELECT drain_deadline_at, id FROM nodes WHERE drain_deadline_at IS NOT NULL AND drain_deadline_at <= $1
             AND (drain_deadline_at, id) > ($2, $3) ORDER BY drain_deadline_at, id LIMIT $4",
        params![now, after.0, after.1, limit],
    )?;
    rows.iter()
        .map(|row| Ok((Timestamp::from_micros(row.int(0)?), id_of(row.text(1)?)?)))
        .collect()
}

fn id_of(id: &str) -> Result<NodeId> {
    id.parse().map_err(|_| Error::corrupt("nodes", id, "id"))
}

/// Nodes whose maintenance wasn't told yet, after a cursor.
pub(in crate::domain::nodes) fn maintenance_to_tell(
    tx: &mut dyn Tx,
    after: &str,
    limit: i64,
) -> Result<Vec<NodeId>> {
    let rows = tx.query(
        "SELECT id FROM nodes WHERE maintenance_told = 'no' AND id > $1 ORDER BY id LIMIT $2",
        params![after, limit],
    )?;
    rows.iter().map(|row| id_of(row.text(0)?)).collect()
}

/// Takes it on oneself to tell of a node's maintenance; false if somebody did.
pub(in crate::domain::nodes) fn take_maintenance_to_tell(
    tx: &mut dyn Tx,
    id: NodeId,
) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE nodes SET maintenance_told = 'yes' WHERE id = $1 AND maintenance_told = 'no'",
        params![id],
    )? == 1)
}

/// Replaces the windows of a node whose row is locked.
pub(in crate::domain::nodes) fn set_maintenance(
    tx: &mut dyn Tx,
    id: NodeId,
    windows: &[Maintenance],
) -> Result<()> {
    let text = serde_json::to_string(windows).map_err(Error::internal)?;
    tx.execute(
        "UPDATE nodes SET maintenance = $1, maintenance_told = 'no' WHERE id = $2",
        params![text, id],
    )?;
    Ok(())
}

/// Notes why memory is short; empty when it isn't any more.
pub(in crate::domain::nodes) fn set_pressure(tx: &mut dyn Tx, id: NodeId, why: &str) -> Result<()> {
    tx.execute(
        "UPDATE nodes SET memory_pressure = $1 WHERE id = $2",
        params![why, id],
    )?;
    Ok(())
}

/// Which of a node's orders were looked at, and what became of the last ones.
pub(in crate::domain::nodes) fn orders(tx: &mut dyn Tx, id: NodeId) -> Result<(i64, Vec<Outcome>)> {
    let rows = tx.query(
        "SELECT seen, outcomes FROM node_orders WHERE node_id = $1",
        params![id],
    )?;
    let Some(row) = rows.first() else {
        return Ok((0, Vec::new()));
    };
    let outcomes = serde_json::from_str(row.text(1)?)
        .map_err(|_| Error::corrupt("node_orders", &id.to_string(), "outcomes"))?;
    Ok((row.int(0)?, outcomes))
}

/// Notes up to which order a node was heard; false if somebody else did meanwhile.
pub(in crate::domain::nodes) fn note_orders(
    tx: &mut dyn Tx,
    id: NodeId,
    was: i64,
    seen: i64,
    outcomes: &[Outcome],
) -> Result<bool> {
    let text = serde_json::to_string(outcomes).map_err(Error::internal)?;
    Ok(tx.execute(
        "INSERT INTO node_orders (node_id, seen, outcomes) VALUES ($1, $2, $3)
         ON CONFLICT (node_id) DO UPDATE SET seen = $2, outcomes = $3 WHERE node_orders.seen = $4",
        params![id, seen, text, was],
    )? == 1)
}
