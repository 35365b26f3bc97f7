//! A rental: what is wanted of it, what its node reports, and the pure decisions about both.
//!
//! # Invariants
//! - [`State`] is what is wanted and only the market writes it; `phase` is what is observed and only beats write it.
//! - An ended rental never changes its state again; how it ended is decided once, in [`fold`] or [`overdue`].
//! - lease end ≤ paid end: nothing runs beyond what is held.

use shared::{
    container::ContainerSpec,
    id::{LeaseId, NodeId, OfferId, RentalId, UserId},
    money::{Amount, Asset, Rate},
    resources::Resources,
    time::Timestamp,
    wire::observed::{ExitCause, ObservedRental, Phase},
};

use crate::{
    domain::nodes::model::Capacity,
    error::{Error, Result},
};

/// What is wanted of a rental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its capacity is held while it is being paid.
    Reserved,
    /// It should run.
    Active,
    /// It should be stopped.
    Stopping,
    /// It is over.
    Ended,
}

/// Why a rental ended, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its paid time was over.
    Completed,
    /// Whoever rented it stopped it.
    Stopped,
    /// It should have been extended, but the balance didn't cover it.
    OutOfFunds,
    /// Its container never ran.
    FailedToStart,
    /// Its process ended by itself.
    Exited,
    /// The kernel killed it for taking more memory than rented.
    OomKilled,
    /// Its node was gone for longer than its lease.
    NodeLost,
    /// Its provider needed the capacity.
    Preempted,
    /// It was never paid.
    Expired,
    /// An admin stopped it.
    Banned,
}

/// What happens to a rental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It was paid.
    Pay,
    /// It wasn't paid in time, or its payment failed.
    Lapse,
    /// Somebody, or time, wants it stopped.
    Stop,
    /// Its node reports, or time decides, that it is over.
    Finish,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Active, Self::Stopping, Self::Ended];

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Active => "active",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// The next state.
    ///
    /// # Errors
    /// Internal for what can't happen in this state.
    pub fn next(self, happening: Happening) -> Result<Self> {
        match (self, happening) {
            (Self::Reserved, Happening::Pay) => Ok(Self::Active),
            (Self::Reserved, Happening::Lapse)
            | (Self::Active | Self::Stopping, Happening::Finish) => Ok(Self::Ended),
            (Self::Active, Happening::Stop) => Ok(Self::Stopping),
            (state, happening) => Err(Error::internal(format!(
                "rental: {happening:?} can't happen in {state:?}"
            ))),
        }
    }
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Completed,
        Self::Stopped,
        Self::OutOfFunds,
        Self::FailedToStart,
        Self::Exited,
        Self::OomKilled,
        Self::NodeLost,
        Self::Preempted,
        Self::Expired,
        Self::Banned,
    ];

    /// The name in the database and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::OutOfFunds => "out_of_funds",
            Self::FailedToStart => "failed_to_start",
            Self::Exited => "exited",
            Self::OomKilled => "oom_killed",
            Self::NodeLost => "node_lost",
            Self::Preempted => "preempted",
            Self::Expired => "expired",
            Self::Banned => "banned",
        }
    }

    /// The reason of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

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
    pub spec: ContainerSpec,
    /// What it may use.
    pub resources: Resources,
    /// Currency of its money.
    pub asset: Asset,
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
    /// Its part of the node.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        Capacity {
            ram_bytes: self.resources.ram_bytes,
            cpu_millis: self.resources.cpu_millis,
        }
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

/// What a node's report changes about a rental.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Folded {
    /// The new phase, if it is another one.
    pub phase: Option<Phase>,
    /// Docker's id, if it is news.
    pub container_id: Option<String>,
    /// The image's digest, if it is news.
    pub image_digest: Option<String>,
    /// When it started, if it is news.
    pub started_at: Option<Timestamp>,
    /// When it finished, if it is news.
    pub finished_at: Option<Timestamp>,
    /// It is over.
    pub end: Option<(EndReason, String)>,
}

/// Folds a node's report into a rental. `clock_offset_us` is our clock minus the node's, `received_at` when the beat arrived.
/// A report about another lease changes nothing.
#[must_use]
pub fn fold(
    rental: &Rental,
    observed: &ObservedRental,
    clock_offset_us: i64,
    received_at: Timestamp,
) -> Folded {
    if observed.lease_id != rental.lease_id
        || !matches!(rental.state, State::Active | State::Stopping)
    {
        return Folded::default();
    }
    let earliest = rental.paid_at.unwrap_or(rental.created_at);
    let ours = |moment: Timestamp, from: Timestamp| {
        Timestamp::from_micros(moment.as_micros().saturating_add(clock_offset_us))
            .clamp(from, received_at.max(from))
    };
    let started_at = match rental.started_at {
        Some(_) => None,
        None => observed.started_at.map(|moment| ours(moment, earliest)),
    };
    let started = rental.started_at.or(started_at);
    let finished_at = match (rental.finished_at, started) {
        (None, Some(started)) => observed.finished_at.map(|moment| ours(moment, started)),
        _ => None,
    };
    let news = |old: &Option<String>, new: &Option<String>| {
        new.as_ref()
            .filter(|new| old.as_ref() != Some(new))
            .map(|text| text.chars().take(200).collect())
    };
    Folded {
        phase: (observed.phase != rental.phase).then(|| observed.phase.clone()),
        container_id: news(&rental.container_id, &observed.container_id),
        image_digest: news(&rental.image_digest, &observed.image_digest),
        end: end_of(
            rental,
            observed,
            started,
            rental.finished_at.or(finished_at),
        ),
        started_at,
        finished_at,
    }
}

