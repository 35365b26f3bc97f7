//! The journal's SQL. Knows nothing of chains: callers keep the numbers dense.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row as SqlRow, params};
use shared::{
    id::{NodeId, RentalId},
    journal::{Ack, Hash, SignedRecord},
    sign::PublicKey,
    wire::heartbeat::JournalHead,
};

use super::JournalError;

const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE chain (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    node_id TEXT NOT NULL,
    public_key TEXT NOT NULL,
    acked_seq INTEGER NOT NULL,
    acked_hash BLOB NOT NULL,
    receipt TEXT
) STRICT;
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    rental_id TEXT NOT NULL,
    appended_us INTEGER NOT NULL,
    hash BLOB NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX records_by_rental ON records (rental_id, seq);
";

/// Up to where the coordinator has the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) seq: i64,
    pub(super) hash: Hash,
    /// The coordinator's signed word for it: the provider's evidence.
    pub(super) receipt: Option<Ack>,
}

/// Whose chain it is.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) node_id: NodeId,
    pub(super) public_key: PublicKey,
    pub(super) acked: Acked,
}

/// A record as it is stored.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) rental_id: RentalId,
    pub(super) appended_us: i64,
    pub(super) hash: Hash,
    /// The signed record as JSON.
    pub(super) body: String,
}

/// Makes an empty journal under a temporary name and then gives it its own: there is no half-made journal.
pub(super) fn create(path: &Path, node_id: NodeId, key: &PublicKey) -> Result<(), JournalError> {
    if path.exists() {
        return check_empty(path, node_id, key);
    }
    let temporary = path.with_extension("db.new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = crate::durable::create_private(&temporary)?;
    let mut db = Connection::open(&temporary)?;
    let tx = db.transaction()?;
    tx.execute_batch(SCHEMA)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.execute(
        "INSERT INTO chain VALUES (1, ?1, ?2, 0, ?3, NULL)",
        params![
            node_id.to_string(),
            key.to_string(),
            Hash::GENESIS.as_bytes()
        ],
    )?;
    tx.commit()?;
    db.close().map_err(|(_, error)| error)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    crate::durable::sync_folder_of(path)?;
    Ok(())
}

fn check_empty(path: &Path, node_id: NodeId, key: &PublicKey) -> Result<(), JournalError> {
    let db = open(path)?;
    let chain = chain(&db)?;
    if chain.node_id != node_id || chain.public_key != *key {
        return Err(JournalError::OtherNode {
            found: chain.node_id,
            expected: node_id,
        });
    }
    Ok(())
}

pub(super) fn open(path: &Path) -> Result<Connection, JournalError> {
    if !path.exists() {
        return Err(JournalError::Missing {
            path: path.display().to_string(),
        });
    }
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    prepare(&db).map_err(|error| match error {
        JournalError::Database(error) if is_damage(&error) => JournalError::damaged(error),
        other => other,
    })?;
    Ok(db)
}

fn prepare(db: &Connection) -> Result<(), JournalError> {
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    // KiB: the agent is to stay small, and it reads only the end
    db.pragma_update(None, "cache_size", -256)?;
    // pages: a checkpoint stays short
    db.pragma_update(None, "wal_autocheckpoint", 256)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != SCHEMA_VERSION {
        return Err(JournalError::damaged(format!(
            "it has the format {version}, and this agent reads {SCHEMA_VERSION}"
        )));
    }
    Ok(())
}

pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
}

pub(super) fn chain(db: &Connection) -> Result<Chain, JournalError> {
    let row = db
        .query_row(
            "SELECT node_id, public_key, acked_seq, acked_hash, receipt FROM chain WHERE id = 1",
            [],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    hash_at(row, 3)?,
                    row.get::<_, Option<String>>(4)?,
                ))
            },
        )
        .optional()?;
    let (node_id, public_key, seq, hash, receipt) =
        row.ok_or_else(|| JournalError::damaged("it doesn't say whose it is"))?;
    Ok(Chain {
        node_id: node_id.parse().map_err(JournalError::damaged)?,
        public_key: public_key.try_into().map_err(JournalError::damaged)?,
        acked: Acked {
            seq,
            hash,
            receipt: receipt
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(JournalError::damaged)?,
        },
    })
}

