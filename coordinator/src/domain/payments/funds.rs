//! Money on a person's balance that no rental was bought for: play money, and the news of a top-up.

use shared::{
    id::UserId,
    money::{Amount, Money},
};

use super::model::{Payment, Quote};
use crate::{
    context::OpCtx,
    domain::{
        events::{self, Event},
        ledger::{
            self, halt,
            model::{Account, Cause, Posting},
        },
    },
    error::{Error, Result},
    store::Tx,
};

/// The event that tells of money on a balance.
pub const CREDITED: &str = "balance.credited";

/// Tells whose balance was filled.
///
/// # Errors
/// The database's.
pub fn announce_top_up(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    user: UserId,
    paid: &Payment,
    quote: &Quote,
) -> Result<()> {
    // in the balance's currency, whatever it was paid with
    let amount = Money {
        amount: quote.amount,
        currency: quote.asset,
    };
    let facts = serde_json::json!({ "payment_id": paid.id, "amount": amount });
    let event = Event {
        consumer: Some(user),
        ..Event::new(CREDITED, facts)
    };
    events::append(tx, ctx, event)
}

/// Play money for a signed-in consumer's balance, up to `limit` in all.
///
/// # Errors
/// 409 above the limit; 503 while the books are halted.
pub fn grant(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    money: &Money,
    limit: Amount,
    reference: &str,
) -> Result<Amount> {
    halt::check(tx)?;
    let (asset, amount) = (money.currency, money.amount);
    let account = Account::UserAvailable(ctx.user()?.id);
    let have = ledger::balance(tx, asset, &account)?;
    if have.plus(amount)? > limit {
        return Err(Error::conflict(
            "sandbox_limit",
            format!("the sandbox fills a balance up to {limit}: it holds {have}"),
        ));
    }
    let posting = Posting {
        asset,
        debit: Account::External("sandbox".to_owned()),
        credit: account.clone(),
        amount,
        cause: Cause::SandboxGrant(reference.to_owned()),
    };
    ledger::post(tx, ctx, &posting)?;
    ledger::balance(tx, asset, &account)
}
