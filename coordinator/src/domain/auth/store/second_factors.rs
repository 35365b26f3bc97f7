//! SQL of `second_factors` and `recovery_codes`.

use shared::{id::UserId, time::Timestamp};

use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

/// A second factor, sealed.
pub(in super::super) struct Found {
    /// The secret, sealed under the account's id.
    pub(in super::super) sealed: Vec<u8>,
    /// Whether it was confirmed.
    pub(in super::super) in_force: bool,
}

/// Begins one, in the place of one that was begun before; nothing happens when one is in force.
pub(in super::super) fn begin(
    tx: &mut dyn Tx,
    user: UserId,
    sealed: Vec<u8>,
    now: Timestamp,
) -> Result<bool> {
    let begun = tx.execute(
        "INSERT INTO second_factors (user_id, sealed, created_us, last_step) VALUES ($1, $2, $3, 0)
         ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed, created_us = excluded.created_us
         WHERE second_factors.confirmed_us IS NULL",
        params![user, sealed, now],
    )?;
    Ok(begun == 1)
}

/// Somebody's.
pub(in super::super) fn find(tx: &mut dyn Tx, user: UserId) -> Result<Option<Found>> {
    let rows = tx.query(
        "SELECT sealed, confirmed_us FROM second_factors WHERE user_id = $1",
        params![user],
    )?;
    rows.first()
        .map(|row| {
            Ok(Found {
                sealed: row.blob(0)?.to_vec(),
                in_force: row.opt_int(1)?.is_some(),
            })
        })
        .transpose()
}

/// Puts into force what was begun, if it is still the same.
pub(in super::super) fn confirm(
    tx: &mut dyn Tx,
    user: UserId,
    sealed: &[u8],
    step: i64,
    now: Timestamp,
) -> Result<()> {
    let confirmed = tx.execute(
        "UPDATE second_factors SET confirmed_us = $1, last_step = $2
         WHERE user_id = $3 AND sealed = $4 AND confirmed_us IS NULL",
        params![now, step, user, sealed],
    )?;
    if confirmed == 1 {
        Ok(())
    } else {
        Err(Error::conflict(
            "second_factor_set",
            "the second factor was set anew at this moment: begin again",
        ))
    }
}

/// Uses a time step up: of several who try, one does, and no older step works any more.
pub(in super::super) fn use_step(tx: &mut dyn Tx, user: UserId, step: i64) -> Result<bool> {
    let used = tx.execute(
        "UPDATE second_factors SET last_step = $1
         WHERE user_id = $2 AND last_step < $1 AND confirmed_us IS NOT NULL",
        params![step, user],
    )?;
    Ok(used == 1)
}

/// Adds a recovery code.
pub(in super::super) fn insert_recovery(
    tx: &mut dyn Tx,
    user: UserId,
    hash: Vec<u8>,
) -> Result<()> {
    tx.execute(
        "INSERT INTO recovery_codes (user_id, hash) VALUES ($1, $2)",
        params![user, hash],
    )?;
    Ok(())
}

/// Uses a recovery code up.
pub(in super::super) fn use_recovery(tx: &mut dyn Tx, user: UserId, hash: Vec<u8>) -> Result<bool> {
    let used = tx.execute(
        "DELETE FROM recovery_codes WHERE user_id = $1 AND hash = $2",
        params![user, hash],
    )?;
    Ok(used == 1)
}

/// Removes somebody's, with its recovery codes; whether there was one.
pub(in super::super) fn remove(tx: &mut dyn Tx, user: UserId) -> Result<bool> {
    tx.execute(
        "DELETE FROM recovery_codes WHERE user_id = $1",
        params![user],
    )?;
    let removed = tx.execute(
        "DELETE FROM second_factors WHERE user_id = $1",
        params![user],
    )?;
    Ok(removed == 1)
}
