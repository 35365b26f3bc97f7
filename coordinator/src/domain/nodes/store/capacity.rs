//! SQL of what nodes have to rent out: guarded counters, and who holds which GPU.

use shared::{
    id::{NodeId, RentalId},
    resources::Resources,
};

use super::super::model::Node;
use crate::{error::Result, params, store::Tx};

/// Changes what is rentable; false if somebody changed or rented in between.
pub(in crate::domain::nodes) fn resize(
    tx: &mut dyn Tx,
    node: &Node,
    rentable: Resources,
    free: Resources,
) -> Result<bool> {
    let (was, was_free) = (node.rentable, node.free);
    Ok(tx.execute(
        "UPDATE nodes SET rentable_ram_bytes = $1, rentable_cpu_millis = $2, rentable_gpus = $3, rentable_disk_bytes = $4,
             free_ram_bytes = $5, free_cpu_millis = $6, free_gpus = $7, free_disk_bytes = $8
         WHERE id = $9 AND rentable_ram_bytes = $10 AND rentable_cpu_millis = $11 AND rentable_gpus = $12
           AND rentable_disk_bytes = $13 AND free_ram_bytes = $14 AND free_cpu_millis = $15 AND free_gpus = $16
           AND free_disk_bytes = $17",
        params![
            rentable.ram_bytes,
            rentable.cpu_millis,
            rentable.gpu_count,
            rentable.disk_bytes,
            free.ram_bytes,
            free.cpu_millis,
            free.gpu_count,
            free.disk_bytes,
            node.id,
            was.ram_bytes,
            was.cpu_millis,
            was.gpu_count,
            was.disk_bytes,
            was_free.ram_bytes,
            was_free.cpu_millis,
            was_free.gpu_count,
            was_free.disk_bytes
        ],
    )? == 1)
}

/// Takes capacity; false if there is less. The guard is the decision.
pub(in crate::domain::nodes) fn take(tx: &mut dyn Tx, id: NodeId, part: Resources) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE nodes SET free_ram_bytes = free_ram_bytes - $1, free_cpu_millis = free_cpu_millis - $2,
             free_gpus = free_gpus - $3, free_disk_bytes = free_disk_bytes - $4
         WHERE id = $5 AND free_ram_bytes >= $1 AND free_cpu_millis >= $2 AND free_gpus >= $3 AND free_disk_bytes >= $4
           AND lifecycle = 'member' AND schedulability = 'active' AND availability = 'online'",
        params![
            part.ram_bytes,
            part.cpu_millis,
            part.gpu_count,
            part.disk_bytes,
            id
        ],
    )? == 1)
}

/// Gives capacity back; false if that would be more than there is.
pub(in crate::domain::nodes) fn give(tx: &mut dyn Tx, id: NodeId, part: Resources) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE nodes SET free_ram_bytes = free_ram_bytes + $1, free_cpu_millis = free_cpu_millis + $2,
             free_gpus = free_gpus + $3, free_disk_bytes = free_disk_bytes + $4
         WHERE id = $5 AND free_ram_bytes + $1 <= rentable_ram_bytes AND free_cpu_millis + $2 <= rentable_cpu_millis
           AND free_gpus + $3 <= rentable_gpus AND free_disk_bytes + $4 <= rentable_disk_bytes",
        params![
            part.ram_bytes,
            part.cpu_millis,
            part.gpu_count,
            part.disk_bytes,
            id
        ],
    )? == 1)
}

/// UUIDs of a node's GPUs that rentals hold.
pub(in crate::domain::nodes) fn held_gpus(tx: &mut dyn Tx, id: NodeId) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT gpu_uuid FROM rental_gpus WHERE node_id = $1",
        params![id],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// Gives a GPU to a rental; false if another one holds it.
pub(in crate::domain::nodes) fn hold_gpu(
    tx: &mut dyn Tx,
    id: NodeId,
    uuid: &str,
    rental: RentalId,
) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO rental_gpus (node_id, gpu_uuid, rental_id) VALUES ($1, $2, $3) ON CONFLICT (node_id, gpu_uuid) DO NOTHING",
        params![id, uuid, rental],
    )? == 1)
}

/// Takes a rental's GPUs from it.
pub(in crate::domain::nodes) fn free_gpus_of(tx: &mut dyn Tx, rental: RentalId) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM rental_gpus WHERE rental_id = $1",
        params![rental],
    )?)
}
