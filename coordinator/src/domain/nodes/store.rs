//! SQL of nodes.

pub(super) mod blocklists;
pub(super) mod capacity;
pub(super) mod upkeep;

use shared::{
    id::{NodeId, UserId},
    resources::Resources,
    sign::PublicKey,
    time::Timestamp,
};

use super::model::{Availability, Flag, Lifecycle, Node, Schedulability};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "id, owner, name, public_key, lifecycle, schedulability, availability, availability_at, region, inventory, \
     agent_version, rentable_ram_bytes, rentable_cpu_millis, free_ram_bytes, free_cpu_millis, generation, created_at, rentable_gpus, \
     rentable_disk_bytes, free_gpus, free_disk_bytes, drain_deadline_at, maintenance, memory_pressure, \
     drain_asked_at";

fn parse(row: &Row) -> Result<Node> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("nodes", id, column);
    Ok(Node {
        id: id.parse().map_err(|_| bad("id"))?,
        owner: row.text(1)?.parse().map_err(|_| bad("owner"))?,
        name: row.text(2)?.to_owned(),
        public_key: PublicKey::from_bytes(row.blob(3)?).map_err(|_| bad("public_key"))?,
        lifecycle: Lifecycle::from_name(row.text(4)?).ok_or_else(|| bad("lifecycle"))?,
        schedulability: Schedulability::from_name(row.text(5)?)
            .ok_or_else(|| bad("schedulability"))?,
        availability: Availability::from_name(row.text(6)?).ok_or_else(|| bad("availability"))?,
        availability_at: Timestamp::from_micros(row.int(7)?),
        region: row.text(8)?.to_owned(),
        inventory: serde_json::from_str(row.text(9)?).map_err(|_| bad("inventory"))?,
        agent_version: row.text(10)?.to_owned(),
        rentable: Resources {
            ram_bytes: row.int(11)?,
            cpu_millis: row.int(12)?,
            gpu_count: row.int(17)?,
            disk_bytes: row.int(18)?,
        },
        free: Resources {
            ram_bytes: row.int(13)?,
            cpu_millis: row.int(14)?,
            gpu_count: row.int(19)?,
            disk_bytes: row.int(20)?,
        },
        generation: row.int(15)?,
        created_at: Timestamp::from_micros(row.int(16)?),
        drain_deadline: row.opt_int(21)?.map(Timestamp::from_micros),
        maintenance: serde_json::from_str(row.text(22)?).map_err(|_| bad("maintenance"))?,
        memory_pressure: row.text(23)?.to_owned(),
        drain_asked_at: row.opt_int(24)?.map(Timestamp::from_micros),
    })
}

fn one(rows: &[Row]) -> Result<Option<Node>> {
    rows.first().map(parse).transpose()
}

pub(super) fn insert(tx: &mut dyn Tx, node: &Node) -> Result<()> {
    let inventory = serde_json::to_string(&node.inventory).map_err(Error::internal)?;
    let maintenance = serde_json::to_string(&node.maintenance).map_err(Error::internal)?;
    tx.execute(
        &format!(
            "INSERT INTO nodes ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21, $22, $23, $24, $25)"
        ),
        params![
            node.id,
            node.owner,
            node.name.as_str(),
            node.public_key.as_bytes().as_slice(),
            node.lifecycle.name(),
            node.schedulability.name(),
            node.availability.name(),
            node.availability_at,
            node.region.as_str(),
            inventory,
            node.agent_version.as_str(),
            node.rentable.ram_bytes,
            node.rentable.cpu_millis,
            node.free.ram_bytes,
            node.free.cpu_millis,
            node.generation,
            node.created_at,
            node.rentable.gpu_count,
            node.rentable.disk_bytes,
            node.free.gpu_count,
            node.free.disk_bytes,
            node.drain_deadline,
            maintenance,
            node.memory_pressure.as_str(),
            node.drain_asked_at
        ],
    )?;
    Ok(())
}

