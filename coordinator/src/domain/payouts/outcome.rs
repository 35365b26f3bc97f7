//! Whether a payout has moved: by the chain where one can be asked, else by the facilitator's word.
//!
//! # Invariants
//! - With a chain, money has left only when the chain shows it.
//! - Only our key signs under a payout's nonce, and always the same transfer: a nonce that is used is a payout that was made.

use super::{driver::Rail, model::Seen};
use crate::{
    crash::{self, Side},
    domain::payments::ports::{OnChain, SettleOutcome, SettleRequest},
};

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The money has moved, in a transaction if that is known.
    Paid(Option<String>),
    /// It hasn't by this attempt.
    Refused(String),
    /// It may have.
    Unclear(String),
}

impl Rail {
    /// What the chain shows of what was signed.
    pub(super) async fn look(&self, request: &SettleRequest) -> Seen {
        let Some(chain) = &self.chain else {
            return Seen::NoChain;
        };
        crash::point("payout.look", Side::Before).await;
        let seen = chain.look(request).await;
        crash::point("payout.look", Side::After).await;
        match seen {
            OnChain::Used {
                transaction,
                paid: true,
                ..
            } => Seen::Paid(transaction),
            OnChain::Used {
                transaction,
                paid: false,
                ..
            } => Seen::UsedOtherwise(transaction),
            OnChain::Unused { expired: true } => Seen::Dead,
            OnChain::Unused { expired: false } => Seen::Open,
            OnChain::Unknown { detail } => {
                tracing::warn!(payout.id = %request.reference, detail, "the chain gives no clear answer about a payout");
                Seen::Open
            }
        }
    }

    /// Asks the facilitator to send what was signed.
    pub(super) async fn send(&self, request: &SettleRequest) -> Attempt {
        crash::point("payout.send", Side::Before).await;
        let said = self.facilitator.settle(request).await;
        crash::point("payout.send", Side::After).await;
        if self.chain.is_some() {
            return match (self.look(request).await, said) {
                (Seen::Paid(transaction), _) => Attempt::Paid(Some(transaction)),
                (_, SettleOutcome::Settled { transaction, .. }) => Attempt::Unclear(format!(
                    "the facilitator says settled in {transaction}, the chain doesn't show it yet"
                )),
                (_, SettleOutcome::Refused { reason }) => Attempt::Refused(reason),
                (_, SettleOutcome::Unknown { detail }) => Attempt::Unclear(detail),
            };
        }
        match said {
            SettleOutcome::Settled { transaction, .. } => Attempt::Paid(Some(transaction)),
            SettleOutcome::Refused { reason: text } | SettleOutcome::Unknown { detail: text }
                if is_nonce_used(&text) =>
            {
                Attempt::Paid(None)
            }
            SettleOutcome::Refused { reason } => Attempt::Refused(reason),
            SettleOutcome::Unknown { detail } => Attempt::Unclear(detail),
        }
    }
}

/// Whether a facilitator says that the nonce was used.
fn is_nonce_used(text: &str) -> bool {
    text.ends_with("nonce_already_used")
}

#[cfg(test)]
mod tests {
    use super::is_nonce_used;

    #[test]
    fn only_a_used_nonce_is_one() {
        assert!(is_nonce_used("invalid_exact_evm_nonce_already_used"));
        assert!(is_nonce_used(
            "not settled yet: invalid_exact_evm_nonce_already_used"
        ));
        assert!(!is_nonce_used("insufficient_funds"));
        assert!(!is_nonce_used("not settled yet: unexpected_error"));
    }
}
