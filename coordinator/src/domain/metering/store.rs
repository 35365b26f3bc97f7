//! SQL of evidence: chain heads, usage records, coverage, and when coordinators were alive.

use shared::{
    id::{NodeId, RentalId},
    journal::{Hash, SignedRecord},
    time::Timestamp,
};

use super::{
    RecordPlace,
    model::{Head, Interval},
};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

pub(super) fn head(tx: &mut dyn Tx, node: NodeId) -> Result<Option<Head>> {
    let rows = tx.query(
        "SELECT seq, hash, boot_id, boot_ms, received_at, faults FROM node_chains WHERE node_id = $1",
        params![node],
    )?;
    rows.first()
        .map(|row| {
            Ok(Head {
                seq: row.int(0)?,
                hash: Hash::from_bytes(row.blob(1)?)
                    .ok_or_else(|| Error::corrupt("node_chains", &node.to_string(), "hash"))?,
                boot_id: row.text(2)?.to_owned(),
                boot_ms: row.int(3)?,
                received_at: Timestamp::from_micros(row.int(4)?),
                faults: row.int(5)?,
            })
        })
        .transpose()
}

/// Moves the head on from `before`; false if another beat of the node moved it since it was read.
pub(super) fn set_head(
    tx: &mut dyn Tx,
    node: NodeId,
    before: Option<&Head>,
    head: &Head,
) -> Result<bool> {
    let (hash, boot) = (head.hash.as_bytes().as_slice(), head.boot_id.as_str());
    let changed = match before {
        None => tx.execute(
            "INSERT INTO node_chains (node_id, seq, hash, boot_id, boot_ms, received_at, faults)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (node_id) DO NOTHING",
            params![
                node,
                head.seq,
                hash,
                boot,
                head.boot_ms,
                head.received_at,
                head.faults
            ],
        )?,
        Some(old) => tx.execute(
            "UPDATE node_chains SET seq = $2, hash = $3, boot_id = $4, boot_ms = $5, received_at = $6, faults = $9
             WHERE node_id = $1 AND seq = $7 AND received_at = $8",
            params![
                node,
                head.seq,
                hash,
                boot,
                head.boot_ms,
                head.received_at,
                old.seq,
                old.received_at,
                head.faults
            ],
        )?,
    };
    Ok(changed == 1)
}

pub(super) fn insert_record(
    tx: &mut dyn Tx,
    node: NodeId,
    signed: &SignedRecord,
    now: Timestamp,
) -> Result<()> {
    let body = serde_json::to_string(signed).map_err(Error::internal)?;
    tx.execute(
        "INSERT INTO usage_records (node_id, seq, hash, rental_id, body, received_at) VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            node,
            signed.record.seq,
            signed.record.hash().as_bytes().as_slice(),
            signed.record.rental_id,
            body,
            now
        ],
    )?;
    Ok(())
}

/// A record as it is kept.
pub(super) struct Link {
    pub(super) node: NodeId,
    pub(super) seq: i64,
    pub(super) hash: Hash,
    /// Nothing if it can't be read as a record.
    pub(super) signed: Option<SignedRecord>,
    pub(super) received_at: Timestamp,
}