pub(super) fn by_id(tx: &mut dyn Tx, id: NodeId) -> Result<Option<Node>> {
    one(&tx.query(
        &format!("SELECT {COLUMNS} FROM nodes WHERE id = $1"),
        params![id],
    )?)
}

pub(super) fn by_key(tx: &mut dyn Tx, key: &PublicKey) -> Result<Option<Node>> {
    one(&tx.query(
        &format!("SELECT {COLUMNS} FROM nodes WHERE public_key = $1"),
        params![key.as_bytes().as_slice()],
    )?)
}

/// Nodes of one owner, or of everybody, after a cursor.
pub(super) fn page(
    tx: &mut dyn Tx,
    owner: Option<UserId>,
    after: &str,
    limit: i64,
) -> Result<Vec<Node>> {
    let rows = match owner {
        Some(owner) => tx.query(
            &format!(
                "SELECT {COLUMNS} FROM nodes WHERE owner = $1 AND id > $2 ORDER BY id LIMIT $3"
            ),
            params![owner, after, limit],
        )?,
        None => tx.query(
            &format!("SELECT {COLUMNS} FROM nodes WHERE id > $1 ORDER BY id LIMIT $2"),
            params![after, limit],
        )?,
    };
    rows.iter().map(parse).collect()
}

pub(super) fn set_availability(
    tx: &mut dyn Tx,
    id: NodeId,
    to: Availability,
    now: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE nodes SET availability = $1, availability_at = $2 WHERE id = $3 AND availability <> $1",
        params![to.name(), now, id],
    )? == 1)
}

/// Keeps the row as it is until the end of this transaction, on databases that would let others change it.
pub(super) fn lock(tx: &mut dyn Tx, id: NodeId) -> Result<()> {
    tx.execute("UPDATE nodes SET name = name WHERE id = $1", params![id])?;
    Ok(())
}

/// Retires a member on which nothing is rented; false otherwise. The guard is the decision.
pub(super) fn retire(tx: &mut dyn Tx, id: NodeId) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE nodes SET lifecycle = 'retired' WHERE id = $1 AND lifecycle = 'member'
             AND free_ram_bytes = rentable_ram_bytes AND free_cpu_millis = rentable_cpu_millis
             AND free_gpus = rentable_gpus AND free_disk_bytes = rentable_disk_bytes",
        params![id],
    )? == 1)
}

/// Moves a node from one lifecycle to another; false if it isn't in the first.
pub(super) fn set_lifecycle(
    tx: &mut dyn Tx,
    id: NodeId,
    from: Lifecycle,
    to: Lifecycle,
) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE nodes SET lifecycle = $1 WHERE id = $2 AND lifecycle = $3",
        params![to.name(), id, from.name()],
    )? == 1)
}

/// Changes what is given; the rest stays, whoever changes it at the same time.
pub(super) fn set_names(
    tx: &mut dyn Tx,
    id: NodeId,
    name: Option<&str>,
    region: Option<&str>,
) -> Result<()> {
    tx.execute(
        "UPDATE nodes SET name = COALESCE($1, name), region = COALESCE($2, region) WHERE id = $3",
        params![name, region, id],
    )?;
    Ok(())
}

pub(super) fn set_inventory(
    tx: &mut dyn Tx,
    id: NodeId,
    inventory: &str,
    agent_version: &str,
) -> Result<()> {
    tx.execute(
        "UPDATE nodes SET inventory = $1, agent_version = $2 WHERE id = $3",
        params![inventory, agent_version, id],
    )?;
    Ok(())
}

pub(super) fn bump_generation(tx: &mut dyn Tx, id: NodeId) -> Result<()> {
    tx.execute(
        "UPDATE nodes SET generation = generation + 1 WHERE id = $1",
        params![id],
    )?;
    Ok(())
}

pub(super) fn insert_token(
    tx: &mut dyn Tx,
    hash: &[u8],
    owner: UserId,
    now: Timestamp,
    expires: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO enrollment_tokens (hash, owner, created_at, expires_at, node_id) VALUES ($1, $2, $3, $4, NULL)",
        params![hash, owner, now, expires],
    )?;
    Ok(())
}

