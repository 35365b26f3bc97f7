//! SQL of payouts, their approvals and the sums of a day.

pub(super) mod addresses;
pub(super) mod check;

use shared::{
    id::{PayoutId, UserId},
    money::{Amount, Asset},
    time::Timestamp,
};

use super::model::{Kind, Payout, State};
use crate::{
    domain::ledger::holds::Owner,
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const PAYOUT: &str = "id, kind, user_id, payer, asset, amount, network, token, pay_to, state, note, payload, valid_before, signatures, \
     attempts, doubtful, tx_hash, next_try_at, created_at, updated_at, version";

fn parse(row: &Row) -> Result<Payout> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("payouts", id, column);
    let user = |text: Option<&str>| -> Result<UserId> {
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| bad("user_id"))
    };
    let owner = match row.text(1)? {
        "earnings" => Owner::Provider(user(row.opt_text(2)?)?),
        "withdrawal" => Owner::Consumer(user(row.opt_text(2)?)?),
        "refund" => Owner::Payer(row.opt_text(3)?.ok_or_else(|| bad("payer"))?.into()),
        _ => return Err(bad("kind")),
    };
    Ok(Payout {
        id: id.parse().map_err(|_| bad("id"))?,
        owner,
        asset: Asset::from_code(row.text(4)?).ok_or_else(|| bad("asset"))?,
        amount: Amount::from_atomic(row.int(5)?).map_err(|_| bad("amount"))?,
        network: row.text(6)?.to_owned(),
        token: row.text(7)?.to_owned(),
        pay_to: row.text(8)?.parse().map_err(|_| bad("pay_to"))?,
        state: State::from_name(row.text(9)?).ok_or_else(|| bad("state"))?,
        note: row.opt_text(10)?.map(str::to_owned),
        payload: row.opt_text(11)?.map(str::to_owned),
        valid_before_s: row.int(12)?,
        signatures: row.int(13)?,
        attempts: row.int(14)?,
        doubtful: row.int(15)? == 1,
        tx_hash: row.opt_text(16)?.map(str::to_owned),
        next_try_at: Timestamp::from_micros(row.int(17)?),
        created_at: Timestamp::from_micros(row.int(18)?),
        updated_at: Timestamp::from_micros(row.int(19)?),
        version: row.int(20)?,
    })
}

pub(super) fn insert(tx: &mut dyn Tx, payout: &Payout) -> Result<()> {
    let payer = match &payout.owner {
        Owner::Payer(purse) => Some(purse.to_string()),
        _ => None,
    };
    tx.execute(
        &format!(
            "INSERT INTO payouts ({PAYOUT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
             $19, $20, $21)"
        ),
        params![
            payout.id,
            Kind::of(&payout.owner).name(),
            payout.user(),
            payer.as_deref(),
            payout.asset.code(),
            payout.amount,
            payout.network.as_str(),
            payout.token.as_str(),
            payout.pay_to.to_string(),
            payout.state.name(),
            payout.note.as_deref(),
            payout.payload.as_deref(),
            payout.valid_before_s,
            payout.signatures,
            payout.attempts,
            i64::from(payout.doubtful),
            payout.tx_hash.as_deref(),
            payout.next_try_at,
            payout.created_at,
            payout.updated_at,
            payout.version
        ],
    )?;
    Ok(())
}

/// Writes what changes; false if it was changed since `version`.
pub(super) fn save(tx: &mut dyn Tx, payout: &Payout, version: i64) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE payouts SET state = $1, note = $2, payload = $3, valid_before = $4, signatures = $5, attempts = $6, doubtful = $7,
             tx_hash = $8, next_try_at = $9, updated_at = $10, version = $11
         WHERE id = $12 AND version = $13",
        params![
            payout.state.name(),
            payout.note.as_deref(),
            payout.payload.as_deref(),
            payout.valid_before_s,
            payout.signatures,
            payout.attempts,
            i64::from(payout.doubtful),
            payout.tx_hash.as_deref(),
            payout.next_try_at,
            payout.updated_at,
            payout.version,
            payout.id,
            version
        ],
    )? == 1)
}

