//! What a payout is, the states it passes, and what is to be done with it next.
//!
//! # Invariants
//! - The nonce follows from the payout's id, so whatever is signed for it, and however often, a token's contract takes one of it.
//! - Money goes back only when nothing that was signed can be taken any more, and was not: by the chain's word, or without a chain
//!   when each attempt was refused for good.
//! - Nothing is signed anew while what was signed before may still be taken.

use shared::{
    id::{PayoutId, UserId},
    money::{Amount, Asset},
    time::Timestamp,
    x402::{address::Address, eip712::keccak256, network::Network, network::Token, terms},
};

use crate::{
    domain::ledger::holds::{Hold, Owner},
    error::{Error, Result},
};

/// What is paid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a provider earned.
    Earnings,
    /// A consumer's balance.
    Withdrawal,
    /// What is owed to a wallet without an account.
    Refund,
}

impl Kind {
    /// The name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Earnings => "earnings",
            Self::Withdrawal => "withdrawal",
            Self::Refund => "refund",
        }
    }

    /// What is paid out to an owner.
    #[must_use]
    pub const fn of(owner: &Owner) -> Self {
        match owner {
            Owner::Provider(_) => Self::Earnings,
            Owner::Consumer(_) => Self::Withdrawal,
            Owner::Payer(_) => Self::Refund,
        }
    }
}

/// Where a payout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its money is held; two administrators must let it go.
    AwaitingApproval,
    /// Its money is held; it is sent next.
    Requested,
    /// It is durable that the facilitator is being asked; its money has left its owner.
    Sending,
    /// It was asked for, and its end isn't known yet.
    Sent,
    /// The money has left.
    Paid,
    /// It was never sent, and its money went back.
    Failed,
}

/// What happens to a payout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The second administrator let it go.
    Approve,
    /// An administrator refused it.
    Reject,
    /// We are about to ask the facilitator.
    Begin,
    /// No clear answer, or a refusal that a later attempt may undo.
    Unclear,
    /// The money has moved.
    Settle,
    /// It can't be sent any more.
    GiveUp,
    /// The operator sent it by other means.
    SettleByHand,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::AwaitingApproval,
        Self::Requested,
        Self::Sending,
        Self::Sent,
        Self::Paid,
        Self::Failed,
    ];

    /// The name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AwaitingApproval => "awaiting_approval",
            Self::Requested => "requested",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Paid => "paid",
            Self::Failed => "failed",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the money has left its owner, and isn't gone or back yet.
    #[must_use]
    pub const fn is_in_flight(self) -> bool {
        matches!(self, Self::Sending | Self::Sent)
    }

    /// Whether nothing will change any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Paid | Self::Failed)
    }

    /// The next state.
    ///
    /// # Errors
    /// 409 for an event that can't happen in this state.
    pub fn next(self, event: Event) -> Result<Self> {
        use Event as E;
        match (self, event) {
            (Self::AwaitingApproval, E::Approve) => Ok(Self::Requested),
            (Self::Requested | Self::Sending | Self::Sent, E::Begin) => Ok(Self::Sending),
            (Self::Sending | Self::Sent, E::Unclear) => Ok(Self::Sent),
            (Self::Sending | Self::Sent, E::Settle)
            | (Self::Requested | Self::Sent, E::SettleByHand) => Ok(Self::Paid),
            (Self::AwaitingApproval | Self::Requested, E::Reject)
            | (Self::Sending | Self::Sent, E::GiveUp) => Ok(Self::Failed),
            (state, _) => Err(Error::conflict(
                "payout_state",
                format!(
                    "this payout is {}: it is too late, or too early, for that",
                    state.name()
                ),
            )),
        }
    }
}