/// A token: (owner, expiry, the node that used it).
pub(super) fn token(
    tx: &mut dyn Tx,
    hash: &[u8],
) -> Result<Option<(UserId, Timestamp, Option<NodeId>)>> {
    let rows = tx.query(
        "SELECT owner, expires_at, node_id FROM enrollment_tokens WHERE hash = $1",
        params![hash],
    )?;
    rows.first()
        .map(|row| {
            let bad = |column: &str| Error::corrupt("enrollment_tokens", "", column);
            let node = row
                .opt_text(2)?
                .map(|id| id.parse().map_err(|_| bad("node_id")))
                .transpose()?;
            Ok((
                row.text(0)?.parse().map_err(|_| bad("owner"))?,
                Timestamp::from_micros(row.int(1)?),
                node,
            ))
        })
        .transpose()
}

/// Uses a token once.
pub(super) fn use_token(tx: &mut dyn Tx, hash: &[u8], node: NodeId) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE enrollment_tokens SET node_id = $1 WHERE hash = $2 AND node_id IS NULL",
        params![node, hash],
    )? == 1)
}

/// How many tokens of a provider wait to be used.
pub(super) fn open_tokens(tx: &mut dyn Tx, owner: UserId, now: Timestamp) -> Result<i64> {
    let rows = tx.query(
        "SELECT COUNT(*) FROM enrollment_tokens WHERE owner = $1 AND expires_at > $2 AND node_id IS NULL",
        params![owner, now],
    )?;
    rows.first()
        .ok_or_else(|| Error::corrupt("enrollment_tokens", "", "count"))
        .and_then(|row| Ok(row.int(0)?))
}

/// Deletes tokens that expired before `before`.
pub(super) fn delete_tokens(tx: &mut dyn Tx, before: Timestamp) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM enrollment_tokens WHERE expires_at < $1",
        params![before],
    )?)
}

/// Notes a flag; false if the same was noted after `unless_since`.
pub(super) fn flag(
    tx: &mut dyn Tx,
    id: NodeId,
    code: &str,
    detail: &str,
    now: Timestamp,
    unless_since: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO node_flags (node_id, code, detail, first_at, last_at, times) VALUES ($1, $2, $3, $4, $4, 1)
         ON CONFLICT (node_id, code) DO UPDATE SET detail = $3, last_at = $4, times = node_flags.times + 1
             WHERE node_flags.last_at <= $5",
        params![id, code, detail, now, unless_since],
    )? == 1)
}

/// Flags of a node.
pub(super) fn flags(tx: &mut dyn Tx, id: NodeId) -> Result<Vec<Flag>> {
    let rows = tx.query(
        "SELECT code, detail, first_at, last_at, times FROM node_flags WHERE node_id = $1 ORDER BY code",
        params![id],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Flag {
                code: row.text(0)?.to_owned(),
                detail: row.text(1)?.to_owned(),
                first_at: Timestamp::from_micros(row.int(2)?),
                last_at: Timestamp::from_micros(row.int(3)?),
                times: row.int(4)?,
            })
        })
        .collect()
}

/// Members that were last seen there or almost: (id, availability).
pub(super) fn members(
    tx: &mut dyn Tx,
    after: &str,
    limit: i64,
) -> Result<Vec<(NodeId, Availability)>> {
    let rows = tx.query(
        "SELECT id, availability FROM nodes WHERE lifecycle = 'member' AND id > $1 ORDER BY id LIMIT $2",
        params![after, limit],
    )?;
    rows.iter()
        .map(|row| {
            let id = row.text(0)?;
            let bad = |column: &str| Error::corrupt("nodes", id, column);
            Ok((
                id.parse().map_err(|_| bad("id"))?,
                Availability::from_name(row.text(1)?).ok_or_else(|| bad("availability"))?,
            ))
        })
        .collect()
}