pub(super) fn head(db: &Connection) -> Result<JournalHead, JournalError> {
    let found = db
        .prepare_cached("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| {
            Ok(JournalHead {
                seq: row.get(0)?,
                hash: hash_at(row, 1)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or(JournalHead {
        seq: 0,
        hash: Hash::GENESIS,
    }))
}

pub(super) fn oldest_seq(db: &Connection) -> Result<i64, JournalError> {
    Ok(
        db.query_row("SELECT COALESCE(MIN(seq), 0) FROM records", [], |row| {
            row.get(0)
        })?,
    )
}

pub(super) fn hash_of(db: &Connection, seq: i64) -> Result<Option<Hash>, JournalError> {
    Ok(db
        .prepare_cached("SELECT hash FROM records WHERE seq = ?1")?
        .query_row([seq], |row| hash_at(row, 0))
        .optional()?)
}

pub(super) fn last_of(
    db: &Connection,
    rental_id: RentalId,
) -> Result<Option<SignedRecord>, JournalError> {
    let body = db
        .prepare_cached("SELECT body FROM records WHERE rental_id = ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([rental_id.to_string()], |row| row.get::<_, String>(0))
        .optional()?;
    body.map(|text| parse(&text)).transpose()
}

/// The newest record.
pub(super) fn last(db: &Connection) -> Result<Option<SignedRecord>, JournalError> {
    let body = db
        .prepare_cached("SELECT body FROM records ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get::<_, String>(0))
        .optional()?;
    body.map(|text| parse(&text)).transpose()
}

/// Records behind `seq`, oldest first, with at most `bytes_max` of JSON, but at least one if there is any.
pub(super) fn after(
    db: &Connection,
    seq: i64,
    bytes_max: usize,
) -> Result<Vec<SignedRecord>, JournalError> {
    let mut statement =
        db.prepare_cached("SELECT body FROM records WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query([seq])?;
    let (mut records, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_str().map_err(JournalError::damaged)?;
        bytes = bytes.saturating_add(body.len() + 1);
        if bytes > bytes_max && !records.is_empty() {
            break;
        }
        records.push(parse(body)?);
    }
    Ok(records)
}

/// All records from `seq` on, each given to `visit`, oldest first.
pub(super) fn walk(
    db: &Connection,
    seq: i64,
    mut visit: impl FnMut(SignedRecord, Hash) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut statement =
        db.prepare("SELECT seq, hash, body FROM records WHERE seq >= ?1 ORDER BY seq")?;
    let mut rows = statement.query([seq])?;
    while let Some(row) = rows.next()? {
        let (key, hash): (i64, Hash) = (row.get(0)?, hash_at(row, 1)?);
        let signed = parse(row.get_ref(2)?.as_str().map_err(JournalError::damaged)?)?;
        if signed.record.seq != key {
            return Err(JournalError::damaged(format!(
                "row {key} holds record {}",
                signed.record.seq
            )));
        }
        visit(signed, hash)?;
    }
    Ok(())
}

pub(super) fn append(
    db: &mut Connection,
    rows: &[Row],
    ack: Option<&Acked>,
) -> Result<(), JournalError> {
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    {
        let mut insert = tx.prepare_cached(
            "INSERT INTO records (seq, rental_id, appended_us, hash, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for row in rows {
            insert.execute(params![
                row.seq,
                row.rental_id.to_string(),
                row.appended_us,
                row.hash.as_bytes(),
                row.body
            ])?;
        }
    }
    if let Some(acked) = ack {
        save_ack(&tx, acked)?;
    }
    tx.commit()?;
    Ok(())
}

pub(super) fn save_ack(db: &Connection, acked: &Acked) -> Result<(), JournalError> {
    let receipt = acked
        .receipt
        .as_ref()
        .map(serde_json::to_string)
        .transpose()
        .map_err(JournalError::Encode)?;
    db.prepare_cached(
        "UPDATE chain SET acked_seq = ?1, acked_hash = ?2, receipt = ?3 WHERE id = 1",
    )?
    .execute(params![acked.seq, acked.hash.as_bytes(), receipt])?;
    Ok(())
}

/// Records that are kept, and bytes of the file.
pub(super) fn size(db: &Connection) -> Result<(i64, i64), JournalError> {
    // numbers have no gaps: no need to count
    let records = db
        .prepare_cached("SELECT COALESCE(MAX(seq) - MIN(seq) + 1, 0) FROM records")?
        .query_row([], |row| row.get(0))?;
    let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let page_bytes: i64 = db.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Ok((records, pages.saturating_mul(page_bytes)))
}

/// Deletes the oldest records below `seq` that were made before `before_us`, at most `limit`, without leaving a hole.
pub(super) fn prune(
    db: &Connection,
    seq: i64,
    before_us: i64,
    limit: i64,
) -> Result<usize, JournalError> {
    // up to the first one that must stay: a wall clock that was wrong for a while can't tear the chain
    Ok(db
        .prepare_cached(
            "DELETE FROM records WHERE seq < (
                SELECT COALESCE(
                    (SELECT seq FROM records WHERE seq >= ?1 OR appended_us >= ?2 ORDER BY seq LIMIT 1), 0))
             AND seq < (SELECT MIN(seq) FROM records) + ?3",
        )?
        .execute([seq, before_us, limit])?)
}

fn parse(body: &str) -> Result<SignedRecord, JournalError> {
    serde_json::from_str(body).map_err(JournalError::damaged)
}

fn hash_at(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Hash> {
    let bytes = row.get_ref(column)?.as_blob()?;
    Hash::from_bytes(bytes).ok_or(rusqlite::Error::InvalidColumnType(
        column,
        "hash".to_owned(),
        rusqlite::types::Type::Blob,
    ))
}
