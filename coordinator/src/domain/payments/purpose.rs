//! What a quote sells, and where the money of a payment goes.
//!
//! # Invariants
//! - Exactly one thing is sold: what only a rental has is inside of the variants that are about one.

use shared::{
    id::{OfferId, RentalId, UserId},
    money::{Amount, Rate},
    resources::Resources,
};

use crate::error::Result;

/// A part of a machine for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The offer.
    pub offer_id: OfferId,
    /// How much of it.
    pub resources: Resources,
    /// For how long.
    pub duration_ms: i64,
    /// Its price per hour.
    pub rate: Rate,
    /// The platform's share, basis points.
    pub fee_bps: u32,
}

impl Slice {
    /// What it costs.
    ///
    /// # Errors
    /// It doesn't fit.
    pub fn price(&self) -> Result<Amount> {
        Ok(self.rate.price_for_ms(self.duration_ms)?)
    }
}

/// What is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new rental.
    Rent(Slice),
    /// More time for a running one.
    Extend(RentalId, Slice),
    /// Money on a person's balance.
    TopUp(UserId),
}

impl Purpose {
    /// The name in the database.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rent(_) => "rent",
            Self::Extend(..) => "extend",
            Self::TopUp(_) => "top_up",
        }
    }

    /// The slice, if it is about one.
    #[must_use]
    pub const fn slice(&self) -> Option<&Slice> {
        match self {
            Self::Rent(slice) | Self::Extend(_, slice) => Some(slice),
            Self::TopUp(_) => None,
        }
    }

    /// The rental that there is already.
    #[must_use]
    pub const fn rental(&self) -> Option<RentalId> {
        match self {
            Self::Extend(rental, _) => Some(*rental),
            Self::Rent(_) | Self::TopUp(_) => None,
        }
    }

    /// The path, below the public URL, of the request that buys it.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Rent(_) => "/api/v1/rentals".to_owned(),
            Self::Extend(rental, _) => format!("/api/v1/rentals/{rental}/extend"),
            Self::TopUp(_) => "/api/v1/balance/topups".to_owned(),
        }
    }

    /// What it is, in words.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Rent(slice) | Self::Extend(_, slice) => {
                let (minutes, mebibytes) =
                    (slice.duration_ms / 60_000, slice.resources.ram_bytes >> 20);
                format!("{mebibytes} MiB of RAM for {minutes} min")
            }
            Self::TopUp(_) => "money on a balance, to rent from".to_owned(),
        }
    }
}

/// Where the money of a payment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Into the escrow of a rental.
    Rental(RentalId),
    /// Onto a person's balance.
    Balance(UserId),
}

impl Target {
    /// The rental, if it is for one.
    #[must_use]
    pub const fn rental(&self) -> Option<RentalId> {
        match self {
            Self::Rental(rental) => Some(*rental),
            Self::Balance(_) => None,
        }
    }

    /// The person, if it is for a balance.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Rental(_) => None,
            Self::Balance(user) => Some(*user),
        }
    }
}
