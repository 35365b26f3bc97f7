//! What a node has to rent out: its owner says how much, rentals take and give it back.
//!
//! # Invariants
//! - Counters move by guarded statements only: 0 ≤ free ≤ rentable.
//! - A GPU is held by one rental at most (a primary key says so), from the reservation to the rental's end.

use std::collections::BTreeSet;

use shared::{
    id::{NodeId, RentalId},
    resources::Resources,
};

use super::{
    model::{self, Node},
    store::capacity as store,
};
use crate::{
    error::{Error, Result},
    store::Tx,
};

/// How much of a node is rented out from now on; `None` keeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resize {
    /// Memory.
    pub ram_bytes: Option<i64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<i64>,
    /// Whole GPUs.
    pub gpu_count: Option<i64>,
    /// Disk space.
    pub disk_bytes: Option<i64>,
}

impl Resize {
    /// What is rentable then.
    fn of(&self, now: Resources) -> Resources {
        Resources {
            ram_bytes: self.ram_bytes.unwrap_or(now.ram_bytes),
            cpu_millis: self.cpu_millis.unwrap_or(now.cpu_millis),
            gpu_count: self.gpu_count.unwrap_or(now.gpu_count),
            disk_bytes: self.disk_bytes.unwrap_or(now.disk_bytes),
        }
    }
}

/// Changes how much of a node is rented out.
///
/// # Errors
/// 422 above what was measured, 409 below what is rented.
pub(super) fn resize(tx: &mut dyn Tx, node: &Node, wanted: &Resize) -> Result<()> {
    let rentable = wanted.of(node.rentable);
    if rentable == node.rentable {
        return Ok(());
    }
    let max = model::rentable_max(&node.inventory);
    // what isn't asked for isn't judged: a machine that lost a GPU can still be given more memory
    let asked = [
        (
            "ram_bytes",
            wanted.ram_bytes,
            max.ram_bytes,
            "measured memory less the host's reserve",
        ),
        (
            "cpu_millis",
            wanted.cpu_millis,
            max.cpu_millis,
            "1000 for each processor",
        ),
        (
            "gpu_count",
            wanted.gpu_count,
            max.gpu_count,
            "whole, healthy GPUs",
        ),
        (
            "disk_bytes",
            wanted.disk_bytes,
            max.disk_bytes,
            "the space that the agent can divide",
        ),
    ];
    for (field, value, most, what) in asked {
        if value.is_some_and(|value| !(0..=most).contains(&value)) {
            return Err(Error::invalid(
                &format!("/rentable/{field}"),
                format!("0 to {most}: {what}"),
            ));
        }
    }
    let gone = || {
        Error::conflict(
            "capacity_in_use",
            "rentals hold more than that: wait for them to end, or stop them",
        )
    };
    let free = model::free_after_resize(node.rentable, node.free, rentable).ok_or_else(gone)?;
    if store::resize(tx, node, rentable, free)? {
        Ok(())
    } else {
        Err(gone())
    }
}

/// Whether a rental of this size would find room now. Holds nothing.
///
/// # Errors
/// The database's.
pub fn has_room(tx: &mut dyn Tx, node: &Node, part: &Resources) -> Result<bool> {
    if !part.fits_in(&node.free) || part.disk_bytes > node.free_disk_bytes() {
        return Ok(false);
    }
    Ok(part.gpu_count == 0 || choose(tx, node, part.gpu_count)?.is_some())
}

fn choose(tx: &mut dyn Tx, node: &Node, count: i64) -> Result<Option<Vec<String>>> {
    let held: BTreeSet<String> = store::held_gpus(tx, node.id)?.into_iter().collect();
    Ok(model::choose_gpus(&node.inventory, &held, count))
}

/// Takes capacity for a rental; the UUIDs of its GPUs.
///
/// # Errors
/// 409 `capacity_gone`.
pub fn take(tx: &mut dyn Tx, id: NodeId, rental: RentalId, part: Resources) -> Result<Vec<String>> {
    if !store::take(tx, id, part)? {
        return Err(gone());
    }
    if part.gpu_count == 0 {
        return Ok(Vec::new());
    }
    let node = super::get(tx, id)?;
    let chosen = choose(tx, &node, part.gpu_count)?.ok_or_else(gone)?;
    for uuid in &chosen {
        if !store::hold_gpu(tx, id, uuid, rental)? {
            return Err(gone());
        }
    }
    Ok(chosen)
}

fn gone() -> Error {
    Error::conflict(
        "capacity_gone",
        "the node has less than that free now: choose another offer or a smaller size",
    )
}

/// Gives a rental's capacity back.
///
/// # Errors
/// Internal if it would be more than there is: the caller gave twice.
pub fn give(tx: &mut dyn Tx, id: NodeId, rental: RentalId, part: Resources) -> Result<()> {
    if part.gpu_count != 0 {
        store::free_gpus_of(tx, rental)?;
    }
    if store::give(tx, id, part)? {
        Ok(())
    } else {
        Err(Error::corrupt("nodes", &id.to_string(), "free_ram_bytes"))
    }
}
