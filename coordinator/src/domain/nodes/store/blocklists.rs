//! SQL of the lists of whom and what a node doesn't serve.

use shared::{id::NodeId, image::rules::Pattern, time::Timestamp};

use crate::{
    domain::nodes::blocklists::{Blocked, Blocklists},
    error::{Error, Result},
    params,
    store::Tx,
};

pub(in crate::domain::nodes) fn of(tx: &mut dyn Tx, node: NodeId) -> Result<Option<Blocklists>> {
    let rows = tx.query(
        "SELECT consumers, images, registries, version, updated_at FROM node_blocklists WHERE node_id = $1",
        params![node],
    )?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let bad = |column: &str| Error::corrupt("node_blocklists", &node.to_string(), column);
    let consumers: Vec<String> =
        serde_json::from_str(row.text(0)?).map_err(|_| bad("consumers"))?;
    let consumers = consumers.iter().map(|text| text.parse());
    let patterns = |text: &str, column: &str| {
        serde_json::from_str::<Vec<Pattern>>(text).map_err(|_| bad(column))
    };
    Ok(Some(Blocklists {
        consumers: consumers
            .collect::<Result<Vec<Blocked>, ()>>()
            .map_err(|()| bad("consumers"))?,
        images: patterns(row.text(1)?, "images")?,
        registries: patterns(row.text(2)?, "registries")?,
        version: row.int(3)?,
        updated_at: Some(Timestamp::from_micros(row.int(4)?)),
    }))
}

/// Writes the lists of a node whose row is locked by this transaction.
pub(in crate::domain::nodes) fn put(
    tx: &mut dyn Tx,
    node: NodeId,
    lists: &Blocklists,
) -> Result<()> {
    let consumers: Vec<String> = lists.consumers.iter().map(ToString::to_string).collect();
    tx.execute(
        "INSERT INTO node_blocklists (node_id, consumers, images, registries, version, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (node_id) DO UPDATE SET consumers = excluded.consumers, images = excluded.images,
             registries = excluded.registries, version = excluded.version, updated_at = excluded.updated_at",
        params![
            node,
            serde_json::to_string(&consumers).map_err(Error::internal)?,
            serde_json::to_string(&lists.images).map_err(Error::internal)?,
            serde_json::to_string(&lists.registries).map_err(Error::internal)?,
            lists.version,
            lists.updated_at
        ],
    )?;
    Ok(())
}
