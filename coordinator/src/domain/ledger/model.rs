//! The chart of accounts and what a transfer is.
//!
//! # Invariants
//! - An account's text form names asset, kind and owner, so two assets never meet in one account.
//! - Only [`Account::External`] may go below zero: it stands for the world outside.

use std::fmt;

use shared::{
    id::{DisputeId, PaymentId, PayoutId, RentalId, UserId},
    money::{Amount, Asset},
};

/// A wallet without an account, by the network over which it paid, where that is known: what goes back to it goes by the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Purse {
    /// Its address.
    pub wallet: String,
    /// CAIP-2.
    pub network: Option<String>,
}

impl From<&str> for Purse {
    /// Reads `0x…@eip155:8453`, or an address alone.
    fn from(text: &str) -> Self {
        match text.split_once('@') {
            Some((wallet, network)) => Self {
                wallet: wallet.to_owned(),
                network: Some(network.to_owned()),
            },
            None => Self {
                wallet: text.to_owned(),
                network: None,
            },
        }
    }
}

impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.network {
            Some(network) => write!(f, "{}@{network}", self.wallet),
            None => f.write_str(&self.wallet),
        }
    }
}

/// An account of the ledger, in the books of one asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// The contra account of a payment network: what came in (or play money) shows here below zero.
    External(String),
    /// What a consumer may spend or withdraw.
    UserAvailable(UserId),
    /// What an account asked to be paid out and that hasn't been sent yet: neither spendable nor gone.
    UserHeld(UserId),
    /// What was paid for a rental and is neither charged nor refunded.
    RentalEscrow(RentalId),
    /// What a provider earned, while it may still be disputed.
    ProviderPending(UserId),
    /// What a provider earned and may have paid out.
    ProviderAvailable(UserId),
    /// Refunds owed to a payer without an account.
    PayerRefunds(Purse),
    /// Of these, what is about to be sent.
    PayerHeld(Purse),
    /// What has been handed to a network and isn't seen on it yet.
    PayoutClearing,
    /// Money whose place isn't known; somebody has to look.
    Suspense,
    /// The market's own share.
    PlatformFees,
}

impl Account {
    /// The exchange desk: the world outside that takes one currency and gives another.
    #[must_use]
    pub fn exchange() -> Self {
        Self::External("exchange".to_owned())
    }

    /// The account's key: `USDC/rental:rnt_…:escrow`.
    #[must_use]
    pub fn key(&self, asset: Asset) -> String {
        let rest = match self {
            Self::External(network) => format!("external:{network}"),
            Self::UserAvailable(user) => format!("user:{user}:available"),
            Self::UserHeld(user) => format!("user:{user}:held"),
            Self::RentalEscrow(rental) => format!("rental:{rental}:escrow"),
            Self::ProviderPending(user) => format!("provider:{user}:pending"),
            Self::ProviderAvailable(user) => format!("provider:{user}:available"),
            Self::PayerRefunds(payer) => format!("payer:{payer}:refunds"),
            Self::PayerHeld(payer) => format!("payer:{payer}:held"),
            Self::PayoutClearing => "payout_clearing".to_owned(),
            Self::Suspense => "suspense".to_owned(),
            Self::PlatformFees => "platform:fees".to_owned(),
        };
        format!("{}/{rest}", asset.code())
    }

    /// The kind's name in the database.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::External(_) => "external",
            Self::UserAvailable(_) => "user_available",
            Self::UserHeld(_) => "user_held",
            Self::RentalEscrow(_) => "rental_escrow",
            Self::ProviderPending(_) => "provider_pending",
            Self::ProviderAvailable(_) => "provider_available",
            Self::PayerRefunds(_) => "payer_refunds",
            Self::PayerHeld(_) => "payer_held",
            Self::PayoutClearing => "payout_clearing",
            Self::Suspense => "suspense",
            Self::PlatformFees => "platform_fees",
        }
    }
}