pub(super) fn by_id(tx: &mut dyn Tx, id: PayoutId) -> Result<Option<Payout>> {
    let rows = tx.query(
        &format!("SELECT {PAYOUT} FROM payouts WHERE id = $1"),
        params![id],
    )?;
    rows.first().map(parse).transpose()
}

/// An account's payouts, newest first, before an id.
pub(super) fn of_user(
    tx: &mut dyn Tx,
    user: UserId,
    before: &str,
    limit: i64,
) -> Result<Vec<Payout>> {
    let rows = tx.query(
        &format!(
            "SELECT {PAYOUT} FROM payouts WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        ),
        params![user, before, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// Payouts of one state, oldest first, after an id.
pub(super) fn in_state(
    tx: &mut dyn Tx,
    state: State,
    after: &str,
    limit: i64,
) -> Result<Vec<Payout>> {
    let rows = tx.query(
        &format!("SELECT {PAYOUT} FROM payouts WHERE state = $1 AND id > $2 ORDER BY id LIMIT $3"),
        params![state.name(), after, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// Payouts that are to be looked at now, after a place in that order.
pub(super) fn due(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Payout>> {
    let rows = tx.query(
        &format!(
            "SELECT {PAYOUT} FROM payouts WHERE state IN ('requested', 'sending', 'sent') AND next_try_at <= $1
             AND (next_try_at, id) > ($2, $3) ORDER BY next_try_at, id LIMIT $4"
        ),
        params![now, after.0, after.1, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// Notes that an administrator lets a payout go; false if they did before.
pub(super) fn approve(
    tx: &mut dyn Tx,
    id: PayoutId,
    admin: UserId,
    now: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO payout_approvals (payout_id, admin, approved_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        params![id, admin, now],
    )? == 1)
}

/// Who let a payout go.
pub(super) fn approvals(tx: &mut dyn Tx, id: PayoutId) -> Result<Vec<UserId>> {
    let rows = tx.query(
        "SELECT admin FROM payout_approvals WHERE payout_id = $1 ORDER BY admin",
        params![id],
    )?;
    let parse = |row: &Row| {
        row.text(0)?
            .parse()
            .map_err(|_| Error::corrupt("payout_approvals", &id.to_string(), "admin"))
    };
    rows.iter().map(parse).collect()
}

/// Adds to the sum of a day; false if that would pass `most`.
pub(super) fn add_to_day(
    tx: &mut dyn Tx,
    day: i64,
    asset: Asset,
    owner: &str,
    amount: Amount,
    most: Amount,
) -> Result<bool> {
    tx.execute(
        "INSERT INTO payout_days (day, asset, owner, amount) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING",
        params![day, asset.code(), owner],
    )?;
    Ok(tx.execute(
        "UPDATE payout_days SET amount = amount + $1 WHERE day = $2 AND asset = $3 AND owner = $4 AND amount + $1 <= $5",
        params![amount, day, asset.code(), owner, most],
    )? == 1)
}

/// Takes from the sum of a day what was never paid out.
pub(super) fn take_from_day(
    tx: &mut dyn Tx,
    day: i64,
    asset: Asset,
    owner: &str,
    amount: Amount,
) -> Result<()> {
    // a day that was forgotten has no sum any more
    tx.execute(
        "UPDATE payout_days SET amount = amount - $1 WHERE day = $2 AND asset = $3 AND owner = $4 AND amount >= $1",
        params![amount, day, asset.code(), owner],
    )?;
    Ok(())
}

/// Forgets the sums of days before `day`.
pub(super) fn forget_days(tx: &mut dyn Tx, day: i64) -> Result<u64> {
    Ok(tx.execute("DELETE FROM payout_days WHERE day < $1", params![day])?)
}
