//! SQL of watching: what was posted in a stretch of time, folds, positions, and the halt. Every statement reads by an index on time or by
//! key: the tables may be as long as they like.

use shared::time::Timestamp;

use crate::{
    domain::ledger::{halt::Halt, watch::Positions},
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

/// An account, its balance, and what its transfers come to instead.
type Differing = (String, i64, i64);

/// The accounts that transfers of the stretch ($1, $2] touch.
const TOUCHED: &str =
    "(SELECT debit AS id FROM transfers WHERE created_at > $1 AND created_at <= $2
     UNION SELECT credit FROM transfers WHERE created_at > $1 AND created_at <= $2)";
/// What an account's transfers come to since its fold.
const SINCE_FOLD: &str = "COALESCE((SELECT SUM(c.amount) FROM transfers c WHERE c.credit = a.id AND c.created_at > p.folded_at), 0)
     - COALESCE((SELECT SUM(d.amount) FROM transfers d WHERE d.debit = a.id AND d.created_at > p.folded_at), 0)";
/// What all of an account's transfers come to.
const WHOLE: &str = "COALESCE((SELECT SUM(c.amount) FROM transfers c WHERE c.credit = a.id), 0)
     - COALESCE((SELECT SUM(d.amount) FROM transfers d WHERE d.debit = a.id), 0)";

/// The moment of the transfer that is `count` after `from`, none later than `until`; nothing if there are fewer.
pub(in crate::domain::ledger) fn moment_after(
    tx: &mut dyn Tx,
    from: Timestamp,
    until: Timestamp,
    count: i64,
) -> Result<Option<Timestamp>> {
    let rows = tx.query(
        "SELECT created_at FROM transfers WHERE created_at > $1 AND created_at <= $2 ORDER BY created_at LIMIT 1 OFFSET $3",
        params![from, until, count],
    )?;
    Ok(rows
        .first()
        .map(|row| row.int(0))
        .transpose()?
        .map(Timestamp::from_micros))
}

/// How far the books were folded and watched.
pub(in crate::domain::ledger) fn positions(tx: &mut dyn Tx) -> Result<Positions> {
    let rows = tx.query(
        "SELECT folded_at, checked_at, audit_seq, audit_hash FROM ledger_positions WHERE one = 1",
        params![],
    )?;
    let bad = |column: &str| Error::corrupt("ledger_positions", "1", column);
    let row = rows.first().ok_or_else(|| bad("one"))?;
    Ok(Positions {
        folded_at: Timestamp::from_micros(row.int(0)?),
        checked_at: Timestamp::from_micros(row.int(1)?),
        audit: (
            row.int(2)?,
            row.blob(3)?.try_into().map_err(|_| bad("audit_hash"))?,
        ),
    })
}

/// Notes how far the books were watched.
pub(in crate::domain::ledger) fn note_watched(
    tx: &mut dyn Tx,
    at: Timestamp,
    (seq, hash): &(i64, [u8; 32]),
) -> Result<()> {
    tx.execute(
        "UPDATE ledger_positions SET checked_at = $1, audit_seq = $2, audit_hash = $3 WHERE one = 1",
        params![at, *seq, hash.as_slice()],
    )?;
    Ok(())
}

/// Moves the fold on; false if somebody else did since it was read.
pub(in crate::domain::ledger) fn move_fold(
    tx: &mut dyn Tx,
    from: Timestamp,
    to: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE ledger_positions SET folded_at = $1 WHERE one = 1 AND folded_at = $2",
        params![to, from],
    )? == 1)
}

/// Adds the transfers of a stretch to the folds of their accounts.
pub(in crate::domain::ledger) fn fold(
    tx: &mut dyn Tx,
    from: Timestamp,
    to: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO account_folds (account, balance)
         SELECT id, CAST(SUM(amount) AS BIGINT) FROM (
             SELECT credit AS id, amount FROM transfers WHERE created_at > $1 AND created_at <= $2
             UNION ALL SELECT debit, -amount FROM transfers WHERE created_at > $1 AND created_at <= $2) moved
         WHERE true GROUP BY id ORDER BY id
         ON CONFLICT (account) DO UPDATE SET balance = account_folds.balance + excluded.balance",
        params![from, to],
    )?;
    Ok(())
}

/// Makes an account's fold anew from all of its transfers up to the fold's moment.
pub(in crate::domain::ledger) fn refold(tx: &mut dyn Tx, account: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO account_folds (account, balance)
         SELECT a.id, CAST(
             COALESCE((SELECT SUM(c.amount) FROM transfers c WHERE c.credit = a.id AND c.created_at <= p.folded_at), 0)
             - COALESCE((SELECT SUM(d.amount) FROM transfers d WHERE d.debit = a.id AND d.created_at <= p.folded_at), 0) AS BIGINT)
         FROM accounts a, ledger_positions p WHERE a.id = $1 AND p.one = 1
         ON CONFLICT (account) DO UPDATE SET balance = excluded.balance",
        params![account],
    )?;
    Ok(())
}

fn balances(rows: &[Row]) -> Result<Vec<Differing>> {
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?, row.int(2)?)))
        .collect()
}

