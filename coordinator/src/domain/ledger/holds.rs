//! Money out, in two phases: held while a payout waits, posted when it is handed to a network, and then gone or back.
//!
//! # Invariants
//! - Each phase happens once per payout: its cause is the payout's id.
//! - A payout ends once: that its money left and that it went back share one cause.
//! - What is held belongs to whoever asked; what is posted lies in [`Account::PayoutClearing`] until the network shows it.

use shared::{
    id::{PayoutId, UserId},
    money::{Amount, Asset},
};

use super::{
    model::{Account, Cause, Posted, Posting, Purse},
    post,
};
use crate::{context::OpCtx, error::Result, store::Tx};

/// Whose money goes out, and from which of their accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// A consumer's balance.
    Consumer(UserId),
    /// A provider's earnings.
    Provider(UserId),
    /// What is owed to a wallet without an account.
    Payer(Purse),
}

impl Owner {
    /// Where their money is while nobody asked for it.
    #[must_use]
    pub fn available(&self) -> Account {
        match self {
            Self::Consumer(user) => Account::UserAvailable(*user),
            Self::Provider(user) => Account::ProviderAvailable(*user),
            Self::Payer(payer) => Account::PayerRefunds(payer.clone()),
        }
    }

    /// Where it is while it waits.
    #[must_use]
    pub fn held(&self) -> Account {
        match self {
            Self::Consumer(user) | Self::Provider(user) => Account::UserHeld(*user),
            Self::Payer(payer) => Account::PayerHeld(payer.clone()),
        }
    }
}

/// Money of one payout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Which payout.
    pub payout: PayoutId,
    /// Whose.
    pub owner: Owner,
    /// In which books.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
}

impl Hold {
    fn moves(&self, debit: Account, credit: Account, cause: Cause) -> Posting {
        Posting {
            asset: self.asset,
            debit,
            credit,
            amount: self.amount,
            cause,
        }
    }
}

/// Takes the money out of what its owner may spend.
///
/// # Errors
/// 409 `insufficient_funds`.
pub fn hold(tx: &mut dyn Tx, ctx: &OpCtx, hold: &Hold) -> Result<Posted> {
    let (from, to) = (hold.owner.available(), hold.owner.held());
    post(
        tx,
        ctx,
        &hold.moves(from, to, Cause::PayoutHeld(hold.payout)),
    )
}

/// Takes the money out of its owner's hands: it is about to be sent.
///
/// # Errors
/// 409 if it isn't held.
pub fn send(tx: &mut dyn Tx, ctx: &OpCtx, hold: &Hold) -> Result<Posted> {
    let (from, to) = (hold.owner.held(), Account::PayoutClearing);
    post(
        tx,
        ctx,
        &hold.moves(from, to, Cause::PayoutSent(hold.payout)),
    )
}

/// The network has taken what was sent.
///
/// # Errors
/// Internal if it went back before.
pub fn clear(tx: &mut dyn Tx, ctx: &OpCtx, hold: &Hold, network: &str) -> Result<Posted> {
    let to = Account::External(network.to_owned());
    let cause = Cause::PayoutEnded(hold.payout);
    post(tx, ctx, &hold.moves(Account::PayoutClearing, to, cause))
}

/// Gives the money back to whoever may spend it; `sent` if it was on its way already.
///
/// # Errors
/// Internal if it left before.
pub fn void(tx: &mut dyn Tx, ctx: &OpCtx, hold: &Hold, sent: bool) -> Result<Posted> {
    let from = if sent {
        Account::PayoutClearing
    } else {
        hold.owner.held()
    };
    let cause = Cause::PayoutEnded(hold.payout);
    post(tx, ctx, &hold.moves(from, hold.owner.available(), cause))
}