/// A payout.
#[derive(Debug, Clone, PartialEq)]
pub struct Payout {
    /// Which.
    pub id: PayoutId,
    /// Whose money.
    pub owner: Owner,
    /// Of which currency.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
    /// CAIP-2.
    pub network: String,
    /// The token's address.
    pub token: String,
    /// To whom.
    pub pay_to: Address,
    /// Where it is.
    pub state: State,
    /// Why it isn't further, in words for its owner.
    pub note: Option<String>,
    /// What was signed last: JSON of an x402 payload.
    pub payload: Option<String>,
    /// Until when that holds, seconds since the Unix epoch.
    pub valid_before_s: i64,
    /// How often it was signed.
    pub signatures: i64,
    /// How often the facilitator was asked.
    pub attempts: i64,
    /// Whether an attempt ended without a clear answer.
    pub doubtful: bool,
    /// The transaction that moved it.
    pub tx_hash: Option<String>,
    /// When it is looked at again.
    pub next_try_at: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

impl Payout {
    /// Its money in the ledger.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold {
            payout: self.id,
            owner: self.owner.clone(),
            asset: self.asset,
            amount: self.amount,
        }
    }

    /// The account whose money it is, if there is one.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match &self.owner {
            Owner::Consumer(user) | Owner::Provider(user) => Some(*user),
            Owner::Payer(_) => None,
        }
    }

    /// What is signed: a transfer of its amount to its address.
    #[must_use]
    pub fn terms(
        &self,
        network: &'static Network,
        token: Token,
        valid_for_s: i64,
        public_url: &str,
    ) -> terms::Terms {
        terms::Terms {
            network,
            asset: token,
            pay_to: self.pay_to,
            amount: self.amount,
            max_timeout_s: valid_for_s,
            resource: terms::Resource {
                url: format!("{public_url}/api/v1/payouts/{}", self.id),
                description: format!("RAMarket {} {}", Kind::of(&self.owner).name(), self.id),
                mime_type: "application/json".to_owned(),
            },
        }
    }
}

/// The number under which a payout is taken once.
#[must_use]
pub fn nonce(id: PayoutId) -> [u8; 32] {
    keccak256(format!("ramarket/payout/v1{id}").as_bytes())
}

/// What the chain shows of what was signed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// There is no chain to look at.
    NoChain,
    /// It moved the money.
    Paid(String),
    /// Its nonce was used without moving the money to where it goes.
    UsedOtherwise(String),
    /// It can't be taken any more, and wasn't.
    Dead,
    /// It may still be taken, or the chain doesn't answer.
    Open,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it waits for somebody, or is over.
    Nothing,
    /// Ask the facilitator; sign first if `sign`.
    Ask {
        /// Under a new time.
        sign: bool,
    },
    /// Look again at a moment, not before.
    Wait(Timestamp),
    /// It has moved.
    Settle(String),
    /// It never will.
    GiveUp,
    /// Somebody has to look.
    Stuck(String),
}

/// So often a payout is signed before its money goes back.
pub const SIGNATURES_MAX: i64 = 3;
/// A facilitator wants a payment to hold for so long when it is asked, seconds; a little more than the six that they name.
const ASKED_VALID_FOR_S_MIN: i64 = 10;
/// Clocks of chains and ours may differ by so much, seconds.
const CLOCKS_DIFFER_S_MAX: i64 = 60;

/// What is to be done with a payout at a moment, by what the chain shows of it.
#[must_use]
pub fn decide(payout: &Payout, seen: &Seen, now: Timestamp) -> Step {
    match payout.state {
        State::AwaitingApproval | State::Paid | State::Failed => return Step::Nothing,
        State::Requested => return Step::Ask { sign: true },
        State::Sending | State::Sent => {}
    }
    let left_s = payout.valid_before_s.saturating_sub(now.as_secs());
    let used_up = payout.signatures >= SIGNATURES_MAX;
    match seen {
        Seen::Paid(transaction) => Step::Settle(transaction.clone()),
        Seen::UsedOtherwise(transaction) => Step::Stuck(transaction.clone()),
        Seen::Dead if used_up => Step::GiveUp,
        Seen::Dead => Step::Ask { sign: true },
        Seen::Open | Seen::NoChain if left_s >= ASKED_VALID_FOR_S_MIN => Step::Ask { sign: false },
        Seen::NoChain if left_s <= -CLOCKS_DIFFER_S_MAX => {
            if used_up && !payout.doubtful && payout.state == State::Sent {
                Step::GiveUp
            } else {
                Step::Ask { sign: true }
            }
        }
        Seen::NoChain => {
            let over_s = payout.valid_before_s.saturating_add(CLOCKS_DIFFER_S_MAX);
            Step::Wait(Timestamp::from_secs(over_s))
        }
        Seen::Open => {
            let over_s = payout.valid_before_s.max(now.as_secs());
            Step::Wait(Timestamp::from_secs(
                over_s.saturating_add(ASKED_VALID_FOR_S_MIN),
            ))
        }
    }
}
