//! Money out: what providers earned, what consumers take back, what is owed to wallets without an account. Asked for here, sent by
//! [`driver`], by transfers that the market's own key signs.
//!
//! # Invariants
//! - The money is held in the transaction that asks for it, leaves its owner in the one before anybody is asked to send it, and ends
//!   once: gone or back (`ledger::holds`).
//! - A payout is written under the version that was read: of several that work on it one wins.
//! - Sums of a day are counters that refuse, so nobody passes them by asking twice at once.
//! - What is large needs two administrators, neither of them its owner.

pub mod address;
pub mod api;
pub mod check;
pub mod decisions;
pub mod driver;
pub mod model;
mod outcome;
pub mod rounds;
mod steps;
mod store;
#[cfg(test)]
mod tests;

use model::{Kind, Payout, State};
use serde_json::json;
use shared::{
    id::{PayoutId, UserId},
    money::{Amount, Asset, Money},
    time::Timestamp,
    x402::address::Address,
};

use super::{
    audit::{self, Entry},
    auth, kyc,
    ledger::{
        halt,
        holds::{self, Owner},
    },
    mail::Postbox,
    payments,
};
use crate::{
    config::{KycConfig, KycGate, PayoutsConfig},
    context::{OpCtx, Role},
    error::{Error, Result},
    store::Tx,
};

const DAY_MS: i64 = 86_400_000;

/// What money out is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Less than this isn't paid out to accounts.
    pub minimum: Amount,
    /// Less than this isn't sent back to wallets.
    pub dust: Amount,
    /// More than this needs two administrators.
    pub approval_above: Amount,
    /// The most of a day for one account or wallet.
    pub account_daily_max: Amount,
    /// The most of a day in all.
    pub market_daily_max: Amount,
    /// How long a change of address waits.
    pub address_hold_ms: i64,
    /// How often earnings are paid out by themselves; 0: never.
    pub schedule_ms: i64,
    /// How long what is signed holds, seconds.
    pub valid_for_s: i64,
}

impl Rules {
    /// Those of the settings.
    #[must_use]
    pub fn of(settings: &PayoutsConfig) -> Self {
        let ms = |seconds: u32| i64::from(seconds).saturating_mul(1_000);
        Self {
            minimum: settings.minimum,
            dust: settings.dust,
            approval_above: settings.approval_above,
            account_daily_max: settings.account_daily_max,
            market_daily_max: settings.market_daily_max,
            address_hold_ms: ms(settings.address_hold_s),
            schedule_ms: ms(settings.schedule_s),
            valid_for_s: i64::from(settings.valid_for_s),
        }
    }
}

/// Where money goes out.
#[derive(Debug, Clone)]
pub struct Way {
    /// CAIP-2.
    pub network: String,
    /// The token's address.
    pub token: String,
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Whose money.
    pub owner: Owner,
    /// How much.
    pub money: Money,
    /// To whom.
    pub pay_to: Address,
}

/// Asks for a payout of the caller's money to the address that holds for them.
///
/// # Errors
/// 401; 403 `kyc_required`; 409 without an address, without the money or above a day's sum; 422 below the minimum.
pub fn ask(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    (rules, way): (&Rules, &Way),
    (kyc, postbox): (&KycConfig, &Postbox),
    kind: Kind,
    money: &Money,
) -> Result<Payout> {
    let user = ctx.signed_in()?.id;
    let owner = owner(ctx, kind)?;
    kyc::require(tx, ctx, kyc, KycGate::Payouts)?;
    if money.amount < rules.minimum || money.amount.is_zero() {
        return Err(Error::invalid(
            "/amount",
            format!("at least {} is paid out at a time", rules.minimum),
        ));
    }
    let pay_to = address::of(tx, user)?.at(ctx.now).ok_or_else(no_address)?;
    let wish = Wish {
        owner,
        money: money.clone(),
        pay_to,
    };
    let payout = request(tx, ctx, rules, way, &wish)?;
    let account = auth::account(tx, user)?;
    let what = format!(
        "Somebody, probably you, asked for a payout of {} {} of your account at RAMarket to\n\n{pay_to}\n",
        money.amount,
        money.currency.code()
    );
    auth::account::tell(tx, ctx, postbox, &account, "A payout was asked for", &what)?;
    let after = json!({ "amount": payout.amount, "currency": payout.asset, "to": payout.pay_to });
    audit::record(
        tx,
        ctx,
        Entry::of("payout.requested", payout.id).after(after),
    )?;
    Ok(payout)
}

/// Whose money it is that the caller asks for.
///
/// # Errors
/// 401; internal for refunds, which nobody asks for.
pub fn owner(ctx: &OpCtx, kind: Kind) -> Result<Owner> {
    let user = ctx.signed_in()?.id;
    match kind {
        Kind::Earnings => Ok(Owner::Provider(user)),
        Kind::Withdrawal => Ok(Owner::Consumer(user)),
        Kind::Refund => Err(Error::internal("refunds aren't asked for")),
    }
}

