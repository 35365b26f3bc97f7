//! SQL of the ledger; [`watch`] has that of watching it.

pub(super) mod watch;

pub(super) mod history;

use shared::{
    id::TransferId,
    money::{Amount, Asset},
    time::Timestamp,
};

use super::model::{Posting, Purse};
use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

/// A transfer as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredTransfer {
    pub(super) debit: String,
    pub(super) credit: String,
    pub(super) amount: i64,
}

/// Opens an account unless it is there.
pub(super) fn open_account(
    tx: &mut dyn Tx,
    key: &str,
    asset: &str,
    kind: &str,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO accounts (id, asset, kind, balance, created_at) VALUES ($1, $2, $3, 0, $4) ON CONFLICT (id) DO NOTHING",
        params![key, asset, kind, now],
    )?;
    Ok(())
}

/// A transfer that is to be posted.
#[derive(Debug)]
pub(super) struct NewTransfer<'a> {
    pub(super) id: TransferId,
    pub(super) posting: &'a Posting,
    /// The key of the debited account, and of the credited.
    pub(super) debit: &'a str,
    pub(super) credit: &'a str,
    pub(super) now: Timestamp,
}

/// Inserts the transfer; false if its cause was posted before. (Plain values: with a selection as its source, and a trigger on the table, SQLite
/// would make a temporary table for each.)
pub(super) fn insert_transfer(tx: &mut dyn Tx, new: &NewTransfer<'_>) -> Result<bool> {
    let inserted = tx.execute(
        "INSERT INTO transfers (id, asset, debit, credit, amount, code, ref, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (code, ref) DO NOTHING",
        params![
            new.id,
            new.posting.asset.code(),
            new.debit,
            new.credit,
            new.posting.amount,
            new.posting.cause.code(),
            new.posting.cause.reference(),
            new.now
        ],
    )?;
    Ok(inserted == 1)
}

/// The transfer of a cause.
pub(super) fn transfer_of(
    tx: &mut dyn Tx,
    code: &str,
    reference: &str,
) -> Result<Option<StoredTransfer>> {
    let rows = tx.query(
        "SELECT debit, credit, amount FROM transfers WHERE code = $1 AND ref = $2",
        params![code, reference],
    )?;
    rows.first()
        .map(|row| {
            Ok(StoredTransfer {
                debit: row.text(0)?.to_owned(),
                credit: row.text(1)?.to_owned(),
                amount: row.int(2)?,
            })
        })
        .transpose()
}

/// Adds to a balance; false if there is no such account.
pub(super) fn credit(tx: &mut dyn Tx, key: &str, amount: Amount) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE accounts SET balance = balance + $1 WHERE id = $2",
        params![amount, key],
    )?;
    Ok(changed == 1)
}

/// Takes from a balance; false if that would overdraw it, or there is no such account.
pub(super) fn debit(tx: &mut dyn Tx, key: &str, amount: Amount) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE accounts SET balance = balance - $1 WHERE id = $2 AND (kind = 'external' OR balance >= $1)",
        params![amount, key],
    )?;
    Ok(changed == 1)
}

/// The balance of an account, or `None` if it was never opened.
pub(super) fn balance(tx: &mut dyn Tx, key: &str) -> Result<Option<i64>> {
    let rows = tx.query("SELECT balance FROM accounts WHERE id = $1", params![key])?;
    rows.first().map(|row| Ok(row.int(0)?)).transpose()
}

/// Notes that something is owed to a wallet; when it is looked at stays as it was.
pub(super) fn owe(tx: &mut dyn Tx, asset: &str, payer: &Purse, now: Timestamp) -> Result<()> {
    // an update that changes nothing waits for whoever removes the row, and then writes it anew; DO NOTHING would do nothing
    tx.execute(
        "INSERT INTO payers_owed (asset, payer, look_at) VALUES ($1, $2, $3)
         ON CONFLICT (asset, payer) DO UPDATE SET look_at = payers_owed.look_at",
        params![asset, payer.to_string(), now],
    )?;
    Ok(())
}

