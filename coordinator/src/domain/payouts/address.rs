//! Where an account's money goes: changed by whoever has just proven who they are, in force only after days, in which the owner hears
//! of it and can stop it.
//!
//! # Invariants
//! - Until a change takes effect the address before holds; without one nothing is paid out.
//! - Nobody is paid at the zero address or at one of ours.

use serde_json::json;
use shared::{id::UserId, time::Timestamp, x402::address::Address};

use super::store::addresses as store;
use crate::{
    context::OpCtx,
    domain::{
        audit::{self, Entry},
        auth,
        mail::Postbox,
    },
    error::{Error, Result},
    store::Tx,
};

/// Where an account is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Destination {
    /// What held before the last change.
    pub address: Option<Address>,
    /// What holds instead from a moment on.
    pub wanted: Option<(Address, Timestamp)>,
    /// Grows with each change; 0 before the first.
    pub version: i64,
}

impl Destination {
    /// What holds at a moment.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Option<Address> {
        match self.wanted {
            Some((wanted, from)) if from <= now => Some(wanted),
            _ => self.address,
        }
    }

    /// What will hold later than `now`.
    #[must_use]
    pub fn later(&self, now: Timestamp) -> Option<(Address, Timestamp)> {
        self.wanted.filter(|(_, from)| *from > now)
    }
}

/// Reads an address as people write it: with its checksum, or in one case.
///
/// # Errors
/// 422 at `/address`.
pub fn parse(text: &str, ours: &[Address]) -> Result<Address> {
    let refuse = |why: &str| Error::invalid("/address", why);
    let address: Address = text
        .parse()
        .map_err(|_| refuse("write 0x and 40 hexadecimal digits"))?;
    let digits = text.get(2..).unwrap_or_default();
    let mixed = digits.bytes().any(|b| b.is_ascii_uppercase());
    if mixed && text != address.to_string() {
        return Err(refuse(
            "its capital letters aren't those of its checksum: a character is wrong, copy it again",
        ));
    }
    if address.as_bytes().iter().all(|byte| *byte == 0) {
        return Err(refuse("nobody has the key of the zero address"));
    }
    if ours.contains(&address) {
        return Err(refuse("this is the market's own address: name yours"));
    }
    Ok(address)
}

/// Where the caller is paid.
///
/// # Errors
/// 401 for anybody who isn't signed in.
pub fn own(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Destination> {
    of(tx, ctx.user()?.id)
}

/// Where an account is paid.
///
/// # Errors
/// The database's.
pub fn of(tx: &mut dyn Tx, user: UserId) -> Result<Destination> {
    Ok(store::of(tx, user)?.unwrap_or_default())
}

/// Accounts that said where they are paid, after an id.
///
/// # Errors
/// The database's.
pub fn page(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<Vec<(UserId, Destination)>> {
    store::page(tx, after, limit)
}

/// Wants the caller to be paid at `address` from `hold_ms` on; their mail says so.
///
/// # Errors
/// 401 or 403 for anybody who hasn't just proven who they are; 409 if it was changed meanwhile.
pub fn change(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    address: Address,
    hold_ms: i64,
) -> Result<Destination> {
    let user = ctx.signed_in()?.id;
    let before = of(tx, user)?;
    let from = ctx.now.plus_ms(hold_ms);
    let after = Destination {
        address: before.at(ctx.now),
        wanted: Some((address, from)),
        version: before.version,
    };
    save(tx, ctx, user, &after)?;
    let account = auth::account(tx, user)?;
    let what = format!(
        "Somebody, probably you, wants payouts of your account at RAMarket to go to\n\n{address}\n\n\
         from {from} on. Until then you can stop it on your account's page."
    );
    let subject = "Your payout address is about to change";
    auth::account::tell(tx, ctx, postbox, &account, subject, &what)?;
    record(tx, ctx, user, "payout_address.changed", &before, &after)?;
    of(tx, user)
}

/// Takes back what isn't in force yet; true if there was something.
///
/// # Errors
/// 401 or 403 for anybody who hasn't just proven who they are; 409 if it was changed meanwhile.
pub fn cancel(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<bool> {
    let user = ctx.signed_in()?.id;
    let before = of(tx, user)?;
    if before.later(ctx.now).is_none() {
        return Ok(false);
    }
    let after = Destination {
        wanted: None,
        ..before
    };
    save(tx, ctx, user, &after)?;
    record(tx, ctx, user, "payout_address.kept", &before, &after)?;
    Ok(true)
}

fn save(tx: &mut dyn Tx, ctx: &OpCtx, user: UserId, to: &Destination) -> Result<()> {
    if store::save(tx, user, to, ctx.now)? {
        return Ok(());
    }
    Err(Error::conflict(
        "changed_meanwhile",
        "the address was changed in between: look again",
    ))
}

fn record(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    user: UserId,
    action: &'static str,
    before: &Destination,
    after: &Destination,
) -> Result<()> {
    let state =
        |at: &Destination| json!({ "address": at.at(ctx.now), "wanted": at.later(ctx.now) });
    let entry = Entry::of(action, user)
        .before(state(before))
        .after(state(after));
    audit::record(tx, ctx, entry)
}
