//! What administrators do to others' things: bans, roles, refunds, settings, and what they look at. (The audit log and KYC have their
//! routes in their own slices; payouts come with the slice of payouts.)
//!
//! # Invariants
//! - Every change has a reason and an entry in the audit log, in its own transaction.
//! - An administrator is a person with a session who has just proven who they are: never a key (`domain/access`).

pub mod api;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::json;
use shared::{
    id::{DisputeId, NodeId, RentalId, SessionId, UserId},
    money::{Amount, Money},
};

use super::{
    audit::{self, Entry},
    auth::{self, model::Account},
    disputes::{
        self, given_back,
        model::{Dispute, Wanted},
    },
    invoices::{self, model::Rules},
    ledger::{
        self,
        model::{Account as Books, Cause, Posting},
    },
    mail::Postbox,
    nodes::{self, model::Node},
    payments::idempotency::{self, IdempotencyKey},
    rentals::{
        self, changes,
        model::{EndReason, State},
    },
};
use crate::{
    context::{OpCtx, Role},
    error::{Error, Result},
    store::Tx,
};

/// Why something is done: asked for, trimmed, bounded.
///
/// # Errors
/// 422 at `/reason`.
pub fn reason(text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Error::invalid(
            "/reason",
            "one line that says why: it goes into the audit log",
        ));
    }
    Ok(text.to_owned())
}

/// What the platform earned and still has, in each currency that there are books of.
///
/// # Errors
/// The database's.
pub fn platform_fees(tx: &mut dyn Tx) -> Result<Vec<Money>> {
    let mut fees = Vec::new();
    for currency in ledger::history::assets(tx)? {
        let amount = ledger::balance(tx, currency, &Books::PlatformFees)?;
        fees.push(Money { amount, currency });
    }
    Ok(fees)
}

/// Throws a node out: its key is void, its rentals end as banned and what they didn't use goes back. Banning again changes nothing.
///
/// # Errors
/// 404; 409 for a node that its owner retired.
pub fn ban(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId, reason: &str) -> Result<Node> {
    if !nodes::ban(tx, ctx, id)? {
        return nodes::get(tx, id);
    }
    let mut ended = 0;
    for rental in rentals::of_node(tx, id)? {
        let why = "its node was thrown out of the market";
        changes::finish(tx, ctx, &rental, EndReason::Banned, why)?;
        ended += 1;
    }
    let entry = Entry::of("node.banned", id)
        .before(json!({ "lifecycle": "member" }))
        .after(json!({ "lifecycle": "banned", "rentals_ended": ended }))
        .reason(reason);
    audit::record(tx, ctx, entry)?;
    nodes::get(tx, id)
}

/// Takes a banned node back: its key is valid again. For any other node nothing changes.
///
/// # Errors
/// 404.
pub fn unban(tx: &mut dyn Tx, ctx: &OpCtx, id: NodeId, reason: &str) -> Result<Node> {
    if nodes::unban(tx, ctx, id)? {
        let entry = Entry::of("node.unbanned", id)
            .before(json!({ "lifecycle": "banned" }))
            .after(json!({ "lifecycle": "member" }))
            .reason(reason);
        audit::record(tx, ctx, entry)?;
    }
    nodes::get(tx, id)
}

/// Gives and takes roles.
///
/// # Errors
/// 404; 409 for an administrator who would take their own role away: another one must.
pub fn change_roles(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: UserId,
    grant: &BTreeSet<Role>,
    revoke: &BTreeSet<Role>,
    reason: &str,
) -> Result<Account> {
    if !grant.is_disjoint(revoke) {
        return Err(Error::invalid(
            "/revoke",
            "a role is given or taken, not both",
        ));
    }
    if revoke.contains(&Role::Admin) && ctx.user()?.id == id {
        return Err(Error::conflict(
            "own_role",
            "nobody takes their own role of administrator away: another administrator must",
        ));
    }
    let before = auth::account(tx, id)?;
    let after = auth::set_roles(tx, ctx, id, grant, revoke)?;
    if before.roles != after.roles {
        let entry = Entry::of("roles.changed", id)
            .before(json!({ "roles": before.roles }))
            .after(json!({ "roles": after.roles }))
            .reason(reason);
        audit::record(tx, ctx, entry)?;
    }
    Ok(after)
}

