//! Orders of a machine's owner that come with its beats, and how the machine stands in answer.
//!
//! # Invariants
//! - An order is looked at once: what it came to is kept beside its number in the same transaction.
//! - What can't be done is an outcome and no failure of the beat; the orders after it are looked at all the same.

use shared::{
    time::Timestamp,
    wire::operator::{DONE, Maintenance, ORDERS_MAX, OUTCOMES_MAX, Order, Outcome, Standing, Wish},
};

use super::{
    Resize, capacity,
    model::{self, Node, Schedulability},
    store::upkeep as store,
    upkeep,
};
use crate::{
    context::OpCtx,
    error::{Error, Kind, Result},
    store::{StoreError, Tx},
};

/// Carries out what wasn't looked at yet.
///
/// # Errors
/// 422 for more than a machine may ask at once; the database's.
pub fn carry_out(tx: &mut dyn Tx, ctx: &OpCtx, node: &Node, orders: &[Order]) -> Result<()> {
    if orders.len() > ORDERS_MAX {
        return Err(Error::invalid(
            "/orders",
            format!("at most {ORDERS_MAX} orders"),
        ));
    }
    let mut node = upkeep::locked(tx, node.id)?;
    let (was, mut outcomes) = store::orders(tx, node.id)?;
    let mut seen = was;
    for order in orders {
        if order.number <= seen {
            continue;
        }
        seen = order.number;
        let outcome = match wish(tx, ctx, &node, &order.wish) {
            Ok(changed) => {
                node = changed;
                (DONE, String::new())
            }
            // said before anything was written: the transaction is as good as before
            Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Conflict) => {
                (error.code(), said(&error))
            }
            Err(error) => return Err(error),
        };
        outcomes.push(Outcome {
            number: order.number,
            code: outcome.0.to_owned(),
            detail: outcome.1,
        });
    }
    if seen == was {
        return Ok(());
    }
    let surplus = outcomes.len().saturating_sub(OUTCOMES_MAX);
    outcomes.drain(..surplus);
    if store::note_orders(tx, node.id, was, seen, &outcomes)? {
        Ok(())
    } else {
        Err(StoreError::Busy(format!("orders of {} were looked at meanwhile", node.id)).into())
    }
}

/// A refusal with the field that it is about.
fn said(error: &Error) -> String {
    error.fields().first().map_or_else(
        || error.detail().to_owned(),
        |field| format!("{}: {}", field.pointer, field.message),
    )
}

fn wish(tx: &mut dyn Tx, ctx: &OpCtx, node: &Node, wish: &Wish) -> Result<Node> {
    match wish {
        Wish::Cordon {} => upkeep::set_schedule(tx, ctx, node, Schedulability::Cordoned, None),
        Wish::Uncordon {} => upkeep::set_schedule(tx, ctx, node, Schedulability::Active, None),
        Wish::Drain { deadline } => {
            // one that passed on its way here means now
            let deadline = deadline.map(|deadline| deadline.max(ctx.now));
            upkeep::set_schedule(tx, ctx, node, Schedulability::Draining, deadline)
        }
        Wish::Announce { window } => {
            let mut windows = without(node, window.starts_at);
            windows.push(window.clone());
            upkeep::set_maintenance(tx, ctx, node, &windows)
        }
        Wish::Withdraw { starts_at } => {
            upkeep::set_maintenance(tx, ctx, node, &without(node, *starts_at))
        }
        Wish::Share {
            ram_bytes,
            cpu_millis,
            gpu_count,
            disk_bytes,
        } => {
            let resize = Resize {
                ram_bytes: *ram_bytes,
                cpu_millis: *cpu_millis,
                gpu_count: *gpu_count,
                disk_bytes: *disk_bytes,
            };
            capacity::resize(tx, node, &resize)?;
            super::changed(tx, ctx, node)
        }
    }
}

fn without(node: &Node, starts_at: Timestamp) -> Vec<Maintenance> {
    let all = node.maintenance.iter();
    all.filter(|window| window.starts_at != starts_at)
        .cloned()
        .collect()
}

/// How a node stands, for its agent.
///
/// # Errors
/// The database's.
pub fn standing(tx: &mut dyn Tx, now: Timestamp, node: &Node) -> Result<Standing> {
    let (orders_seen, outcomes) = store::orders(tx, node.id)?;
    let coming = node.maintenance.iter();
    Ok(Standing {
        schedulability: node.schedulability.name().to_owned(),
        drain_deadline: node.drain_deadline,
        maintenance: coming
            .filter(|window| window.ends_at > now)
            .cloned()
            .collect(),
        rentable: node.rentable,
        free: node.free,
        rentable_max: model::rentable_max(&node.inventory),
        orders_seen,
        outcomes,
    })
}