/// The network over which somebody's money came, as far as that is known: it leaves by the same, where it can.
///
/// # Errors
/// The database's.
pub fn came_by(tx: &mut dyn Tx, owner: &Owner, asset: Asset) -> Result<Option<String>> {
    match owner {
        Owner::Payer(purse) => Ok(purse.network.clone()),
        Owner::Consumer(user) => payments::networks::of_top_ups(tx, *user),
        Owner::Provider(user) => payments::networks::of_provider(tx, *user, asset),
    }
}

fn no_address() -> Error {
    Error::conflict(
        "payout_address_missing",
        "no address holds for you yet: PUT /api/v1/payout-address, and wait until it takes effect",
    )
}

/// Holds the money and writes the payout down. Who may ask is decided by the caller.
///
/// # Errors
/// 409 without the money or above a day's sum; 503 while the books are looked into.
pub fn request(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    way: &Way,
    wish: &Wish,
) -> Result<Payout> {
    halt::check(tx)?;
    let large = wish.money.amount > rules.approval_above;
    let payout = Payout {
        id: ctx.mint(),
        owner: wish.owner.clone(),
        asset: wish.money.currency,
        amount: wish.money.amount,
        network: way.network.clone(),
        token: way.token.clone(),
        pay_to: wish.pay_to,
        state: if large {
            State::AwaitingApproval
        } else {
            State::Requested
        },
        note: None,
        payload: None,
        valid_before_s: 0,
        signatures: 0,
        attempts: 0,
        doubtful: false,
        tx_hash: None,
        next_try_at: ctx.now,
        created_at: ctx.now,
        updated_at: ctx.now,
        version: 1,
    };
    count(tx, rules, &payout)?;
    store::insert(tx, &payout)?;
    holds::hold(tx, ctx, &payout.hold())?;
    steps::announce(tx, ctx, &payout, "payout.requested")?;
    Ok(payout)
}

fn day_of(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(DAY_MS / 1_000)
}

/// The name of an owner in the sums of a day; a person is one, whatever they take out.
fn owner_name(owner: &Owner) -> String {
    match owner {
        Owner::Consumer(user) | Owner::Provider(user) => user.to_string(),
        Owner::Payer(purse) => purse.wallet.clone(),
    }
}

fn count(tx: &mut dyn Tx, rules: &Rules, payout: &Payout) -> Result<()> {
    let (day, name) = (day_of(payout.created_at), owner_name(&payout.owner));
    for (owner, most) in [
        (name.as_str(), rules.account_daily_max),
        ("", rules.market_daily_max),
    ] {
        if !store::add_to_day(tx, day, payout.asset, owner, payout.amount, most)? {
            let whose = if owner.is_empty() {
                "the market"
            } else {
                "one account"
            };
            return Err(Error::conflict(
                "payout_daily_limit",
                format!("at most {most} a day leaves {whose}: ask for less, or tomorrow"),
            ));
        }
    }
    Ok(())
}

/// A payout.
///
/// # Errors
/// 404.
pub fn find(tx: &mut dyn Tx, id: PayoutId) -> Result<Payout> {
    store::by_id(tx, id)?.ok_or_else(|| Error::not_found("payout"))
}

/// A payout of the caller's.
///
/// # Errors
/// 401; 404 for what isn't theirs.
pub fn own(tx: &mut dyn Tx, ctx: &OpCtx, id: PayoutId) -> Result<Payout> {
    let user = ctx.user()?.id;
    let payout = find(tx, id)?;
    if payout.user() == Some(user) {
        Ok(payout)
    } else {
        Err(Error::not_found("payout"))
    }
}

/// The caller's payouts, newest first, before an id.
///
/// # Errors
/// 401.
pub fn list(tx: &mut dyn Tx, ctx: &OpCtx, before: &str, limit: i64) -> Result<Vec<Payout>> {
    store::of_user(tx, ctx.user()?.id, before, limit)
}

/// Payouts of one state with who let them go, oldest first, for administrators.
///
/// # Errors
/// 401 or 403 for anybody else.
pub fn list_all(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    state: State,
    after: &str,
    limit: i64,
) -> Result<Vec<(Payout, Vec<UserId>)>> {
    ctx.user_with(Role::Admin)?;
    let payouts = store::in_state(tx, state, after, limit)?;
    let with = |payout: Payout| Ok((payout.clone(), store::approvals(tx, payout.id)?));
    payouts.into_iter().map(with).collect()
}

/// The refusal of a currency that isn't paid out here.
fn no_way(asset: Asset) -> Error {
    Error::invalid(
        "/amount/currency",
        format!("{} isn't paid out by this market", asset.code()),
    )
}
