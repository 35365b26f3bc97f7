//! SQL of `kyc_cases`, `kyc_documents` and `kyc_events`.

use shared::{
    id::{KycCaseId, KycDocumentId, UserId},
    time::Timestamp,
};

use super::{
    NewDocument,
    model::{Case, Document, State},
};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const CASE: &str = "id, user_id, provider, state, reason, created_at, decided_at, expires_at, documents_until, version";

fn case_of(row: &Row) -> Result<Case> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("kyc_cases", id, column);
    let time = |column| Ok::<_, Error>(row.opt_int(column)?.map(Timestamp::from_micros));
    Ok(Case {
        id: id.parse().map_err(|_| bad("id"))?,
        user: row.text(1)?.parse().map_err(|_| bad("user_id"))?,
        provider: row.text(2)?.to_owned(),
        state: State::from_name(row.text(3)?).ok_or_else(|| bad("state"))?,
        reason: row.opt_text(4)?.map(str::to_owned),
        created_at: Timestamp::from_micros(row.int(5)?),
        decided_at: time(6)?,
        expires_at: time(7)?,
        documents_until: time(8)?,
        version: row.int(9)?,
    })
}

/// Adds a pending case; false if the account has one that is pending or approved.
pub(super) fn insert(tx: &mut dyn Tx, case: &Case) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO kyc_cases (id, user_id, provider, state, created_at, version) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (user_id) WHERE state IN ('pending', 'approved') DO NOTHING",
        params![
            case.id,
            case.user,
            case.provider.as_str(),
            case.state.name(),
            case.created_at,
            case.version
        ],
    )?;
    Ok(added == 1)
}

/// Changes a case; false if somebody else did since `old_version`.
pub(super) fn update(tx: &mut dyn Tx, case: &Case, old_version: i64) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE kyc_cases SET state = $1, reason = $2, decided_at = $3, expires_at = $4, documents_until = $5, version = $6
         WHERE id = $7 AND version = $8",
        params![
            case.state.name(),
            case.reason.as_deref(),
            case.decided_at,
            case.expires_at,
            case.documents_until,
            case.version,
            case.id,
            old_version
        ],
    )? == 1)
}

pub(super) fn by_id(tx: &mut dyn Tx, id: KycCaseId) -> Result<Option<Case>> {
    let sql = format!("SELECT {CASE} FROM kyc_cases WHERE id = $1");
    tx.query(&sql, params![id])?
        .first()
        .map(case_of)
        .transpose()
}

/// The account's newest case.
pub(super) fn newest(tx: &mut dyn Tx, user: UserId) -> Result<Option<Case>> {
    let sql = format!("SELECT {CASE} FROM kyc_cases WHERE user_id = $1 ORDER BY id DESC LIMIT 1");
    tx.query(&sql, params![user])?
        .first()
        .map(case_of)
        .transpose()
}

/// Cases of one state after a cursor, oldest first.
pub(super) fn page(tx: &mut dyn Tx, state: State, after: &str, limit: i64) -> Result<Vec<Case>> {
    let sql =
        format!("SELECT {CASE} FROM kyc_cases WHERE state = $1 AND id > $2 ORDER BY id LIMIT $3");
    let rows = tx.query(&sql, params![state.name(), after, limit])?;
    rows.iter().map(case_of).collect()
}

/// Approvals that ran out.
pub(super) fn run_out(tx: &mut dyn Tx, now: Timestamp, limit: i64) -> Result<Vec<Case>> {
    let sql = format!(
        "SELECT {CASE} FROM kyc_cases WHERE state = 'approved' AND expires_at <= $1 ORDER BY expires_at LIMIT $2"
    );
    let rows = tx.query(&sql, params![now, limit])?;
    rows.iter().map(case_of).collect()
}

pub(super) fn insert_document(
    tx: &mut dyn Tx,
    case: KycCaseId,
    document: &NewDocument,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO kyc_documents (id, case_id, kind, media_type, size_bytes, sealed, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        params![
            document.id,
            case,
            document.kind.name(),
            document.media_type,
            document.size_bytes,
            document.sealed.as_slice(),
            now
        ],
    )?;
    Ok(())
}

fn document_of(row: &Row) -> Result<Document> {
    let id = row.text(0)?;
    Ok(Document {
        id: id
            .parse()
            .map_err(|_| Error::corrupt("kyc_documents", id, "id"))?,
        kind: row.text(1)?.to_owned(),
        media_type: row.text(2)?.to_owned(),
        size_bytes: row.int(3)?,
    })
}

/// A case's documents, without content.
pub(super) fn documents(tx: &mut dyn Tx, case: KycCaseId) -> Result<Vec<Document>> {
    let sql =
        "SELECT id, kind, media_type, size_bytes FROM kyc_documents WHERE case_id = $1 ORDER BY id";
    let rows = tx.query(sql, params![case])?;
    rows.iter().map(document_of).collect()
}

/// A document with its sealed content.
pub(super) fn document(
    tx: &mut dyn Tx,
    case: KycCaseId,
    id: KycDocumentId,
) -> Result<Option<(Document, Vec<u8>)>> {
    let rows = tx.query(
        "SELECT id, kind, media_type, size_bytes, sealed FROM kyc_documents WHERE id = $1 AND case_id = $2",
        params![id, case],
    )?;
    let found = rows
        .first()
        .map(|row| Ok((document_of(row)?, row.blob(4)?.to_vec())));
    found.transpose()
}

/// Up to `limit` cases whose documents are due to be deleted.
pub(super) fn documents_due(tx: &mut dyn Tx, now: Timestamp, limit: i64) -> Result<Vec<Case>> {
    let sql = format!(
        "SELECT {CASE} FROM kyc_cases WHERE documents_until <= $1 ORDER BY documents_until LIMIT $2"
    );
    let rows = tx.query(&sql, params![now, limit])?;
    rows.iter().map(case_of).collect()
}

/// Deletes a case's documents; returns how many there were.
pub(super) fn delete_documents(tx: &mut dyn Tx, case: KycCaseId) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM kyc_documents WHERE case_id = $1",
        params![case],
    )?)
}

/// Takes a webhook in; false if it was before.
pub(super) fn take_event(
    tx: &mut dyn Tx,
    provider: &str,
    id: &str,
    now: Timestamp,
) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO kyc_events (provider, event_id, received_at) VALUES ($1, $2, $3)
         ON CONFLICT (provider, event_id) DO NOTHING",
        params![provider, id, now],
    )?;
    Ok(added == 1)
}

/// Forgets webhooks that their timestamp refuses by now.
pub(super) fn forget_events(tx: &mut dyn Tx, before: Timestamp) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM kyc_events WHERE received_at < $1",
        params![before],
    )?)
}
