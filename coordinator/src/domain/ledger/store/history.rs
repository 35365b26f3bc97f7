//! SQL of the past of accounts.

use shared::{
    money::{Amount, Asset},
    time::Timestamp,
};

use crate::{
    domain::ledger::history::{Entry, Place},
    error::{Error, Result},
    params,
    store::Tx,
};

/// Currencies that came in from outside.
pub(in crate::domain::ledger) fn assets(tx: &mut dyn Tx) -> Result<Vec<Asset>> {
    let rows = tx.query(
        "SELECT DISTINCT asset FROM accounts WHERE kind = 'external' ORDER BY asset",
        params![],
    )?;
    rows.iter()
        .map(|row| {
            let code = row.text(0)?;
            Asset::from_code(code).ok_or_else(|| Error::corrupt("accounts", code, "asset"))
        })
        .collect()
}

/// The newest closing up to a moment: when, and what was held; the beginning of time without one.
pub(in crate::domain::ledger) fn closing_before(
    tx: &mut dyn Tx,
    key: &str,
    at: Timestamp,
) -> Result<(Timestamp, i64)> {
    let rows = tx.query(
        "SELECT until, balance FROM account_closings WHERE account = $1 AND until <= $2 ORDER BY until DESC LIMIT 1",
        params![key, at],
    )?;
    rows.first()
        .map_or(Ok((Timestamp::from_micros(i64::MIN), 0)), |row| {
            Ok((Timestamp::from_micros(row.int(0)?), row.int(1)?))
        })
}

/// What an account received and spent from one moment until before another.
pub(in crate::domain::ledger) fn turnover(
    tx: &mut dyn Tx,
    key: &str,
    from: Timestamp,
    until: Timestamp,
) -> Result<(i64, i64)> {
    let rows = tx.query(
        "SELECT CAST(COALESCE((SELECT SUM(amount) FROM transfers WHERE credit = $1 AND created_at >= $2 AND created_at < $3), 0) AS BIGINT),
                CAST(COALESCE((SELECT SUM(amount) FROM transfers WHERE debit = $1 AND created_at >= $2 AND created_at < $3), 0) AS BIGINT)",
        params![key, from, until],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("transfers", key, "amount"))?;
    Ok((row.int(0)?, row.int(1)?))
}

/// Transfers of an account after a place: up to `limit` of each side.
pub(in crate::domain::ledger) fn entries(
    tx: &mut dyn Tx,
    key: &str,
    until: Timestamp,
    (at, id, received): &Place,
    limit: i64,
) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    // of one transfer the side that spends comes first
    for (side, is_credit) in [("debit", false), ("credit", true)] {
        let after = if is_credit && !*received { ">=" } else { ">" };
        let sql = format!(
            "SELECT id, created_at, code, ref, amount FROM transfers
             WHERE {side} = $1 AND created_at < $2 AND (created_at, id) {after} ($3, $4) ORDER BY created_at, id LIMIT $5"
        );
        for row in tx.query(&sql, params![key, until, *at, id.as_str(), limit])? {
            found.push(Entry {
                id: row.text(0)?.to_owned(),
                at: Timestamp::from_micros(row.int(1)?),
                code: row.text(2)?.to_owned(),
                reference: row.text(3)?.to_owned(),
                amount: Amount::from_atomic(row.int(4)?)?,
                received: is_credit,
            });
        }
    }
    Ok(found)
}

pub(in crate::domain::ledger) fn is_closed(
    tx: &mut dyn Tx,
    key: &str,
    until: Timestamp,
) -> Result<bool> {
    let rows = tx.query(
        "SELECT balance FROM account_closings WHERE account = $1 AND until = $2",
        params![key, until],
    )?;
    Ok(!rows.is_empty())
}

pub(in crate::domain::ledger) fn close(
    tx: &mut dyn Tx,
    key: &str,
    until: Timestamp,
    balance: Amount,
) -> Result<()> {
    tx.execute(
        "INSERT INTO account_closings (account, until, balance) VALUES ($1, $2, $3) ON CONFLICT (account, until) DO NOTHING",
        params![key, until, balance],
    )?;
    Ok(())
}
