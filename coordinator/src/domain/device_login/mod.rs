//! Signing a program in from another device (RFC 8628): the program shows a code, a person who is signed in confirms it on a page,
//! the program gets an API key.
//!
//! # Invariants
//! - Confirming needs what making a key needs: a person, signed in, who proved a moment ago who they are.
//! - A code is redeemed once, within ten minutes; the key is made in the transaction that redeems it, so its secret is never kept.
//! - Guessing is bounded: a code of 34 bits, ten minutes, ten tries a minute for a person who is signed in.

pub mod api;
pub mod model;
mod store;
#[cfg(test)]
mod tests;

use serde_json::json;
use shared::time::Timestamp;

use self::model::{DeviceCode, HOLDS_MS, Login, State, UserCode, Wish};
use super::{
    apikeys::{
        self,
        model::{KeySecret, StoredKey},
    },
    audit::{self, Entry},
    auth,
};
use crate::{
    context::{Actor, OpCtx, User},
    error::{Error, Kind, Result},
    store::{Db, Tx},
};

/// Most rows that one transaction removes.
const BATCH: i64 = 500;

/// Begins one; false if its code for people is taken: another is tried then.
///
/// # Errors
/// The database's.
pub fn begin(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    wish: &Wish,
    device: &DeviceCode,
    user: &UserCode,
) -> Result<bool> {
    let login = Login {
        device_hash: device.hash(),
        user_code: user.clone(),
        wish: wish.clone(),
        asked_from: ctx.client.map(|client| client.to_string()),
        asked: ctx.now,
        expires: ctx.now.plus_ms(HOLDS_MS),
        polled: None,
        state: State::Open,
        decided_by: None,
    };
    store::insert(tx, &login)
}

/// What a code asks for, for the person who may confirm it.
///
/// # Errors
/// 403 for keys; 404 when there is no such code, or it was decided about, or is too old.
pub fn find(tx: &mut dyn Tx, ctx: &OpCtx, code: &UserCode) -> Result<Login> {
    ctx.signed_in()?;
    let found = store::by_user_code(tx, code)?;
    found
        .filter(|login| login.is_open(ctx.now))
        .ok_or_else(unknown)
}

/// Confirms or refuses.
///
/// # Errors
/// As [`find`], and 403 `step_up_required` without a fresh proof of who it is.
pub fn decide(tx: &mut dyn Tx, ctx: &OpCtx, code: &UserCode, approve: bool) -> Result<Login> {
    auth::require_fresh(ctx)?;
    let login = find(tx, ctx, code)?;
    let user = ctx.signed_in()?;
    let (state, action) = if approve {
        (State::Approved, "device_login.approved")
    } else {
        (State::Denied, "device_login.denied")
    };
    if !store::decide(tx, code, state, (user.id, user.session), ctx.now)? {
        return Err(unknown());
    }
    let what = json!({
        "client": login.wish.client_name, "scopes": login.wish.scopes, "days": login.wish.days, "asked_from": login.asked_from,
    });
    audit::record(tx, ctx, Entry::of(action, user.id).after(what))?;
    Ok(login)
}

fn unknown() -> Error {
    Error::new(
        Kind::NotFound,
        "not_found",
        "this code isn't known, was used, or is older than 10 minutes: begin again on the device",
    )
}

/// What a device hears that asks.
#[derive(Debug)]
pub enum Heard {
    /// Nobody has decided.
    Pending,
    /// It asks too often.
    TooSoon,
    /// Somebody refused.
    Denied,
    /// There is no such code any more.
    Over,
    /// The key, made now.
    Key(Box<StoredKey>),
}

/// Redeems a code: once, if somebody confirmed it.
///
/// # Errors
/// 409 with too many keys.
pub fn redeem(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    device: &DeviceCode,
    secret: &KeySecret,
) -> Result<Heard> {
    let hash = device.hash();
    let Some(login) = store::by_device(tx, &hash)?.filter(|login| ctx.now < login.expires) else {
        return Ok(Heard::Over);
    };
    match (login.state, login.decided_by) {
        (State::Open, _) => {
            store::note_poll(tx, &hash, ctx.now)?;
            Ok(if login.is_too_soon(ctx.now) {
                Heard::TooSoon
            } else {
                Heard::Pending
            })
        }
        (State::Approved, Some((user, session))) if store::take(tx, &hash, State::Approved)? => {
            let account = auth::account(tx, user)?;
            if account.disabled.is_some() {
                return Ok(Heard::Denied);
            }
            // whoever confirmed makes the key: the log names them and their session
            let ctx = ctx.acting_as(Actor::User(User {
                id: user,
                roles: account.roles,
                session,
                proven_at: login.asked,
            }));
            let wish = apikeys::model::Wish {
                name: login.wish.client_name,
                scopes: login.wish.scopes,
                days: login.wish.days,
                addresses: Vec::new(),
            };
            let key = apikeys::create(tx, &ctx, &wish.check()?, secret)?;
            Ok(Heard::Key(Box::new(key)))
        }
        (State::Denied, _) => {
            store::take(tx, &hash, State::Denied)?;
            Ok(Heard::Denied)
        }
        (State::Approved, _) => Ok(Heard::Over),
    }
}

/// Forgets those that are over, up to a bound; how many.
///
/// # Errors
/// The database's.
pub async fn forget(db: &Db, now: Timestamp) -> Result<u64> {
    let body = move |tx: &mut dyn Tx| store::forget(tx, now, BATCH);
    let mut gone = 0_u64;
    for _ in 0..100 {
        let some = db.write("device_login.forget", body).await?;
        gone = gone.saturating_add(some);
        if i64::try_from(some).is_ok_and(|some| some < BATCH) {
            break;
        }
    }
    Ok(gone)
}
