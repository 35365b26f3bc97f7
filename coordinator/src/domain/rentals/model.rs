//! A rental as it is kept: what is wanted of it, what its node reports, its money and its times.
//!
//! # Invariants
//! - [`State`] is what is wanted and only the market writes it; `phase` is what is observed and only beats write it.
//! - lease end ≤ paid end: nothing runs beyond what is held.

use shared::{
    id::{LeaseId, NodeId, OfferId, RentalId, UserId},
    image::rules::PinnedImage,
    money::{Amount, Asset, Rate},
    resources::{IsolationClass, Resources},
    time::Timestamp,
    wire::observed::Phase,
    x402::address::Address,
};

use super::spec::KeptSpec;
pub use super::state::{EndReason, Happening, State};
use crate::error::Result;

/// A rental.
#[derive(Debug, Clone, PartialEq)]
pub struct Rental {
    /// Which.
    pub id: RentalId,
    /// Its hold on the node.
    pub lease_id: LeaseId,
    /// Of which offer.
    pub offer_id: OfferId,
    /// Where.
    pub node_id: NodeId,
    /// Whose node.
    pub provider: UserId,
    /// Who rents, if they have an account.
    pub consumer: Option<UserId>,
    /// The wallet that paid, if one did.
    pub payer: Option<String>,
    /// What is wanted.
    pub state: State,
    /// Why it is being stopped.
    pub stop_reason: Option<EndReason>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// The state's reason in words.
    pub detail: String,
    /// What its node reports.
    pub phase: Phase,
    /// What runs.
    pub spec: KeptSpec,
    /// What it may use.
    pub resources: Resources,
    /// UUIDs of its GPUs.
    pub gpus: Vec<String>,
    /// Whether it reaches the public internet.
    pub internet: bool,
    /// What lay between rentals and the machine when it was ordered, as its node said: the least that it gets.
    pub isolation: Option<IsolationClass>,
    /// Currency of its price, and of all its money.
    pub asset: Asset,
    /// Currency of the balance from which it is extended: the one it was bought with.
    pub balance_asset: Asset,
    /// What an hour costs.
    pub rate: Rate,
    /// The platform's share.
    pub fee_bps: u32,
    /// How long it is paid for.
    pub duration_ms: i64,
    /// What was paid.
    pub paid: Amount,
    /// Whether it is extended from the balance.
    pub auto_extend: bool,
    /// The most that it may cost.
    pub max_spend: Option<Amount>,
    /// Docker's id of its container.
    pub container_id: Option<String>,
    /// The image that was quoted, if its registry was asked.
    pub image: Option<PinnedImage>,
    /// How long before its provider ends it ahead of its time it is told.
    pub notice_ms: i64,
    /// Digest of its image.
    pub image_digest: Option<String>,
    /// When it was ordered.
    pub created_at: Timestamp,
    /// Until when its capacity is held unpaid.
    pub reserve_until: Timestamp,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// Docker's `StartedAt`, by our clock.
    pub started_at: Option<Timestamp>,
    /// Docker's `FinishedAt`, by our clock.
    pub finished_at: Option<Timestamp>,
    /// Until when the node may run it without hearing from us.
    pub lease_until: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When its money was split for good.
    pub settled_at: Option<Timestamp>,
    /// Where the next billing window begins.
    pub window_end: Option<Timestamp>,
    /// Billable time of the closed windows.
    pub billed_ms: i64,
    /// What the closed windows cost.
    pub charged: Amount,
    /// The platform's part of that.
    pub fee: Amount,
    /// What went back.
    pub refunded: Amount,
    /// Grows with each write: a writer that read an older one writes nothing.
    pub version: i64,
}

impl Rental {
    /// Whether it was paid by this wallet, without an account.
    #[must_use]
    pub fn is_of_wallet(&self, wallet: &Address) -> bool {
        self.consumer.is_none() && self.payer.as_ref() == Some(&wallet.to_string())
    }

    /// Until when it is paid; `None` until its container runs, since loading isn't billed.
    #[must_use]
    pub fn paid_until(&self) -> Option<Timestamp> {
        self.started_at
            .map(|started| started.plus_ms(self.duration_ms))
    }

    /// The state as clients see it.
    #[must_use]
    pub const fn client_state(&self) -> &'static str {
        match self.state {
            State::Reserved => "awaiting_payment",
            State::Stopping => "stopping",
            State::Ended => "ended",
            State::Active => match &self.phase {
                Phase::Pending => "scheduled",
                Phase::Pulling { .. } => "pulling",
                Phase::Starting => "starting",
                Phase::Running => "running",
                // reported, and about to be folded into `ended`
                Phase::Stopping | Phase::Exited { .. } | Phase::Failed { .. } => "stopping",
            },
        }
    }

    /// What it cost until `now`: closed windows, and while it runs the time since the last one as it will be billed if nothing breaks.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn cost_so_far(&self, now: Timestamp) -> Result<Amount> {
        let (Some(from), State::Active | State::Stopping) =
            (self.window_end.or(self.started_at), self.state)
        else {
            return Ok(self.charged);
        };
        let until = self.finished_at.unwrap_or(now).min(self.lease_until);
        let open_ms = until.ms_since(from).max(0);
        let total = self
            .rate
            .charge_for_ms(self.billed_ms.saturating_add(open_ms))?;
        Ok(total.max(self.charged).min(self.paid))
    }
}
