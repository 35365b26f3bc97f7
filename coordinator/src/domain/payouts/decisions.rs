//! What administrators decide: whether a large payout goes, and how one ended that the market can't end itself.
//!
//! # Invariants
//! - A large payout needs [`APPROVERS`] administrators, and nobody decides on their own.
//! - Money is given back only when what was signed has expired long ago.

use serde_json::json;
use shared::id::{PayoutId, UserId};

use super::{
    find,
    model::{Event, Payout, State},
    steps::{advance, fail, settle},
    store,
};
use crate::{
    context::{OpCtx, Role},
    domain::{
        audit::{self, Entry},
        ledger::holds,
        mail::Postbox,
    },
    error::{Error, Result},
    store::{StoreError, Tx},
};

/// Administrators who must let a large payout go.
pub const APPROVERS: usize = 2;
/// A payout is given back only so long after what was signed has expired, seconds: blocks may be late.
const EXPIRED_FOR_S_MIN: i64 = 600;

/// An administrator lets a large payout go; the second one's word sends it.
///
/// # Errors
/// 401, 403 for their own; 404; 409 if it doesn't wait for that.
pub fn approve(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: PayoutId,
    reason: &str,
) -> Result<(Payout, Vec<UserId>)> {
    let admin = ctx.user_with(Role::Admin)?.id;
    let mut payout = find(tx, id)?;
    if payout.user() == Some(admin) {
        return Err(Error::forbidden("nobody lets their own payout go"));
    }
    payout.state.next(Event::Approve)?;
    if !store::approve(tx, id, admin, ctx.now)? {
        return Err(Error::conflict(
            "payout_approved",
            "you let it go before: another administrator must, too",
        ));
    }
    let approvals = store::approvals(tx, id)?;
    // the version makes two who approve at once meet here
    let enough = approvals.len() >= APPROVERS;
    if enough {
        payout = advance(tx, ctx, &payout, Event::Approve, |moved| {
            moved.next_try_at = ctx.now;
        })?;
    } else {
        let counted = Payout {
            version: payout.version.saturating_add(1),
            ..payout.clone()
        };
        if !store::save(tx, &counted, payout.version)? {
            return Err(StoreError::Busy(format!("payout {id} was changed meanwhile")).into());
        }
        payout = counted;
    }
    let entry = Entry::of("payout.approved", id).after(json!({ "approvals": approvals }));
    audit::record(tx, ctx, entry.reason(reason))?;
    Ok((payout, approvals))
}

/// An administrator refuses a payout that wasn't sent: its money goes back.
///
/// # Errors
/// 401, 403; 404; 409 if it was sent.
pub fn reject(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    id: PayoutId,
    reason: &str,
) -> Result<Payout> {
    ctx.user_with(Role::Admin)?;
    let payout = find(tx, id)?;
    let failed = fail(tx, ctx, postbox, &payout, Event::Reject, reason)?;
    let entry = Entry::of("payout.rejected", id).reason(reason);
    audit::record(tx, ctx, entry)?;
    Ok(failed)
}

/// What an administrator found out about a payout that the market can't end itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It was sent, by hand or after all; the transaction that shows it.
    Paid(String),
    /// It wasn't, and can't be any more.
    NotPaid,
}

/// An administrator ends a payout by what they found out: one that is sent by hand, or whose end can't be proven by the market.
///
/// # Errors
/// 401, 403; 404; 409 for what isn't in doubt, or may still be taken by the network.
pub fn resolve(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    id: PayoutId,
    finding: &Finding,
    reason: &str,
) -> Result<Payout> {
    let admin = ctx.user_with(Role::Admin)?.id;
    let payout = find(tx, id)?;
    if payout.user() == Some(admin) {
        return Err(Error::forbidden("nobody decides on their own payout"));
    }
    let resolved = match finding {
        Finding::Paid(transaction) => {
            if payout.state == State::Requested {
                holds::send(tx, ctx, &payout.hold())?;
            }
            settle(tx, ctx, &payout, Event::SettleByHand, Some(transaction))?
        }
        Finding::NotPaid => {
            let open_until_s = payout.valid_before_s.saturating_add(EXPIRED_FOR_S_MIN);
            if payout.state != State::Sent || open_until_s > ctx.now.as_secs() {
                return Err(Error::conflict(
                    "payout_state",
                    "only what was sent, and ten minutes after that has expired, can be given back",
                ));
            }
            fail(tx, ctx, postbox, &payout, Event::GiveUp, reason)?
        }
    };
    let entry = Entry::of("payout.resolved", id)
        .before(json!({ "state": payout.state.name() }))
        .after(json!({ "state": resolved.state.name(), "transaction": resolved.tx_hash }));
    audit::record(tx, ctx, entry.reason(reason))?;
    Ok(resolved)
}
