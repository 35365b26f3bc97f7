//! SQL of `node_links`: which coordinator holds the link of which node.

use shared::{id::NodeId, time::Timestamp};

use crate::{error::Result, params, store::Tx};

/// Who holds a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// Where it is reached by other coordinators.
    pub(super) peer_url: String,
    /// Its run.
    pub(super) instance: String,
}

/// Notes that a link is held; whoever held one of this node before, holds it no more.
pub(super) fn hold(
    tx: &mut dyn Tx,
    node: NodeId,
    holder: &Holder,
    serial: i64,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO node_links (node_id, peer_url, instance, serial, linked_us) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (node_id) DO UPDATE SET peer_url = $2, instance = $3, serial = $4, linked_us = $5",
        params![
            node,
            holder.peer_url.as_str(),
            holder.instance.as_str(),
            serial,
            now
        ],
    )?;
    Ok(())
}

/// Forgets a link, unless another one is held by now.
pub(super) fn let_go(tx: &mut dyn Tx, node: NodeId, instance: &str, serial: i64) -> Result<()> {
    tx.execute(
        "DELETE FROM node_links WHERE node_id = $1 AND instance = $2 AND serial = $3",
        params![node, instance, serial],
    )?;
    Ok(())
}

pub(super) fn holder(tx: &mut dyn Tx, node: NodeId) -> Result<Option<Holder>> {
    let rows = tx.query(
        "SELECT peer_url, instance FROM node_links WHERE node_id = $1",
        params![node],
    )?;
    let found = rows.first().map(|row| {
        Ok(Holder {
            peer_url: row.text(0)?.to_owned(),
            instance: row.text(1)?.to_owned(),
        })
    });
    found.transpose()
}
