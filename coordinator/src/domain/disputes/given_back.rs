//! What was given back of what rentals were charged: by decisions of disputes and as goodwill.
//!
//! # Invariants
//! - Of a rental never more is given back than it was charged: who gives back holds the rental's row, and adds up what was given before.
//! - Each row's transfers refer to it, and add up to it ([`super::check`]).

#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects)]

use shared::{id::RentalId, money::Amount, time::Timestamp};

use super::{model::Parts, store};
use crate::{
    context::OpCtx,
    domain::{
        ledger::model::Cause,
        rentals::{self, model::Rental},
    },
    error::{Error, Result},
    store::Tx,
};

/// Why something was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A dispute was decided so.
    Dispute,
    /// An administrator gave it out of the platform's fees.
    Goodwill,
}

impl Kind {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dispute => "dispute",
            Self::Goodwill => "goodwill",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Dispute, Self::Goodwill]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Something that was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenBack {
    /// What its transfers refer to.
    pub reference: String,
    /// Of which rental.
    pub rental: RentalId,
    /// Why.
    pub kind: Kind,
    /// Who bore it.
    pub parts: Parts,
    /// Why, in words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What was given back of a rental, oldest first.
///
/// # Errors
/// The database's.
pub fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Vec<GivenBack>> {
    store::given_back(tx, rental)
}

/// What was given back of a rental in all.
///
/// # Errors
/// The database's.
pub fn total(tx: &mut dyn Tx, rental: RentalId) -> Result<Parts> {
    store::given_back(tx, rental)?
        .iter()
        .try_fold(Parts::default(), |sum, given| sum.plus(&given.parts))
}

/// What may still be given back of a rental, whose row is held until the transaction ends.
///
/// # Errors
/// 503 if the rental was written meanwhile.
pub fn left(tx: &mut dyn Tx, rental: &Rental) -> Result<Amount> {
    rentals::save(tx, rental)?;
    let before = total(tx, rental.id)?.total()?;
    Ok(rental.charged.minus(before)?)
}

/// Notes an administrator's goodwill, which `cause` posts. The caller asked [`left`] in the same transaction.
///
/// # Errors
/// Internal if it was noted before.
pub fn note_goodwill(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: RentalId,
    amount: Amount,
    cause: &Cause,
    reason: &str,
) -> Result<()> {
    let parts = Parts {
        goodwill: amount,
        ..Parts::default()
    };
    let given = GivenBack {
        reference: cause.reference(),
        rental,
        kind: Kind::Goodwill,
        parts,
        reason: reason.to_owned(),
        at: ctx.now,
    };
    note(tx, &given)
}

pub(super) fn note(tx: &mut dyn Tx, given: &GivenBack) -> Result<()> {
    if given.parts.total()?.is_zero() || store::insert_given_back(tx, given)? {
        return Ok(());
    }
    Err(Error::internal(format!(
        "{} was given back before",
        given.reference
    )))
}
