//! Holding money back while the books don't add up: better to stop than to go on wrong.
//!
//! # Invariants
//! - One durable row says it, for all coordinators; who promises money or pays it out reads it in the transaction that does so.
//! - What runs goes on: rentals, their leases and their settlement, payments that were received, refunds into balances.
//! - Only an administrator lifts it, after a full check found nothing, for the very halt that they saw.

use serde::Serialize;
use serde_json::json;
use shared::time::Timestamp;

use super::store::watch as store;
use crate::{
    context::OpCtx,
    domain::{
        audit::{self, Entry},
        auth,
        events::{self, Event},
        mail::{self, Mail, Postbox},
    },
    error::{Error, Kind, Result},
    store::Tx,
};

/// After this a caller may ask again: an operator has to look first.
const RETRY_AFTER_S: u64 = 300;
/// Of what is broken so much is kept and told.
const WHAT_CHARS_MAX: usize = 1_000;

/// Why money is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = LedgerHalt)]
pub struct Halt {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Which invariant broke first: `I3`.
    pub invariant: String,
    /// What broke it.
    pub what: String,
}

/// Why money is held back now, if it is.
///
/// # Errors
/// The database's.
pub fn current(tx: &mut dyn Tx) -> Result<Option<Halt>> {
    store::halt(tx)
}

/// Refuses to promise or pay out money while it is held back. To be asked in the transaction that would do so.
///
/// # Errors
/// 503 `ledger_halted`.
pub fn check(tx: &mut dyn Tx) -> Result<()> {
    if store::halt(tx)?.is_none() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unavailable {
            retry_after_s: RETRY_AFTER_S,
        },
        "ledger_halted",
        "the books are being looked into: new rentals, extensions, top-ups and payouts wait; what runs goes on and can be read and stopped",
    ))
}

/// Holds money back, and tells the administrators. False if it is held already.
///
/// # Errors
/// The database's.
pub fn engage(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    invariant: &str,
    what: &str,
) -> Result<bool> {
    let halt = Halt {
        since: ctx.now,
        invariant: invariant.to_owned(),
        what: what.chars().take(WHAT_CHARS_MAX).collect(),
    };
    if !store::engage(tx, &halt)? {
        return Ok(false);
    }
    let told = json!({ "invariant": halt.invariant, "what": halt.what });
    events::append(tx, ctx, Event::new("ledger.halted", told.clone()))?;
    for to in auth::account::administrators(tx)? {
        let text = format!(
            "The books of the market at {} don't add up since {}:\n\n{}: {}\n\n\
             New rentals, extensions, top-ups and payouts are refused until an administrator has looked into it and resumed\n\
             (POST /api/v1/admin/ledger/resume). What runs goes on. `ramarket-coordinator ledger check` shows all of it.\n",
            postbox.public_url, halt.since, halt.invariant, halt.what
        );
        mail::queue(
            tx,
            ctx,
            postbox,
            &Mail::new(to, "The books don't add up", text),
        )?;
    }
    // last: the end of the log is locked from here on
    audit::record(tx, ctx, Entry::of("ledger.halted", "ledger").after(told))?;
    Ok(true)
}

/// Lets money go again after the halt that was seen; the caller has found that the books add up.
///
/// # Errors
/// 409 if it isn't held any more, or again since then.
pub fn lift(tx: &mut dyn Tx, ctx: &OpCtx, seen: &Halt, reason: &str) -> Result<()> {
    if !store::lift(tx, seen.since)? {
        return Err(Error::conflict(
            "changed_meanwhile",
            "the halt isn't any more the one that was checked: look again",
        ));
    }
    events::append(
        tx,
        ctx,
        Event::new("ledger.resumed", json!({ "halted_since": seen.since })),
    )?;
    let entry = Entry::of("ledger.resumed", "ledger")
        .before(json!({ "since": seen.since, "invariant": seen.invariant, "what": seen.what }))
        .reason(reason);
    audit::record(tx, ctx, entry)
}