fn end_of(
    rental: &Rental,
    observed: &ObservedRental,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
) -> Option<(EndReason, String)> {
    match &observed.phase {
        Phase::Exited { exit, cause } => Some(match cause {
            ExitCause::Wanted => {
                let reason = rental.stop_reason.unwrap_or(EndReason::Stopped);
                (
                    reason,
                    format!("stopped as wanted; exit code {}", exit.code),
                )
            }
            ExitCause::LeaseEnded => lease_ended(rental, started, finished),
            ExitCause::Itself if exit.oom_killed => {
                let limit = rental.resources.ram_bytes;
                (
                    EndReason::OomKilled,
                    format!("killed by the kernel: it took more than the {limit} bytes it rents"),
                )
            }
            ExitCause::Itself => (
                EndReason::Exited,
                format!("its process ended by itself with exit code {}", exit.code),
            ),
        }),
        Phase::Failed { code, reason } => {
            let text = format!("{code}: {reason}").chars().take(500).collect();
            let end = match (started, code.as_str()) {
                (Some(_), _) => EndReason::NodeLost,
                (None, "stopped_before_start") => rental.stop_reason.unwrap_or(EndReason::Stopped),
                (None, _) => EndReason::FailedToStart,
            };
            Some((end, text))
        }
        Phase::Pending
        | Phase::Pulling { .. }
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping => None,
    }
}

/// How close to the end of its paid time a lease's end counts as that, milliseconds.
const PAID_END_SLACK_MS: i64 = 2_000;

fn lease_ended(
    rental: &Rental,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
) -> (EndReason, String) {
    let paid_until = started.map(|started| started.plus_ms(rental.duration_ms));
    let whole = match (paid_until, finished) {
        (Some(paid_until), Some(finished)) => finished.plus_ms(PAID_END_SLACK_MS) >= paid_until,
        _ => false,
    };
    if whole {
        (time_is_over(rental), "its paid time was over".to_owned())
    } else {
        (
            EndReason::NodeLost,
            "its lease ended while node and market could not reach each other".to_owned(),
        )
    }
}

/// Why a rental ends whose paid time is over.
#[must_use]
pub const fn time_is_over(rental: &Rental) -> EndReason {
    match rental.stop_reason {
        Some(reason) => reason,
        None if rental.auto_extend => EndReason::OutOfFunds,
        None => EndReason::Completed,
    }
}

/// Where a rental's lease should end now, if that is at least a step later than it does.
#[must_use]
pub fn extended_lease(
    rental: &Rental,
    now: Timestamp,
    horizon_ms: i64,
    step_ms: i64,
) -> Option<Timestamp> {
    if rental.state != State::Active {
        return None;
    }
    let horizon = now.plus_ms(horizon_ms);
    let paid_until = rental
        .paid_until()
        .unwrap_or_else(|| now.plus_ms(rental.duration_ms));
    let target = horizon.min(paid_until);
    let last_part =
        target == paid_until && rental.started_at.is_some() && target > rental.lease_until;
    (last_part || target.ms_since(rental.lease_until) >= step_ms).then_some(target)
}

/// How long a rental may take to start: as long as an image may take to be pulled.
pub const START_MS_MAX: i64 = 30 * 60 * 1_000;
/// How long after a lease's end its node may still report, milliseconds.
pub const LEASE_GRACE_MS: i64 = 30_000;

/// What time does to a rental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// It wasn't paid.
    Lapse,
    /// Stop it.
    Stop(EndReason),
    /// Its node is gone.
    Finish(EndReason),
}

/// Whether time ends a rental. `nodes_can_report` is false in the first minute of a coordinator's run, when silence proves nothing.
#[must_use]
pub fn overdue(rental: &Rental, now: Timestamp, nodes_can_report: bool) -> Option<Overdue> {
    let lease_over = now > rental.lease_until.plus_ms(LEASE_GRACE_MS);
    match rental.state {
        State::Reserved => (now > rental.reserve_until).then_some(Overdue::Lapse),
        State::Active | State::Stopping if lease_over && nodes_can_report => {
            let paid_over = rental.paid_until().is_some_and(|until| now > until);
            let reason = rental.stop_reason.unwrap_or(EndReason::NodeLost);
            let reason = if paid_over && rental.stop_reason.is_none() {
                time_is_over(rental)
            } else {
                reason
            };
            Some(Overdue::Finish(reason))
        }
        State::Active => match (rental.paid_until(), rental.paid_at) {
            (Some(until), _) => (now >= until).then(|| Overdue::Stop(time_is_over(rental))),
            (None, Some(paid_at)) => (now.ms_since(paid_at) > START_MS_MAX)
                .then_some(Overdue::Stop(EndReason::FailedToStart)),
            (None, None) => None,
        },
        State::Stopping | State::Ended => None,
    }
}