/// I3 of the accounts that a stretch touches: (key, balance, what fold and transfers say), where the two differ.
pub(in crate::domain::ledger) fn misfolded_in(
    tx: &mut dyn Tx,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Differing>> {
    let rows = tx.query(
        &format!(
            "SELECT id, balance, total FROM (
                 SELECT a.id, a.balance, CAST(COALESCE(f.balance, 0) + {SINCE_FOLD} AS BIGINT) AS total
                 FROM {TOUCHED} t JOIN accounts a ON a.id = t.id CROSS JOIN ledger_positions p
                 LEFT JOIN account_folds f ON f.account = a.id WHERE p.one = 1) folded
             WHERE balance <> total ORDER BY id LIMIT 100"
        ),
        params![from, to],
    )?;
    balances(&rows)
}

/// I2 of the accounts that a stretch touches.
pub(in crate::domain::ledger) fn overdrawn_in(
    tx: &mut dyn Tx,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(String, i64)>> {
    let rows = tx.query(
        &format!(
            "SELECT a.id, a.balance FROM {TOUCHED} t JOIN accounts a ON a.id = t.id
             WHERE a.balance < 0 AND a.kind <> 'external' ORDER BY a.id LIMIT 100"
        ),
        params![from, to],
    )?;
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?)))
        .collect()
}

/// I1 of a stretch: transfers between the books of two assets.
pub(in crate::domain::ledger) fn crossing_in(
    tx: &mut dyn Tx,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT t.id FROM transfers t JOIN accounts d ON d.id = t.debit JOIN accounts c ON c.id = t.credit
         WHERE t.created_at > $1 AND t.created_at <= $2 AND (d.asset <> t.asset OR c.asset <> t.asset)
         ORDER BY t.created_at LIMIT 100",
        params![from, to],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// The accounts of one kind that a stretch touches.
pub(in crate::domain::ledger) fn touched(
    tx: &mut dyn Tx,
    kind: &str,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<String>> {
    let rows = tx.query(
        &format!("SELECT a.id FROM {TOUCHED} t JOIN accounts a ON a.id = t.id WHERE a.kind = $3 ORDER BY a.id"),
        params![from, to, kind],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// What an account holds and what all of its transfers come to.
pub(in crate::domain::ledger) fn whole(
    tx: &mut dyn Tx,
    account: &str,
) -> Result<Option<(i64, i64)>> {
    let rows = tx.query(
        &format!("SELECT a.balance, CAST({WHOLE} AS BIGINT) FROM accounts a WHERE a.id = $1"),
        params![account],
    )?;
    rows.first()
        .map(|row| Ok((row.int(0)?, row.int(1)?)))
        .transpose()
}

/// Of the `limit` accounts after one: the last, and I3 of those where the two sums differ.
pub(in crate::domain::ledger) fn misfolded_after(
    tx: &mut dyn Tx,
    after: &str,
    limit: i64,
) -> Result<(Option<String>, Vec<Differing>)> {
    let rows = tx.query(
        "SELECT id FROM accounts WHERE id > $1 ORDER BY id LIMIT 1 OFFSET $2",
        params![after, limit],
    )?;
    let last = rows.first().map(|row| row.text(0)).transpose()?;
    let rows = tx.query(
        &format!(
            "SELECT id, balance, total FROM (
                 SELECT a.id, a.balance, CAST({WHOLE} AS BIGINT) AS total FROM accounts a
                 WHERE a.id > $1 AND (CAST($2 AS TEXT) = '' OR a.id <= $2) ORDER BY a.id) page
             WHERE balance <> total"
        ),
        params![after, last.unwrap_or_default()],
    )?;
    Ok((last.map(str::to_owned), balances(&rows)?))
}

/// Why money is held, if it is.
pub(in crate::domain::ledger) fn halt(tx: &mut dyn Tx) -> Result<Option<Halt>> {
    let rows = tx.query(
        "SELECT since, invariant, what FROM ledger_halt WHERE one = 1",
        params![],
    )?;
    let bad = |column: &str| Error::corrupt("ledger_halt", "1", column);
    let row = rows.first().ok_or_else(|| bad("one"))?;
    let Some(since) = row.opt_int(0)? else {
        return Ok(None);
    };
    Ok(Some(Halt {
        since: Timestamp::from_micros(since),
        invariant: row.text(1)?.to_owned(),
        what: row.text(2)?.to_owned(),
    }))
}

/// Holds money; false if it is held already.
pub(in crate::domain::ledger) fn engage(tx: &mut dyn Tx, halt: &Halt) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE ledger_halt SET since = $1, invariant = $2, what = $3 WHERE one = 1 AND since IS NULL",
        params![halt.since, halt.invariant.as_str(), halt.what.as_str()],
    )? == 1)
}

/// Lets money go again; false if it isn't held since then.
pub(in crate::domain::ledger) fn lift(tx: &mut dyn Tx, since: Timestamp) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE ledger_halt SET since = NULL, invariant = NULL, what = NULL WHERE one = 1 AND since = $1",
        params![since],
    )? == 1)
}