pub(super) fn look_at_payer(
    tx: &mut dyn Tx,
    asset: &str,
    payer: &Purse,
    at: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO payers_owed (asset, payer, look_at) VALUES ($1, $2, $3)
         ON CONFLICT (asset, payer) DO UPDATE SET look_at = excluded.look_at",
        params![asset, payer.to_string(), at],
    )?;
    Ok(())
}

pub(super) fn forget_payer(tx: &mut dyn Tx, asset: &str, payer: &Purse) -> Result<()> {
    tx.execute(
        "DELETE FROM payers_owed WHERE asset = $1 AND payer = $2",
        params![asset, payer.to_string()],
    )?;
    Ok(())
}

/// Wallets that are to be looked at now.
pub(super) fn owed(tx: &mut dyn Tx, now: Timestamp, limit: i64) -> Result<Vec<(Asset, Purse)>> {
    let rows = tx.query(
        "SELECT asset, payer FROM payers_owed WHERE look_at <= $1 ORDER BY look_at, asset, payer LIMIT $2",
        params![now, limit],
    )?;
    rows.iter()
        .map(|row| {
            let (asset, payer) = (row.text(0)?, row.text(1)?);
            let known = Asset::from_code(asset);
            let known = known.ok_or_else(|| Error::corrupt("payers_owed", payer, "asset"))?;
            Ok((known, Purse::from(payer)))
        })
        .collect()
}

/// Every asset with Σ of its balances, if that isn't zero.
pub(super) fn unbalanced_assets(tx: &mut dyn Tx) -> Result<Vec<(String, i64)>> {
    let rows = tx.query(
        "SELECT asset, CAST(SUM(balance) AS BIGINT) FROM accounts GROUP BY asset HAVING SUM(balance) <> 0",
        params![],
    )?;
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?)))
        .collect()
}

/// Accounts below zero that may not be.
pub(super) fn overdrawn(tx: &mut dyn Tx) -> Result<Vec<(String, i64)>> {
    let rows = tx.query(
        "SELECT id, balance FROM accounts WHERE balance < 0 AND kind <> 'external' ORDER BY id LIMIT 100",
        params![],
    )?;
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?)))
        .collect()
}

/// Accounts whose balance isn't the sum of their transfers: (key, balance, sum).
pub(super) fn misfolded(tx: &mut dyn Tx) -> Result<Vec<(String, i64, i64)>> {
    let rows = tx.query(
        "SELECT a.id, a.balance, CAST(COALESCE(c.total, 0) - COALESCE(d.total, 0) AS BIGINT)
         FROM accounts a
         LEFT JOIN (SELECT credit AS id, SUM(amount) AS total FROM transfers GROUP BY credit) c ON c.id = a.id
         LEFT JOIN (SELECT debit AS id, SUM(amount) AS total FROM transfers GROUP BY debit) d ON d.id = a.id
         WHERE a.balance <> COALESCE(c.total, 0) - COALESCE(d.total, 0) ORDER BY a.id LIMIT 100",
        params![],
    )?;
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?, row.int(2)?)))
        .collect()
}

/// Transfers between the books of two assets.
pub(super) fn cross_asset(tx: &mut dyn Tx) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT t.id FROM transfers t JOIN accounts d ON d.id = t.debit JOIN accounts c ON c.id = t.credit
         WHERE d.asset <> t.asset OR c.asset <> t.asset ORDER BY t.id LIMIT 100",
        params![],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// How many accounts and transfers there are, and what moved in all.
pub(super) fn totals(tx: &mut dyn Tx) -> Result<(i64, i64)> {
    let rows = tx.query(
        "SELECT (SELECT COUNT(*) FROM accounts), (SELECT COUNT(*) FROM transfers)",
        params![],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("accounts", "", "count"))?;
    Ok((row.int(0)?, row.int(1)?))
}
