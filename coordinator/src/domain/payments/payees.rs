//! What the market is paid with: each accepted currency on each network, and to which address.
//!
//! # Invariants
//! - There is at least one; the first one's currency is what an offer is priced in unless it says otherwise.
//! - (network, token) is there once.

use std::sync::Arc;

use shared::{
    money::Asset,
    x402::{
        address::Address,
        network::{Network, Token},
    },
};

use crate::{
    domain::rates::Rates,
    error::{Error, Result},
};

/// One way to be paid by x402.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payee {
    /// Where.
    pub network: &'static Network,
    /// The token's contract there.
    pub token: Token,
    /// To whom.
    pub pay_to: Address,
    /// The currency in our books.
    pub asset: Asset,
}

/// Every way to be paid, in the order of preference.
#[derive(Debug, Clone)]
pub struct Payees {
    first: Payee,
    others: Vec<Payee>,
    rates: Arc<Rates>,
}

impl Payees {
    /// `first` and whatever else is accepted, one for another at these rates.
    #[must_use]
    pub const fn new(first: Payee, others: Vec<Payee>, rates: Arc<Rates>) -> Self {
        Self {
            first,
            others,
            rates,
        }
    }

    /// What one currency costs in another.
    #[must_use]
    pub fn rates(&self) -> &Rates {
        &self.rates
    }

    /// All of them, in order.
    pub fn all(&self) -> impl Iterator<Item = &Payee> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The preferred one.
    #[must_use]
    pub const fn first(&self) -> &Payee {
        &self.first
    }

    /// Where and with which token a currency is paid: the first such way.
    #[must_use]
    pub fn of(&self, asset: Asset) -> Option<&Payee> {
        self.all().find(|payee| payee.asset == asset)
    }

    /// The currency of prices that name none.
    #[must_use]
    pub const fn default_asset(&self) -> Asset {
        self.first.asset
    }

    /// The accepted currencies, each once, in order.
    #[must_use]
    pub fn assets(&self) -> Vec<Asset> {
        let mut assets = Vec::new();
        for payee in self.all() {
            if !assets.contains(&payee.asset) {
                assets.push(payee.asset);
            }
        }
        assets
    }

    /// Refuses a currency that this market doesn't take; `pointer` is the field that names it.
    ///
    /// # Errors
    /// 422.
    pub fn accept(&self, asset: Asset, pointer: &'static str) -> Result<Asset> {
        if self.of(asset).is_some() {
            return Ok(asset);
        }
        let codes: Vec<String> = self.assets().iter().map(Asset::to_string).collect();
        Err(Error::invalid(
            pointer,
            format!("{asset} isn't accepted here: take {}", codes.join(" or ")),
        ))
    }
}