/// Closes an account: its sessions end, nobody signs in to it, its API keys don't hold. Its rentals and nodes go on: they are stopped and
/// banned on their own. Closing it again changes nothing. Returns the account and the sessions that ended.
///
/// # Errors
/// 404; 409 for an administrator's own account.
pub fn disable(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: UserId,
    reason: &str,
) -> Result<(Account, Vec<SessionId>)> {
    if ctx.user()?.id == id {
        return Err(Error::conflict(
            "own_account",
            "nobody disables their own account: another administrator must",
        ));
    }
    let ended = auth::session::end_all(tx, ctx, id)?;
    if auth::account::set_disabled(tx, ctx, id, true)? {
        let entry = Entry::of("account.disabled", id)
            .after(json!({ "sessions_ended": ended.len() }))
            .reason(reason);
        audit::record(tx, ctx, entry)?;
    }
    Ok((auth::account(tx, id)?, ended))
}

/// Opens an account again. For any other nothing changes.
///
/// # Errors
/// 404.
pub fn enable(tx: &mut dyn Tx, ctx: &OpCtx, id: UserId, reason: &str) -> Result<Account> {
    if auth::account::set_disabled(tx, ctx, id, false)? {
        audit::record(tx, ctx, Entry::of("account.enabled", id).reason(reason))?;
    }
    auth::account(tx, id)
}

/// Ends all sessions of an account; which.
///
/// # Errors
/// 404.
pub fn end_sessions(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    id: UserId,
    reason: &str,
) -> Result<Vec<SessionId>> {
    let ended = auth::session::end_all(tx, ctx, id)?;
    if !ended.is_empty() {
        let entry = Entry::of("sessions.ended", id)
            .after(json!({ "sessions": ended, "by": "administrator" }))
            .reason(reason);
        audit::record(tx, ctx, entry)?;
    }
    Ok(ended)
}

/// Decides a dispute, and issues the credit note of what is given back.
///
/// # Errors
/// As [`disputes::decide`].
pub fn decide_dispute(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    (postbox, rules): (&Postbox, &Rules),
    id: DisputeId,
    wanted: &Wanted,
    reason: &str,
) -> Result<Dispute> {
    let decided = disputes::decide(tx, ctx, postbox, id, wanted, reason)?;
    invoices::document(tx, ctx, rules, decided.rental)?;
    Ok(decided)
}

/// A refund out of the platform's fees.
#[derive(Debug, Clone)]
pub struct Refund {
    /// For which rental.
    pub rental: RentalId,
    /// How much.
    pub amount: Money,
    /// Why.
    pub reason: String,
}

/// Gives back what a rental cost, out of the platform's fees: to the consumer's balance, or to the wallet that paid, with a credit note if
/// its invoice is issued. The same key refunds once.
///
/// # Errors
/// 404; 409 if the fees don't cover it, or the rental is being paid; 422 for more than it cost.
pub fn refund(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    refund: &Refund,
    key: &IdempotencyKey,
) -> Result<()> {
    if idempotency::find(tx, key)?.is_some() {
        return Ok(());
    }
    let rental = rentals::find(tx, refund.rental)?;
    if rental.state == State::Reserved {
        return Err(Error::conflict(
            "payment_in_progress",
            "it is being paid: wait for the payment to end",
        ));
    }
    if refund.amount.currency != rental.asset || refund.amount.amount == Amount::ZERO {
        return Err(Error::invalid(
            "/amount",
            "more than zero, in the rental's currency",
        ));
    }
    let left = given_back::left(tx, &rental)?;
    if refund.amount.amount > left {
        return Err(Error::invalid(
            "/amount",
            format!("at most what was charged and not given back yet: {left}"),
        ));
    }
    let cause = Cause::Goodwill(rental.id, key.reference());
    idempotency::remember(tx, ctx, key, &rental.id.to_string())?;
    let posting = Posting {
        asset: rental.asset,
        debit: Books::PlatformFees,
        credit: rentals::money_goes_back_to(tx, &rental)?,
        amount: refund.amount.amount,
        cause: cause.clone(),
    };
    ledger::post(tx, ctx, &posting)?;
    given_back::note_goodwill(
        tx,
        ctx,
        rental.id,
        refund.amount.amount,
        &cause,
        &refund.reason,
    )?;
    invoices::document(tx, ctx, rules, rental.id)?;
    let entry = Entry::of("rental.refunded", rental.id)
        .after(json!({ "amount": refund.amount.amount, "currency": rental.asset }))
        .reason(&refund.reason);
    audit::record(tx, ctx, entry)
}
