//! What is wanted of a rental, what can happen to it, and why it ended.
//!
//! # Invariants
//! - An ended rental never changes its state again.

use crate::error::{Error, Result};

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
    /// Its node stopped it for writing more than it may.
    DiskExceeded,
    /// Its node was gone for longer than its lease.
    NodeLost,
    /// Its provider needed the capacity.
    Preempted,
    /// It was never paid.
    Expired,
    /// An admin stopped it.
    Banned,
    /// Whoever rents it reported it.
    Reported,
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
    pub const ALL: [Self; 12] = [
        Self::Completed,
        Self::Stopped,
        Self::OutOfFunds,
        Self::FailedToStart,
        Self::Exited,
        Self::OomKilled,
        Self::DiskExceeded,
        Self::NodeLost,
        Self::Preempted,
        Self::Expired,
        Self::Banned,
        Self::Reported,
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
            Self::DiskExceeded => "disk_exceeded",
            Self::NodeLost => "node_lost",
            Self::Preempted => "preempted",
            Self::Expired => "expired",
            Self::Banned => "banned",
            Self::Reported => "reported",
        }
    }

    /// The reason of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}
