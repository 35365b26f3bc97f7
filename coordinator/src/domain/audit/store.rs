//! SQL of `audit_log` and `audit_head`.

use shared::time::Timestamp;

use super::model::{Filter, Hash, Record};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx, Value},
};

const COLUMNS: &str = "seq, at_us, actor, via, action, object, before_json, after_json, reason, client, request_id, prev_hash, hash";

fn hash_of(row: &Row, column: usize, table: &str) -> Result<Hash> {
    row.blob(column)?
        .try_into()
        .map_err(|_| Error::corrupt(table, "", "hash"))
}

/// Locks the end of the chain for this transaction and returns it.
pub(super) fn lock_head(tx: &mut dyn Tx) -> Result<(i64, Hash)> {
    let sql = "UPDATE audit_head SET seq = seq WHERE one = 1 RETURNING seq, hash";
    end_of(&tx.query(sql, &[])?)
}

/// The end of the chain.
pub(super) fn head(tx: &mut dyn Tx) -> Result<(i64, Hash)> {
    end_of(&tx.query("SELECT seq, hash FROM audit_head WHERE one = 1", &[])?)
}

fn end_of(rows: &[Row]) -> Result<(i64, Hash)> {
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("audit_head", "1", "one"))?;
    Ok((row.int(0)?, hash_of(row, 1, "audit_head")?))
}

/// Adds the row that follows the locked head, and moves the head to it.
pub(super) fn append(tx: &mut dyn Tx, record: &Record) -> Result<()> {
    tx.execute(
        &format!("INSERT INTO audit_log ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"),
        params![
            record.seq,
            record.at,
            record.actor.as_str(),
            record.via.as_deref(),
            record.action.as_str(),
            record.object.as_str(),
            record.before.as_deref(),
            record.after.as_deref(),
            record.reason.as_deref(),
            record.client.as_deref(),
            record.request_id.as_str(),
            record.prev_hash.as_slice(),
            record.hash.as_slice(),
        ],
    )?;
    let moved = tx.execute(
        "UPDATE audit_head SET seq = $1, hash = $2 WHERE one = 1 AND seq = $3",
        params![record.seq, record.hash.as_slice(), record.seq - 1],
    )?;
    if moved == 1 {
        Ok(())
    } else {
        Err(Error::corrupt("audit_head", "1", "seq"))
    }
}

fn record_of(row: &Row) -> Result<Record> {
    let text = |column| Ok::<_, Error>(row.text(column)?.to_owned());
    let opt = |column| Ok::<_, Error>(row.opt_text(column)?.map(str::to_owned));
    Ok(Record {
        seq: row.int(0)?,
        at: Timestamp::from_micros(row.int(1)?),
        actor: text(2)?,
        via: opt(3)?,
        action: text(4)?,
        object: text(5)?,
        before: opt(6)?,
        after: opt(7)?,
        reason: opt(8)?,
        client: opt(9)?,
        request_id: text(10)?,
        prev_hash: hash_of(row, 11, "audit_log")?,
        hash: hash_of(row, 12, "audit_log")?,
    })
}

/// Up to `count_max` rows after place `seq`, in order.
pub(super) fn after(tx: &mut dyn Tx, seq: i64, count_max: i64) -> Result<Vec<Record>> {
    tx.query(
        &format!("SELECT {COLUMNS} FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2"),
        params![seq, count_max],
    )?
    .iter()
    .map(record_of)
    .collect()
}

/// Up to `count_max` rows that pass `filter`, newest first, older than the moment and place `before`.
pub(super) fn page(
    tx: &mut dyn Tx,
    filter: &Filter,
    before: Option<(i64, i64)>,
    count_max: i64,
) -> Result<Vec<Record>> {
    let mut values: Vec<Value> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{condition} ${}", values.len()));
    };
    let texts = [
        ("actor =", &filter.actor),
        ("action =", &filter.action),
        ("object =", &filter.object),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            add(condition, value.as_str().into());
        }
    }
    if let Some(from) = filter.from {
        add("at_us >=", from.into());
    }
    if let Some(to) = filter.to {
        add("at_us <", to.into());
    }
    // without a place to go on from it is the end: a range of an index in any case
    let (at_us, seq) = before.unwrap_or((i64::MAX, i64::MAX));
    values.extend([at_us.into(), seq.into()]);
    let last = values.len();
    conditions.push(format!("(at_us, seq) < (${}, ${last})", last - 1));
    let filtered = conditions.join(" AND ");
    values.push(count_max.into());
    let limit = values.len();
    tx.query(
        &format!("SELECT {COLUMNS} FROM audit_log WHERE {filtered} ORDER BY at_us DESC, seq DESC LIMIT ${limit}"),
        &values,
    )?
    .iter()
    .map(record_of)
    .collect()
}

/// The settings of the last start.
pub(super) fn settings(tx: &mut dyn Tx) -> Result<Option<String>> {
    let rows = tx.query("SELECT value FROM store_meta WHERE key = 'settings'", &[])?;
    Ok(rows
        .first()
        .map(|row| row.text(0).map(str::to_owned))
        .transpose()?)
}

/// Keeps the settings of this start.
pub(super) fn keep_settings(tx: &mut dyn Tx, text: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO store_meta (key, value) VALUES ('settings', $1)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![text],
    )?;
    Ok(())
}
