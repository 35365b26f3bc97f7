//! SQL of `device_logins`.

use shared::{
    id::{SessionId, UserId},
    time::Timestamp,
};

use super::model::{Login, State, UserCode, Wish};
use crate::{
    context::Scope,
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const COLUMNS: &str = "device_hash, user_code, client_name, scopes, days, asked_from, asked_us, expires_us, polled_us, state, \
     user_id, session_id";

fn parse(row: &Row) -> Result<Login> {
    let code = row.text(1)?;
    let bad = |column: &str| Error::corrupt("device_logins", code, column);
    let scopes = row.text(3)?.split_whitespace().map(Scope::from_name);
    let decided_by = match (row.opt_text(10)?, row.opt_text(11)?) {
        (Some(user), Some(session)) => Some((
            user.parse().map_err(|_| bad("user_id"))?,
            session.parse().map_err(|_| bad("session_id"))?,
        )),
        _ => None,
    };
    Ok(Login {
        device_hash: row.blob(0)?.to_vec(),
        user_code: UserCode::parse(code).ok_or_else(|| bad("user_code"))?,
        wish: Wish {
            client_name: row.text(2)?.to_owned(),
            scopes: scopes.collect::<Option<_>>().ok_or_else(|| bad("scopes"))?,
            days: u16::try_from(row.int(4)?).map_err(|_| bad("days"))?,
        },
        asked_from: row.opt_text(5)?.map(str::to_owned),
        asked: Timestamp::from_micros(row.int(6)?),
        expires: Timestamp::from_micros(row.int(7)?),
        polled: row.opt_int(8)?.map(Timestamp::from_micros),
        state: State::from_name(row.text(9)?).ok_or_else(|| bad("state"))?,
        decided_by,
    })
}

/// Keeps a new one; false if its code for people is taken.
pub(super) fn insert(tx: &mut dyn Tx, login: &Login) -> Result<bool> {
    let scopes: Vec<&str> = login.wish.scopes.iter().map(|scope| scope.name()).collect();
    Ok(tx.execute(
        &format!(
            "INSERT INTO device_logins ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, $9, NULL, NULL)
             ON CONFLICT DO NOTHING"
        ),
        params![
            login.device_hash.clone(),
            login.user_code.letters(),
            login.wish.client_name.as_str(),
            scopes.join(" "),
            i64::from(login.wish.days),
            login.asked_from.as_deref(),
            login.asked,
            login.expires,
            login.state.name()
        ],
    )? == 1)
}

pub(super) fn by_device(tx: &mut dyn Tx, hash: &[u8]) -> Result<Option<Login>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM device_logins WHERE device_hash = $1"),
        params![hash.to_vec()],
    )?;
    rows.first().map(parse).transpose()
}

pub(super) fn by_user_code(tx: &mut dyn Tx, code: &UserCode) -> Result<Option<Login>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} FROM device_logins WHERE user_code = $1"),
        params![code.letters()],
    )?;
    rows.first().map(parse).transpose()
}

/// Decides about an open one; false if it isn't open any more.
pub(super) fn decide(
    tx: &mut dyn Tx,
    code: &UserCode,
    state: State,
    (user, session): (UserId, SessionId),
    now: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE device_logins SET state = $1, user_id = $2, session_id = $3
         WHERE user_code = $4 AND state = 'open' AND expires_us > $5",
        params![state.name(), user, session, code.letters(), now],
    )? == 1)
}

/// Notes that the device asked.
pub(super) fn note_poll(tx: &mut dyn Tx, hash: &[u8], now: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE device_logins SET polled_us = $1 WHERE device_hash = $2",
        params![now, hash.to_vec()],
    )?;
    Ok(())
}

/// Takes one away in a state; false if it isn't there in it.
pub(super) fn take(tx: &mut dyn Tx, hash: &[u8], state: State) -> Result<bool> {
    Ok(tx.execute(
        "DELETE FROM device_logins WHERE device_hash = $1 AND state = $2",
        params![hash.to_vec(), state.name()],
    )? == 1)
}

/// Forgets up to `limit` that were over before `before`; how many.
pub(super) fn forget(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM device_logins WHERE device_hash IN
         (SELECT device_hash FROM device_logins WHERE expires_us < $1 ORDER BY expires_us LIMIT $2)",
        params![before, limit],
    )?)
}
