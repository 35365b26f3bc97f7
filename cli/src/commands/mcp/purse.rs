//! What the calls of one run may spend.
//!
//! # Invariants
//! - Money leaves the purse before it is paid, and comes back only when it is certain that it wasn't.
//! - Neither limit is ever above the wallet's own.

use std::fmt;

use shared::money::Amount;

use crate::{
    args::account::Mcp,
    commands::Desk,
    failure::{Failure, Result},
};

/// The purse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purse {
    each: Amount,
    left: Amount,
}

impl Purse {
    /// As flags, configuration and wallet say; the least of each.
    pub(super) fn of(desk: &Desk, wanted: &Mcp) -> Result<Self> {
        let wallet = desk.spending.limit()?;
        let config = &desk.settings.config.mcp;
        let each = wanted.limit.or(config.limit);
        let in_all = wanted.limit_in_all.or(config.limit_in_all);
        Ok(Self {
            each: each.map_or(wallet.each, |each| each.min(wallet.each)),
            left: in_all.map_or(wallet.per_day, |in_all| in_all.min(wallet.per_day)),
        })
    }

    /// What the next call may spend, taken out.
    ///
    /// # Errors
    /// Nothing is left.
    pub(super) fn take(&mut self) -> Result<Amount> {
        let most = self.each.min(self.left);
        if most.is_zero() {
            return Err(Failure::payment(
                "nothing may be spent any more: the limit of this server is used up",
            ));
        }
        self.left = self.left.minus(most).unwrap_or(Amount::ZERO);
        Ok(most)
    }

    /// Puts back what wasn't spent of what was taken.
    pub(super) fn put_back(&mut self, taken: Amount, spent: Amount) {
        let rest = taken.minus(spent).unwrap_or(Amount::ZERO);
        self.left = self.left.plus(rest).unwrap_or(self.left);
    }
}

impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} a call, {} in all", self.each, self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().expect("an amount")
    }

    #[test]
    fn no_call_and_not_all_together_spend_more() {
        let mut purse = Purse {
            each: amount("2"),
            left: amount("3"),
        };
        let first = purse.take().expect("money");
        assert_eq!(first, amount("2"));
        // meanwhile another call may have the rest only
        assert_eq!(purse.take().expect("money"), amount("1"));
        assert!(purse.take().is_err());
        purse.put_back(first, amount("0.5"));
        assert_eq!(purse.take().expect("money"), amount("1.5"));
        purse.put_back(amount("1.5"), amount("1.5"));
        assert!(purse.take().is_err());
    }
}