/// Records that arrived up to a moment, the oldest first, after a place among them.
pub(super) fn chain_page(
    tx: &mut dyn Tx,
    (at, node, seq): &RecordPlace,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<Link>> {
    let rows = tx.query(
        "SELECT received_at, node_id, seq, hash, body FROM usage_records
         WHERE (received_at, node_id, seq) > ($1, $2, $3) AND received_at <= $4
         ORDER BY received_at, node_id, seq LIMIT $5",
        params![*at, node.as_str(), *seq, until, limit],
    )?;
    rows.iter()
        .map(|row| {
            let node = row.text(1)?;
            let bad = |column: &str| Error::corrupt("usage_records", node, column);
            Ok(Link {
                node: node.parse().map_err(|_| bad("node_id"))?,
                seq: row.int(2)?,
                hash: Hash::from_bytes(row.blob(3)?).ok_or_else(|| bad("hash"))?,
                signed: serde_json::from_str(row.text(4)?).ok(),
                received_at: Timestamp::from_micros(row.int(0)?),
            })
        })
        .collect()
}

pub(super) fn record_hash(tx: &mut dyn Tx, node: NodeId, seq: i64) -> Result<Option<Vec<u8>>> {
    let rows = tx.query(
        "SELECT hash FROM usage_records WHERE node_id = $1 AND seq = $2",
        params![node, seq],
    )?;
    rows.first()
        .map(|row| Ok(row.blob(0)?.to_vec()))
        .transpose()
}

/// A node's records of a rental with when they arrived, after a position.
pub(super) fn records_of(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
    after: i64,
    limit: i64,
) -> Result<Vec<(SignedRecord, Timestamp)>> {
    let rows = tx.query(
        "SELECT seq, body, received_at FROM usage_records WHERE rental_id = $1 AND seq > $2 AND node_id = $3 ORDER BY seq LIMIT $4",
        params![rental, after, node, limit],
    )?;
    rows.iter()
        .map(|row| {
            let signed = serde_json::from_str(row.text(1)?).map_err(|_| {
                Error::corrupt(
                    "usage_records",
                    &row.int(0).unwrap_or(0).to_string(),
                    "body",
                )
            })?;
            Ok((signed, Timestamp::from_micros(row.int(2)?)))
        })
        .collect()
}

/// A node's newest records of a rental: number, hash, arrival; newest first.
pub(super) fn newest_receipts(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
    limit: i64,
) -> Result<Vec<(i64, Hash, Timestamp)>> {
    let rows = tx.query(
        "SELECT seq, hash, received_at FROM usage_records WHERE rental_id = $1 AND node_id = $2 ORDER BY seq DESC LIMIT $3",
        params![rental, node, limit],
    )?;
    rows.iter()
        .map(|row| {
            let seq = row.int(0)?;
            let hash = Hash::from_bytes(row.blob(1)?)
                .ok_or_else(|| Error::corrupt("usage_records", &seq.to_string(), "hash"))?;
            Ok((seq, hash, Timestamp::from_micros(row.int(2)?)))
        })
        .collect()
}

/// A node's last record of a rental.
pub(super) fn last_record_of(
    tx: &mut dyn Tx,
    node: NodeId,
    rental: RentalId,
) -> Result<Option<SignedRecord>> {
    let rows = tx.query(
        "SELECT seq, body FROM usage_records WHERE rental_id = $1 AND node_id = $2 ORDER BY seq DESC LIMIT 1",
        params![rental, node],
    )?;
    rows.first()
        .map(|row| {
            serde_json::from_str(row.text(1)?).map_err(|_| {
                Error::corrupt(
                    "usage_records",
                    &row.int(0).unwrap_or(0).to_string(),
                    "body",
                )
            })
        })
        .transpose()
}

/// Records that arrived before a moment, the oldest first, after a place among them; each with its rental.
pub(super) fn records_before(
    tx: &mut dyn Tx,
    before: Timestamp,
    (at, node, seq): &RecordPlace,
    limit: i64,
) -> Result<Vec<(RecordPlace, RentalId)>> {
    let rows = tx.query(
        "SELECT received_at, node_id, seq, rental_id FROM usage_records
         WHERE (received_at, node_id, seq) > ($1, $2, $3) AND received_at < $4
         ORDER BY received_at, node_id, seq LIMIT $5",
        params![*at, node.as_str(), *seq, before, limit],
    )?;
    rows.iter()
        .map(|row| {
            let (node, seq) = (row.text(1)?.to_owned(), row.int(2)?);
            let rental = row.text(3)?.parse();
            let rental = rental.map_err(|_| Error::corrupt("usage_records", &node, "rental_id"))?;
            Ok(((Timestamp::from_micros(row.int(0)?), node, seq), rental))
        })
        .collect()
}

/// Forgets a record.
pub(super) fn forget_record(tx: &mut dyn Tx, (_, node, seq): &RecordPlace) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM usage_records WHERE node_id = $1 AND seq = $2",
        params![node.as_str(), *seq],
    )?)
}

/// Moves the end of the stretch that ends at `part.start`, or begins another.
pub(super) fn add_coverage(tx: &mut dyn Tx, node: NodeId, part: &Interval) -> Result<()> {
    let moved = tx.execute(
        "UPDATE node_coverage SET end_at = $1 WHERE node_id = $2 AND end_at = $3",
        params![part.end, node, part.start],
    )?;
    if moved == 0 {
        tx.execute(
            "INSERT INTO node_coverage (node_id, start_at, end_at) VALUES ($1, $2, $3)
             ON CONFLICT (node_id, start_at) DO UPDATE SET end_at = $3",
            params![node, part.start, part.end],
        )?;
    }
    Ok(())
}

fn interval(row: &Row) -> Result<Interval> {
    Ok(Interval {
        start: Timestamp::from_micros(row.int(0)?),
        end: Timestamp::from_micros(row.int(1)?),
    })
}

/// Stretches of a node's coverage that meet a window.
pub(super) fn coverage(tx: &mut dyn Tx, node: NodeId, window: &Interval) -> Result<Vec<Interval>> {
    let rows = tx.query(
        "SELECT start_at, end_at FROM node_coverage WHERE node_id = $1 AND end_at > $2 AND start_at < $3 ORDER BY end_at",
        params![node, window.start, window.end],
    )?;
    rows.iter().map(interval).collect()
}

/// When coordinators were alive, as far as it meets a window.
pub(super) fn alive(tx: &mut dyn Tx, window: &Interval) -> Result<Vec<Interval>> {
    let rows = tx.query(
        "SELECT started_at, alive_until FROM uptime WHERE alive_until > $1 AND started_at < $2 ORDER BY started_at",
        params![window.start, window.end],
    )?;
    rows.iter().map(interval).collect()
}

/// Forgets up to `limit` runs of coordinators that ended before a moment; how many.
pub(super) fn forget_runs(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM uptime WHERE epoch IN
         (SELECT epoch FROM uptime WHERE alive_until < $1 ORDER BY alive_until LIMIT $2)",
        params![before, limit],
    )?)
}

/// Says that this run of a coordinator is alive.
pub(super) fn keep_alive(
    tx: &mut dyn Tx,
    epoch: &str,
    started: Timestamp,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO uptime (epoch, started_at, alive_until) VALUES ($1, $2, $3)
         ON CONFLICT (epoch) DO UPDATE SET alive_until = $3",
        params![epoch, started, now],
    )?;
    Ok(())
}
