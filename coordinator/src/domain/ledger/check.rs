//! Proof that the books add up: I1 to I3 of the ledger itself. What belongs to rentals and payments is proven by their slices;
//! `ramarket-coordinator ledger check` runs all of them.

use serde::Serialize;

use super::store;
use crate::{error::Result, store::Tx};

/// What I1 says.
pub(super) const I1: &str = "all balances of an asset sum to zero";
/// What I2 says.
pub(super) const I2: &str = "no account but the outside world's is below zero";
/// What I3 says.
pub(super) const I3: &str = "each stored balance is the sum of its transfers";

/// What one invariant says about the books.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Finding {
    /// `I1` …
    pub invariant: &'static str,
    /// What must hold.
    pub statement: &'static str,
    /// What breaks it; empty when it holds.
    pub broken: Vec<String>,
}

impl Finding {
    /// A finding from what breaks the invariant.
    #[must_use]
    pub const fn new(
        invariant: &'static str,
        statement: &'static str,
        broken: Vec<String>,
    ) -> Self {
        Self {
            invariant,
            statement,
            broken,
        }
    }
}

/// How large the books are.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Size {
    /// Accounts.
    pub accounts: i64,
    /// Transfers.
    pub transfers: i64,
}

/// Checks the ledger's own invariants.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<(Size, Vec<Finding>)> {
    let (accounts, transfers) = store::totals(tx)?;
    let sums = store::unbalanced_assets(tx)?;
    let overdrawn = store::overdrawn(tx)?;
    let misfolded = store::misfolded(tx)?;
    let crossing = store::cross_asset(tx)?;
    let mut unbalanced: Vec<String> = sums
        .iter()
        .map(|(asset, sum)| format!("{asset}: sum {sum}"))
        .collect();
    unbalanced.extend(crossing.iter().map(|id| format!("{id} crosses assets")));
    let findings = vec![
        Finding::new("I1", I1, unbalanced),
        Finding::new(
            "I2",
            I2,
            overdrawn
                .iter()
                .map(|(key, balance)| format!("{key}: {balance}"))
                .collect(),
        ),
        Finding::new(
            "I3",
            I3,
            misfolded
                .iter()
                .map(|(key, balance, sum)| format!("{key}: stored {balance}, transfers {sum}"))
                .collect(),
        ),
    ];
    Ok((
        Size {
            accounts,
            transfers,
        },
        findings,
    ))
}