/// Why money moves. With its reference it is unique: the same cause posts once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A payment from outside arrived.
    Payment(PaymentId),
    /// Play money from the sandbox; the text is the idempotency key of the grant.
    SandboxGrant(String),
    /// A rental was paid from a balance; the text tells the purchases of one rental apart.
    BalancePurchase(RentalId, String),
    /// The second half of an exchange: what was given for money of another currency. The text is the first half's reference.
    Exchange(String),
    /// The provider's share of a billing window.
    WindowProvider(RentalId, i64),
    /// The fee of a billing window.
    WindowFee(RentalId, i64),
    /// What was left in the escrow at the end. The number is what had been paid by then: money that arrives for a rental that
    /// is settled already is refunded by another posting.
    Refund(RentalId, Amount),
    /// An administrator gave back what a rental cost, out of the platform's fees; the text is the idempotency key.
    Goodwill(RentalId, String),
    /// What a rental earned has become payable; the number is what had become so before.
    EarningsReleased(RentalId, Amount),
    /// A payout was asked for: its money waits.
    PayoutHeld(PayoutId),
    /// A payout is about to be handed to a network.
    PayoutSent(PayoutId),
    /// A payout's money left for good, or went back to where it came from: one cause for both, so that the ledger itself takes only
    /// one of them.
    PayoutEnded(PayoutId),
    /// A dispute was decided: a part of what is given back.
    Dispute(DisputeId, DisputePart),
}

/// Who bears a part of what a dispute gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputePart {
    /// The provider, from what isn't payable yet.
    Pending,
    /// The provider, from what is payable.
    Available,
    /// The platform: the fee that it took.
    Fee,
    /// The platform, where the provider has it no more.
    Goodwill,
}

impl Cause {
    /// The cause's code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Payment(_) => "payment",
            Self::SandboxGrant(_) => "sandbox_grant",
            Self::BalancePurchase(..) => "balance_purchase",
            Self::Exchange(_) => "exchange",
            Self::WindowProvider(..) => "window_provider",
            Self::WindowFee(..) => "window_fee",
            Self::Refund(..) => "refund",
            Self::Goodwill(..) => "goodwill",
            Self::EarningsReleased(..) => "earnings_released",
            Self::PayoutHeld(_) => "payout_held",
            Self::PayoutSent(_) => "payout_sent",
            Self::PayoutEnded(_) => "payout_ended",
            Self::Dispute(_, DisputePart::Pending) => "dispute_pending",
            Self::Dispute(_, DisputePart::Available) => "dispute_available",
            Self::Dispute(_, DisputePart::Fee) => "dispute_fee",
            Self::Dispute(_, DisputePart::Goodwill) => "dispute_goodwill",
        }
    }

    /// What it refers to.
    #[must_use]
    pub fn reference(&self) -> String {
        match self {
            Self::Payment(payment) => payment.to_string(),
            Self::Dispute(dispute, _) => dispute.to_string(),
            Self::SandboxGrant(key) | Self::Exchange(key) => key.clone(),
            Self::BalancePurchase(rental, part) | Self::Goodwill(rental, part) => {
                format!("{rental}:{part}")
            }
            Self::WindowProvider(rental, start) | Self::WindowFee(rental, start) => {
                format!("{rental}:{start}")
            }
            Self::Refund(rental, before) | Self::EarningsReleased(rental, before) => {
                format!("{rental}:{}", before.atomic())
            }
            Self::PayoutHeld(payout) | Self::PayoutSent(payout) | Self::PayoutEnded(payout) => {
                payout.to_string()
            }
        }
    }
}

/// A movement of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// In whose books.
    pub asset: Asset,
    /// Where it comes from.
    pub debit: Account,
    /// Where it goes.
    pub credit: Account,
    /// How much; nothing moves nothing.
    pub amount: Amount,
    /// Why.
    pub cause: Cause,
}

/// What posting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// The money moved now.
    Now,
    /// The same posting was there before.
    Before,
}
