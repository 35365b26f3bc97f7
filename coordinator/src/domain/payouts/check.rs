//! Proof that money out adds up: in our books (P1), and between the books and the chain (I8).

use serde::Serialize;
use shared::money::Asset;

use super::{driver::Payouts, store};
use crate::{
    domain::ledger::{self, check::Finding, model::Account},
    error::{Error, Result},
    store::Tx,
};

/// P1.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<Finding> {
    let broken = store::check::mismatches(tx)?;
    Ok(Finding::new(
        "P1",
        "each payout's postings are those of its state, and what is on its way lies in payout_clearing",
        broken,
    ))
}

/// What the market should have on a chain, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reserve {
    /// In which currency.
    pub asset: Asset,
    /// What our addresses have there, atomic units, as deep as it counts.
    pub on_chain: i64,
    /// What came in and didn't leave by our books.
    pub booked: i64,
    /// Of that, what is on its way out: it may have left the chain already.
    pub in_flight: i64,
}

impl Reserve {
    /// Whether nothing is missing. What is there beyond the books (somebody's gift, a float, a payment that is about to be credited)
    /// breaks nothing.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.on_chain >= self.booked.saturating_sub(self.in_flight)
    }

    /// Whether the chain has exactly what the books say.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.holds() && self.on_chain <= self.booked
    }
}

/// So often a quiet moment is waited for: books that change while the chain is asked can't be compared with it.
const TRIES_MAX: u32 = 5;

impl Payouts {
    /// Compares the books with each chain that can be asked; `None` for one on which too much happens to compare.
    ///
    /// # Errors
    /// The database's; 503 if a chain doesn't answer.
    pub async fn reserves(&self) -> Result<Vec<Option<Reserve>>> {
        let mut reserves = Vec::new();
        for rail in self.rails.iter().filter(|rail| rail.chain.is_some()) {
            let mut found = None;
            for _ in 0..TRIES_MAX {
                let before = self.booked(rail.asset, rail.network.caip2).await?;
                let on_chain = self.on_chain(rail).await?;
                if before == self.booked(rail.asset, rail.network.caip2).await? {
                    let (booked, in_flight) = before;
                    found = Some(Reserve {
                        asset: rail.asset,
                        on_chain,
                        booked,
                        in_flight,
                    });
                    break;
                }
            }
            reserves.push(found);
        }
        Ok(reserves)
    }

    /// I8 as a finding; nothing without a chain.
    ///
    /// # Errors
    /// As [`Payouts::reserves`].
    pub async fn check_reserves(&self) -> Result<Finding> {
        let short = self.reserves().await?.into_iter().flatten();
        let broken = short.filter(|reserve| !reserve.holds()).map(|reserve| {
            format!(
                "{}: {} on the chain, {} by the books, {} of it on its way",
                reserve.asset.code(),
                reserve.on_chain,
                reserve.booked,
                reserve.in_flight
            )
        });
        Ok(Finding::new(
            "I8",
            "our addresses have on the chain what came in and didn't leave",
            broken.collect(),
        ))
    }

    async fn booked(&self, asset: Asset, network: &'static str) -> Result<(i64, i64)> {
        self.db
            .read("payout.booked", move |tx| {
                let outside = Account::External(network.to_owned());
                let outside = ledger::standing(tx, asset, &outside)?;
                let in_flight = ledger::standing(tx, asset, &Account::PayoutClearing)?;
                Ok((outside.saturating_neg(), in_flight))
            })
            .await
    }

    async fn on_chain(&self, rail: &super::driver::Rail) -> Result<i64> {
        let Some(chain) = &rail.chain else {
            return Ok(0);
        };
        let mut sum = 0_i64;
        for address in self.ours() {
            let has = chain.balance(rail.network, &rail.token, &address).await;
            sum = sum.saturating_add(has.map_err(|detail| {
                tracing::warn!(detail, "the chain doesn't say what the wallet has");
                Error::new(
                    crate::error::Kind::Unavailable { retry_after_s: 10 },
                    "busy",
                    "the chain can't be asked now: try again",
                )
            })?);
        }
        Ok(sum)
    }
}
